"""Tiny texts: plain, with labels, in pairs, with questions."""

from __future__ import annotations

import json
from pathlib import Path

from src.data.core.module import DataModule
from tests.scratch import Tiny, at, scratch

SIDES = ("source", "target")


def sentences(count: int) -> list[str]:
    """Of many lengths, each with words that tell its class, which is its number modulo 3."""
    words = (("red", "rose", "ruby"), ("green", "leaf", "grass"), ("blue", "sea", "sky"))
    return [" ".join(words[i % 3][(i + j) % 3] for j in range(1 + i % 5)) for i in range(count)]


def text_file() -> str:
    path = scratch() / "text.txt"
    path.write_text("\n".join(sentences(300)))
    return str(path)


def text_table() -> str:
    path = scratch() / "table.csv"
    rows = [f"{sentence},class{i % 3}" for i, sentence in enumerate(sentences(90))]
    path.write_text("\n".join(["text,label", *rows]))
    return str(path)


def two_files() -> tuple[Path, Path]:
    """Sentences, and the same backwards."""
    paths = scratch() / "forwards.txt", scratch() / "backwards.txt"
    paths[0].write_text("\n".join(sentences(90)))
    paths[1].write_text("\n".join(" ".join(reversed(sentence.split())) for sentence in sentences(90)))
    return paths


def questions() -> str:
    """Six articles; each question asks for one word of its context."""
    path = scratch() / "questions.json"
    articles = []
    for i in range(6):
        words = [f"{sentence.split()[0]}{i}{j}" for j, sentence in enumerate(sentences(6))]
        context = " ".join(words)
        asked = [
            {"id": f"{i}-{j}", "question": f"where {w}", "answers": [{"text": w, "answer_start": context.index(w)}]}
            for j, w in enumerate(words)
        ]
        articles.append({"title": str(i), "paragraphs": [{"context": context, "qas": asked}]})
    path.write_text(json.dumps({"version": "1.1", "data": articles}))
    return str(path)


def lines() -> list[str]:
    return [f"data.{side}_path={path}" for side, path in zip(SIDES, two_files(), strict=True)]


def shakespeare(data: DataModule) -> None:
    data.prepare_data = lambda: setattr(data, "path", Path(text_file()))


def labelled(data: DataModule) -> None:
    rows = [(sentence, str(i % 2)) for i, sentence in enumerate(sentences(60))]
    data._rows_of_parts = lambda: {"train": rows[:30], "val": rows[30:45], "test": rows[45:]}


def paired(data: DataModule) -> None:
    data.paths = dict.fromkeys(("train", "val", "test"), two_files())
    data.prepare_data = lambda: None


def asked(data: DataModule) -> None:
    data.prepare_data = lambda: setattr(data, "path", Path(questions()))


DATASETS = {
    "text_file": at(text_file),
    "text_csv": at(text_table),
    "squad": at(questions),
    "lines": Tiny(lines),
    "tiny_shakespeare": Tiny(fill=shakespeare),
    "names": Tiny(fill=labelled),
    "sst2": Tiny(fill=labelled),
    "hf": Tiny(lambda: [f"data.path={text_table()}"], labelled),
    "multi30k": Tiny(fill=paired),
    "xquad": Tiny(fill=asked),
}
