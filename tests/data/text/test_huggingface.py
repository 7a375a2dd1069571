"""data=hf: what datasets saved or reads, its splits and classes, and what is refused."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from src.data.text.huggingface import HubTexts
from src.errors import UserError
from src.spec.tokenizer import Tokenizer

datasets = pytest.importorskip("datasets", reason="extra hf")

TEXTS = [f"{word} film {i}" for i in range(20) for word in ("lovely", "dull")]
LABELS = [1, 0] * 20


def table(rows: int = 40, **columns):
    features = datasets.Features(
        {"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["bad", "good"])}
    )
    content = {"text": TEXTS[:rows], "label": LABELS[:rows]} | columns
    return datasets.Dataset.from_dict(content, features=features)


def ready(path: Path, **options) -> HubTexts:
    data = HubTexts(path=str(path), level="word", **options)
    data.setup()
    return data


def refusal(path: Path | str, **options) -> str:
    with pytest.raises(UserError) as caught:
        ready(path, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def texts(data: HubTexts, part: str) -> list[str]:
    tokenizer = Tokenizer(data.spec.input.tokenizer)
    return [tokenizer.decode(ids) for ids in data.head(part, 100)["input"].tolist()]


def test_what_was_saved_comes_back_with_its_splits_and_class_names(tmp_path) -> None:
    parts = {"train": table(), "validation": table(10), "test": table(6)}
    datasets.DatasetDict(parts).save_to_disk(tmp_path)
    data = ready(tmp_path)
    assert data.spec.splits == {"train": 40, "val": 10, "test": 6} and data.spec.class_names == ("bad", "good")
    assert data.spec.tasks[0] == "classification" and texts(data, "test") == TEXTS[:6]
    assert data.head("test", 6)["target"].tolist() == LABELS[:6]
    assert data.describe()["source"] == str(tmp_path)


def test_one_table_is_split_and_a_test_without_labels_is_left_out(tmp_path) -> None:
    table().save_to_disk(tmp_path / "one")
    assert ready(tmp_path / "one").spec.splits == {"train": 32, "val": 4, "test": 4}
    parts = {"train": table(), "validation": table(8), "test": table(4, label=[-1] * 4)}
    datasets.DatasetDict(parts).save_to_disk(tmp_path / "glue")
    data = ready(tmp_path / "glue")
    assert data.spec.splits == {"train": 36, "val": 8, "test": 4}
    assert data.describe()["unlabelled_splits"] == ["test"]


@pytest.mark.parametrize("kind", ["parquet", "jsonl", "csv"])
def test_files_are_read_by_their_splits(kind, tmp_path) -> None:
    names = {"train": table(), "validation": table(10), "test": table(6)}
    for name, content in names.items():
        content = content.cast_column("label", datasets.Value("int64"))
        path = tmp_path / f"{name}-00000-of-00001.{kind}"
        {"parquet": content.to_parquet, "csv": content.to_csv, "jsonl": content.to_json}[kind](path)
    data = ready(tmp_path)
    assert data.spec.splits == {"train": 40, "val": 10, "test": 6} and data.spec.class_names == ("0", "1")
    assert data.spec.tasks[0] == "binary" and texts(data, "val") == TEXTS[:10]
    assert ready(tmp_path).spec.sha256 == data.spec.sha256


def test_another_dataset_of_this_form_is_the_test_part(tmp_path) -> None:
    table().save_to_disk(tmp_path / "first")
    table(6).save_to_disk(tmp_path / "second")
    spec = ready(tmp_path / "first").spec
    other = HubTexts(path=str(tmp_path / "second"), level="word")
    other.reuse(spec)
    assert other.head("test", 9)["target"].tolist() == LABELS[:6]


def test_what_is_no_dataset_is_refused_in_one_line(tmp_path, no_network) -> None:
    nowhere = tmp_path / "nowhere" / "at" / "all"
    assert refusal(nowhere) == f"data.path={nowhere}: there is no such folder"
    assert "no such folder, and https://" in refusal("nobody/nothing")
    assert refusal("nobody/nothing").endswith("put its files into a folder and give data.path=FOLDER")
    (tmp_path / "empty").mkdir()
    assert "is no dataset: neither saved by save_to_disk nor files in parquet" in refusal(tmp_path / "empty")
    (tmp_path / "a.csv").write_text("text,label\na,b\n")
    assert "is a file; data=hf takes a folder" in refusal(tmp_path / "a.csv")
    table().save_to_disk(tmp_path / "saved")
    assert "split train has no column review (known: label, text)" in refusal(tmp_path / "saved", text="review")
    assert "split train has no column labels (did you mean label?)" in refusal(tmp_path / "saved", label="labels")
    next((tmp_path / "saved").glob("*.arrow")).write_bytes(b"none")
    assert "cannot be read (" in refusal(tmp_path / "saved")


def test_rows_that_cannot_be_used_are_named(tmp_path) -> None:
    table(4, text=["a", "b", " ", "c"]).save_to_disk(tmp_path / "empty")
    assert refusal(tmp_path / "empty").endswith("split train, row 2: column text has no text")
    table(4, label=[0, -1, 1, 0]).save_to_disk(tmp_path / "label")
    assert refusal(tmp_path / "label").endswith("split train, row 1: column label has no class (-1)")
    table(4, label=[-1] * 4).save_to_disk(tmp_path / "none")
    assert "has no labelled split train (found: train)" in refusal(tmp_path / "none")
    lines = [json.dumps({"text": text, "label": 0}) for text in TEXTS]
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "train.jsonl").write_text("\n".join(lines))
    assert "one class only (0)" in refusal(tmp_path / "one")
    (tmp_path / "one" / "train.jsonl").write_text("{no json")
    assert "cannot be read (" in refusal(tmp_path / "one")


def test_without_the_extra_one_line_says_what_to_install(tmp_path, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    assert refusal(tmp_path) == "data=hf needs datasets: pip install 'labbook[hf]'"
