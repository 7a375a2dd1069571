"""Tiny rows for every dataset in conf/data, and every model in conf/model: what the contract tests share."""

from __future__ import annotations

import atexit
import itertools
import json
import shutil
import tempfile
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Literal, get_args, get_origin, get_type_hints

import numpy as np
import soundfile
import torch
import yaml
from hydra.utils import get_class
from omegaconf import DictConfig
from PIL import Image

from src.config import compose
from src.config.recipes import CONF
from src.data.audio.datasets import SpokenDigits
from src.data.core.module import DataModule
from src.data.images.classic import Torchvision
from src.data.series.dataset import Series
from src.data.text.classification import Labelled
from src.data.text.corpus import Corpus
from src.data.text.pairs import Lines
from src.data.text.squad import Squad
from src.experiment.build import build_model, build_node, fitting_models
from src.models.base import Model
from src.spec import DataSpec

MODELS = sorted(path.stem for path in (CONF / "model").glob("*.yaml"))
# pairs is nothing to train on
DATASETS = sorted(path.stem for path in (CONF / "data").glob("*.yaml") if path.stem != "pairs")
# differ from another dataset in their rows alone (of models: from lstm in the cell, from gan in the loss)
TWINS = {
    *("fashion_mnist", "svhn", "cifar100", "wine", "tiny_shakespeare", "text_file", "sst2", "text_csv", "xquad"),
    *("multi30k", "lines", "ett", "airline", "sp500", "audio_folder", "spoken_digits", "hf", "voc", "coco"),
    *("driving_log", "movielens", "ratings"),
}
# models without a graph, which are met as runs alone
UNGRAPHED = {"torchvision_detector": "torchvision's detectors count boxes in Python and draw some of them"}
# models and data that meet nothing else
ONLY = {
    "policy": "environment",
    "embedder": "glyphs",
    "recommender": "low_rank_ratings",
    "detector": "scenes",
}
# of models, from which others differ in the cell or in the loss
VARIANTS = {"rnn", "gru", "wgan"}
# a library's nets, which are large: one dataset for each of their forms, decoder, encoder, encoder-decoder
FORMS = {"pretrained": ("topics", "names", "dates")}
# Which models fit, by the kind of the data and what it offers first. A new dataset falls under one of these lines; a
# new model is not held to them.
VECTORS, SEQUENCES = ("autoencoder", "fnn", "vae"), ("bert", "gpt", "gru", "lstm", "pretrained", "rnn")
SOUNDS = ("cnn", "fnn", "gru", "lstm", "rnn", "torchvision", "vit")
PICTURES = ("autoencoder", *SOUNDS, "vae")
FITTING = {
    ("table", "binary"): VECTORS,
    ("table", "classification"): VECTORS,
    ("table", "regression"): VECTORS,
    ("image", "classification"): (*PICTURES, "gan", "wgan"),
    ("image", "classification", "alone"): SOUNDS,  # a spectrogram: nothing is made up or rebuilt
    ("image", "regression"): PICTURES,
    ("image", "verification"): ("autoencoder", "embedder", "gan", "vae", "wgan"),
    ("image", "detection", "alone"): ("detector", "torchvision_detector"),
    ("series", "forecasting", "alone"): ("dlinear", "gru", "lstm", "rnn", "vit"),
    ("series", "regression", "alone"): ("gru", "lstm", "rnn", "vit"),
    ("tokens", "binary"): SEQUENCES,
    ("tokens", "classification"): SEQUENCES,
    ("tokens", "causal_lm"): SEQUENCES,
    ("tokens", "question_answering"): ("bert", "pretrained"),
    ("pairs", "seq2seq", "alone"): ("pretrained", "t5"),
    ("interactions", "rating"): ("recommender",),
    ("environment", "control", "alone"): ("policy",),
}


def line_of(data: str) -> tuple[str, ...]:
    """The line of FITTING that a dataset falls under."""
    spec = dataset(data).spec
    return (spec.kind, spec.tasks[0], *(["alone"] if len(spec.tasks) == 1 else []))


def pairs(*kinds: str) -> list[tuple[str, str]]:
    """Each model with each dataset that it fits and that no other stands for; `kinds` are those asked for, or all."""
    return [
        (model, data)
        for data in DATASETS
        if data not in TWINS and (not kinds or dataset(data).spec.kind in kinds)
        for model in fitting_models(dataset(data).spec)
        if (model not in VARIANTS or data == "digits")
        and model not in UNGRAPHED
        and all((model == one) == (data == its) for one, its in ONLY.items())
        and (model not in FORMS or data in FORMS[model])
    ]


def generated(data: Torchvision) -> dict:
    """Rows of a download's own shape; that the download itself is read rightly is tested with the real files."""
    shape = (1, 28, 28) if "mnist" in data.name else (3, 32, 32)
    classes = 100 if data.name == "cifar100" else 10
    data.class_names = tuple(map(str, range(classes)))
    draw = torch.Generator().manual_seed(0)

    def part(rows: int) -> dict:
        target = torch.arange(rows) % classes
        inputs = torch.randint(0, 64, (rows, *shape), dtype=torch.uint8, generator=draw)
        inputs[:, :, 0, :2] = (target * 191 // classes).to(torch.uint8)[:, None, None]
        return {"input": inputs, "target": target}

    return {"train": part(10 * classes), "test": part(2 * classes)}


@cache
def options(name: str) -> list[str]:
    """The choice of a dataset, and what it needs beside its name."""
    needed = {
        "image_folder": picture_folder,
        "audio_folder": sound_folder,
        "text_file": text_file,
        "text_csv": text_table,
        "series": time_table,
        "squad": questions,
        "csv": mixed_table,
        "npz": arrays,
        "driving_log": drive,
        "ratings": rating_table,
        "hf": text_table,  # whose rows the tests below make up
        "voc": box_folder,
        "coco": box_folder,
    }
    if name == "environment":
        counts = {"steps": 256, "num_envs": 2, "val_episodes": 8, "test_episodes": 8}
        return [f"data={name}", *(f"data.{option}={count}" for option, count in counts.items())]
    if name == "scenes":
        return ["data=scenes", "data.scenes=60", "data.size=40", "data.most=3"]
    if name == "lines":
        return [f"data={name}", *(f"data.{side}_path={path}" for side, path in zip(SIDES, two_files(), strict=True))]
    if name == "glyphs":
        return [f"data={name}", "data.letters=10", "data.drawings=8", "data.held_out_classes=3", "data.val_classes=2"]
    target = ["data.target=bought"] if name == "csv" else []
    return [f"data={name}", *([f"data.path={needed[name]()}"] if name in needed else []), *target]


SIDES = ("source", "target")
LIGHT = {
    "torchvision": ("model.name=squeezenet1_1", "model.resize=32"),
    "gan": ("model.width=4",),
    "wgan": ("model.width=4",),
    "pretrained": ("model.config={hidden_size:32,num_attention_heads:2}",),
    "torchvision_detector": ("model.resize=32",),
}


@cache
def scratch() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="labbook-contracts-"))
    atexit.register(shutil.rmtree, folder)
    return folder


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


def time_table(time: str = "date", columns: tuple[str, ...] = ("load", "heat"), rows: int = 300) -> str:
    """Hourly waves of a day and a week."""
    path = scratch() / f"{time}-{'-'.join(columns)}-{rows}.csv"
    hours = np.arange(rows)
    times = np.datetime64("2020-01-01T00:00:00") + hours.astype("timedelta64[h]")
    waves = [5 + i + np.sin(hours * np.pi / 12 + i) + np.sin(hours * np.pi / 84) for i in range(len(columns))]
    lines = [f"{t},{','.join(f'{v:.4f}' for v in values)}" for t, *values in zip(times, *waves, strict=True)]
    path.write_text("\n".join([",".join([time, *columns]), *lines]))
    return str(path)


def mixed_table() -> str:
    """Numbers, categories and dates, some of them missing, and two classes."""
    path = scratch() / "mixed.csv"
    rows = [
        f"{'' if i % 7 == 6 else i % 11},{('red', 'green', 'blue', '?')[i % 4]},2024-01-{1 + i % 28:02d},{i % 2}"
        for i in range(90)
    ]
    path.write_text("\n".join(["size,colour,day,bought", *rows]))
    return str(path)


def arrays() -> str:
    path = scratch() / "arrays.npz"
    draw = np.random.default_rng(0)
    np.savez(path, x=draw.normal(size=(60, 4)), y=np.arange(60) % 3)
    return str(path)


def rating_table() -> str:
    """Twenty users who like every second item."""
    path = scratch() / "ratings.csv"
    rows = [f"{u},{(7 * u + 3 * i) % 15},{4 if (u + i) % 2 else 2},{i}" for u in range(20) for i in range(8)]
    path.write_text("\n".join(["userId,itemId,rating,timestamp", *rows]))
    return str(path)


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


def picture_folder() -> str:
    """Three classes of small grey pictures, which differ in brightness."""
    folder = scratch() / "pictures"
    draw = np.random.default_rng(0)
    for label, row in itertools.product(range(3), range(20)):
        (folder / f"class{label}").mkdir(parents=True, exist_ok=True)
        pixels = draw.integers(60 * label, 60 * label + 40, (12, 12), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"class{label}" / f"{row}.png")
    return str(folder)


def drive() -> str:
    """A log whose pictures have a white column where the steering points to; paths are those of another computer."""
    folder, rows = scratch() / "drive", []
    (folder / "IMG").mkdir(parents=True, exist_ok=True)
    for row in range(40):
        steering = (row * 7 % 40 - 20) / 20
        for camera in ("center", "left", "right"):
            pixels = np.zeros((16, 32, 3), np.uint8)
            pixels[:, round(16 + 15 * steering) % 32] = 255
            Image.fromarray(pixels).save(folder / "IMG" / f"{camera}_{row}.png")
        names = (f"C:\\Users\\driver\\IMG\\{camera}_{row}.png" for camera in ("center", "left", "right"))
        rows.append(",".join([*names, f"{steering}", "1", "0", "9.5"]))
    (folder / "driving_log.csv").write_text("\n".join(rows))
    return str(folder)


def box_folder() -> str:
    """Pictures of bright squares on black, annotated as Pascal VOC and as COCO have it."""
    folder = scratch() / "boxes"
    for name in ("JPEGImages", "Annotations"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    images, annotations = [], []
    for row in range(10):
        pixels = np.zeros((30, 40, 3), np.uint8)
        x, y, label = 2 + row, 3 + row, ("small", "large")[row % 2]
        side = 8 + 8 * (row % 2)
        pixels[y : y + side, x : x + side] = 255
        Image.fromarray(pixels).save(folder / "JPEGImages" / f"{row}.png")
        box = f"<xmin>{x}</xmin><ymin>{y}</ymin><xmax>{x + side}</xmax><ymax>{y + side}</ymax>"
        text = f"<annotation><object><name>{label}</name><bndbox>{box}</bndbox></object></annotation>"
        (folder / "Annotations" / f"{row}.xml").write_text(text)
        images.append({"id": row, "file_name": f"JPEGImages/{row}.png"})
        annotations.append({"id": row, "image_id": row, "category_id": row % 2, "bbox": [x, y, side, side]})
    categories = [{"id": 0, "name": "small"}, {"id": 1, "name": "large"}]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "annotations.json").write_text(json.dumps(content))
    return str(folder)


def sound_folder() -> str:
    """Two classes of short sines, low and high."""
    folder = scratch() / "sounds"
    for label, row in itertools.product(range(2), range(20)):
        (folder / f"class{label}").mkdir(parents=True, exist_ok=True)
        samples = np.sin(2 * np.pi * (400 + 1_600 * label + 10 * row) * np.arange(1_600) / 8_000)
        soundfile.write(folder / f"class{label}" / f"{row}.wav", samples.astype(np.float32), 8_000)
    return str(folder)


def recordings() -> dict[str, bytes]:
    """Ten recordings of each digit by one speaker, named as those of spoken_digits are."""
    files = sorted(Path(sound_folder()).rglob("*.wav"))
    return {f"{digit}_theo_{row}.wav": files[digit + row].read_bytes() for digit in range(10) for row in range(10)}


@cache
def dataset(name: str) -> DataModule:
    data = build_node(compose(options(name)).data)
    if isinstance(data, Torchvision):
        data.load = lambda: generated(data)
    elif isinstance(data, SpokenDigits):
        data._files = recordings
    elif isinstance(data, Corpus) and data.name == "tiny_shakespeare":
        data.prepare_data = lambda: setattr(data, "path", Path(text_file()))
    elif isinstance(data, Labelled) and data.name != "file":
        rows = [(sentence, str(i % 2)) for i, sentence in enumerate(sentences(60))]
        data._rows_of_parts = lambda: {"train": rows[:30], "val": rows[30:45], "test": rows[45:]}
    elif isinstance(data, Series) and data.name != "series":
        columns = ("close",) if name == "sp500" else ("a", "b")
        path = time_table(data.time, columns, 14_400 if name == "ett" else 300)
        data.prepare_data = lambda: setattr(data, "path", Path(path))
    elif name == "movielens":
        data.chosen, data.path = "file", Path(rating_table())
    elif isinstance(data, Squad) and data.name != "squad":
        data.prepare_data = lambda: setattr(data, "path", Path(questions()))
    elif isinstance(data, Lines) and name != "lines":
        data.paths = dict.fromkeys(("train", "val", "test"), two_files())
        data.prepare_data = lambda: None
    else:
        data.prepare_data()
    data.setup("fit")
    return data


def choice(model: str) -> list[str]:
    """The choice of a model; of those that have a net of any size, a small one."""
    return [f"model={model}", *LIGHT.get(model, ())]


@cache
def config_of(model: str, data: str) -> DictConfig:
    """Of a small model on a dataset; a tenth of a second each, so it is not to be changed."""
    return compose([*choice(model), *options(data)])


def build(model: str, data: str) -> Model:
    torch.manual_seed(0)
    return build_model(config_of(model, data), dataset(data).spec)


def batch_of(data: str, model: Model, rows: int) -> dict[str, torch.Tensor]:
    """The first training rows, as the model's task prepares them for evaluation."""
    batch = dataset(data).head("train", rows)
    return dict(model.task.prepare({name: tensor.clone() for name, tensor in batch.items()}))


class Outputs(torch.nn.Module):
    """A model as a function of a prepared batch, for torch.func."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        return self.model.outputs(batch)


# cases: each kind of data and each task that a model names, with a net of few units ----------------------------------

LABELS = {"classification": ("a", "b", "c"), "binary": ("no", "yes"), "regression": ()}
# where a kind's rows come from; its labels are made up, so that every kind has all three
ROWS = {"table": "csv", "image": "digits", "tokens": "text_csv", "series": "series"}
# where the rows of a task come from that has no labels
OTHERS = {
    "forecasting": ("series", "series"),
    "causal_lm": ("tokens", "text_file"),
    "masked_lm": ("tokens", "text_file"),
    "question_answering": ("tokens", "squad"),
    "seq2seq": ("pairs", "lines"),
    "generation": ("image", "digits"),
    "control": ("environment", "environment"),
    "verification": ("image", "glyphs"),
    "rating": ("interactions", "low_rank_ratings"),
    "ranking": ("interactions", "low_rank_ratings"),
    "detection": ("image", "scenes"),
}
# tasks whose model makes its own training step, and what is not promised then
OWN_STEP = {
    "generation": "two nets learn against each other: no one loss falls, and a sample is no answer to a row",
    "control": "a policy acts and learns from what comes of it, so that no loss of given rows falls",
}
# tasks of rows as they are, on the kinds of ROWS
UNLABELLED = ("reconstruction", "density")
# a model's usual data, where that is large or a download, and what stands for it
USUAL = {"topics": "text_file", "dates": "lines", "ett": "series"}
SIZES = {"width": 16, "hidden_size": 8, "num_layers": 2, "num_heads": 2, "channels": [4, 8]}


@dataclass(frozen=True)
class Case:
    """A model on one kind of data with one task, and one of its options changed where `choice` names it."""

    model: str
    kind: str
    task: str
    choice: tuple[str, object] | None = None

    def __str__(self) -> str:
        choice = () if self.choice is None else ("=".join(map(str, self.choice)),)
        return "-".join((self.model, self.kind, self.task, *choice))

    @property
    def data(self) -> str:
        return ROWS[self.kind] if self.task in (*LABELS, *UNLABELLED) else OTHERS[self.task][1]

    @property
    def spec(self) -> DataSpec:
        spec = replace(dataset(self.data).spec, tasks=(self.task,))
        if self.task not in LABELS:
            return spec
        names = LABELS[self.task]
        return replace(spec, class_names=names, class_counts=(8,) * len(names), horizon=0)

    def build(self) -> Model:
        config = small(self.model).copy()
        config.model.update(dict([self.choice] if self.choice else []))
        torch.manual_seed(0)
        return build_model(config, self.spec)

    def batch(self, rows: int) -> dict[str, torch.Tensor]:
        """The first training rows as the data gives them, with labels of each class."""
        batch = dataset(self.data).head("train", rows)
        if self.task in LABELS:
            number = torch.arange(rows)
            batch["target"] = number % len(LABELS[self.task]) if LABELS[self.task] else (number % 5).float()
        return batch


def sizes(model: str) -> list[str]:
    """Overrides that make a model small, of options that it has."""
    given = compose([f"model={model}"]).model
    return [*LIGHT.get(model, ()), *(f"model.{name}={size}" for name, size in SIZES.items() if name in given)]


@cache
def small(model: str) -> DictConfig:
    return compose([f"model={model}", *sizes(model)])


def first_label(model: str) -> str:
    return next(task for task in family(model).tasks if task in LABELS)


@cache
def family(model: str) -> type[Model]:
    return get_class(yaml.safe_load((CONF / "model" / f"{model}.yaml").read_text())["_target_"])


def usual_data(model: str) -> str:
    """What `model=NAME` alone would train on, or the tiny dataset that stands for it."""
    defaults = yaml.safe_load((CONF / "model" / f"{model}.yaml").read_text()).get("defaults", [])
    name = next((d["override /data@_global_.data"] for d in defaults), "digits")
    return USUAL.get(name, name)


def choices(model: str) -> list[tuple[str, object]]:
    """(option, value) of each value that a model's signature lists, but for those of its YAML."""
    given, found = compose([f"model={model}"]).model, []
    for option, hint in get_type_hints(family(model).__init__).items():
        values = get_args(hint) if get_origin(hint) is Literal else (True, False) if hint is bool else ()
        found += [(option, value) for value in values if value != given[option]]
    return found


CASES = [
    Case(model, kind, task)
    for model in MODELS
    if model not in UNGRAPHED
    for kind in family(model).kinds
    for task in family(model).tasks
    if (kind in ROWS if task in (*LABELS, *UNLABELLED) else OTHERS.get(task, ("",))[0] == kind)
]
# those whose nets differ in more than the width of the head
NETS = [case for case in CASES if case.task not in LABELS or case.task == first_label(case.model)]
# one model of each class
FAMILIES = sorted({family(name): name for name in reversed(MODELS)}.values())
# values that a model refuses for a kind of data, a task or another option's value, and why
REFUSED = {
    ("convolutional", True, "table"): "for images, with a number of channels a layer",
    ("bidirectional", True, "causal_lm"): "foretells what a backward layer has read",
    ("stem", "small", "image"): "SqueezeNet has no such stem",
    ("binarize", True, "table"): "makes pixels 0 or 1",
    ("binarize", True, "image"): "makes pixels 0 or 1",
}
ALL_CHANGED = [
    replace(case, choice=choice)
    for model in FAMILIES
    for case in NETS
    if case.model == model and (model != "pretrained" or case.task == "classification")
    for choice in choices(model)
]


def refusal(case: Case) -> str | None:
    """Why a case has no model, or None where it has one."""
    return case.choice and (REFUSED.get((*case.choice, case.kind)) or REFUSED.get((*case.choice, case.task)))


# with each other value of its options
CHANGED = [case for case in ALL_CHANGED if refusal(case) is None]
