"""Tiny rows for every dataset in conf/data, and every model in conf/model: what the contract tests share."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Literal, get_args, get_origin, get_type_hints

import torch
import yaml
from hydra.utils import get_class
from omegaconf import DictConfig

from src.config import compose, recipes
from src.config.recipes import CONF
from src.data.core.module import DataModule
from src.experiment.build import build_model, build_node
from src.models.base import Model
from src.spec import Classes, DataSpec, Number
from tests.data.audio import tiny as audio
from tests.data.boxes import tiny as boxes
from tests.data.environments import tiny as environments
from tests.data.images import tiny as images
from tests.data.ratings import tiny as ratings
from tests.data.series import tiny as series
from tests.data.tables import tiny as tables
from tests.data.text import tiny as text
from tests.scratch import Tiny

ROOT = Path(__file__).resolve().parent.parent
MODELS = sorted(path.stem for path in (CONF / "model").glob("*.yaml"))
# pairs is nothing to train on
DATASETS = [name for name in recipes.names("data") if name != "pairs"]
# differ from another dataset in their rows alone (of models: from lstm in the cell, from gan in the loss)
TWINS = {
    *("fashion_mnist", "svhn", "cifar100", "wine", "tiny_shakespeare", "text_file", "sst2", "text_csv", "xquad"),
    *("multi30k", "lines", "ett", "airline", "sp500", "audio_folder", "spoken_digits", "hf", "voc", "coco"),
    *("driving_log", "movielens", "ratings"),
}


@cache
def family(model: str) -> type[Model]:
    return get_class(yaml.safe_load((CONF / "model" / f"{model}.yaml").read_text())["_target_"])


# models without a graph, which are met as runs alone
UNGRAPHED = [model for model in MODELS if not family(model).static_graph]
# models and data that meet nothing else
ONLY = {
    "policy": "environment",
    "ppo": "environment",
    "dqn": "environment",
    "embedder": "glyphs",
    "recommender": "low_rank_ratings",
    "detector": "scenes",
}
# of models, from which others differ in the cell or in the loss
VARIANTS = {"rnn", "gru", "wgan"}
# a library's nets, which are large: one dataset for each of their forms, decoder, encoder, encoder-decoder
FORMS = {"pretrained": ("topics", "names", "dates"), "onnx": ("digits",)}
# models whose inputs and outputs a file decides: no others are met than those of FORMS
FIXED = ("onnx",)
# Which models fit, by the modality of the data and what it offers first. A new dataset falls under one of these lines,
# and a new model is not held to them.
VECTORS, SEQUENCES = ("autoencoder", "fnn", "vae"), ("bert", "gpt", "gru", "lstm", "pretrained", "rnn")
SOUNDS = ("cnn", "fnn", "gru", "lstm", "rnn", "timm", "torchvision", "vit")
PICTURES = ("autoencoder", *SOUNDS, "vae")
FITTING = {
    ("table", "binary"): VECTORS,
    ("table", "classification"): VECTORS,
    ("table", "regression"): VECTORS,
    ("image", "classification"): (*PICTURES, "gan", "wgan"),
    ("audio", "classification", "alone"): SOUNDS,  # spectrograms: nothing is made up or rebuilt
    ("image", "regression"): PICTURES,
    ("image", "verification"): ("autoencoder", "embedder", "gan", "vae", "wgan"),
    ("image", "detection", "alone"): ("detector", "torchvision_detector"),
    ("series", "forecasting", "alone"): ("dlinear", "gru", "lstm", "rnn", "vit"),
    ("series", "regression", "alone"): ("gru", "lstm", "rnn", "vit"),
    ("text", "binary"): SEQUENCES,
    ("text", "classification"): SEQUENCES,
    ("text", "causal_lm"): SEQUENCES,
    ("text", "question_answering"): ("bert", "pretrained"),
    ("text_pairs", "seq2seq", "alone"): ("pretrained", "t5"),
    ("interactions", "rating"): ("recommender",),
    ("environment", "control", "alone"): ("dqn", "policy", "ppo"),
}


def line_of(data: str) -> tuple[str, ...]:
    """The line of FITTING that a dataset falls under."""
    spec = dataset(data).spec
    return (spec.modality, spec.tasks[0], *(["alone"] if len(spec.tasks) == 1 else []))


def pairs(*modalities: str) -> list[tuple[str, str]]:
    """Each model with each dataset that it fits and no other stands for; of these modalities, where some are given."""
    return [
        (model, data)
        for data in DATASETS
        if data not in TWINS and (not modalities or dataset(data).spec.modality in modalities)
        for model in MODELS
        if family(model).incompatibility(dataset(data).spec) is None
        and (model not in VARIANTS or data == "digits")
        and model not in UNGRAPHED
        and (model in ONLY or data in ONLY.values()) == (ONLY.get(model) == data)
        and (model not in FORMS or data in FORMS[model])
    ]


# by name; one that is not listed makes its own rows, or comes with scikit-learn
TINY: dict[str, Tiny] = {
    name: tiny
    for modality in (tables, images, boxes, audio, text, series, ratings, environments)
    for name, tiny in modality.DATASETS.items()
}
LIGHT = {
    "torchvision": ("model.name=squeezenet1_1", "model.resize=32"),
    # its residual branches begin at zero otherwise, so that some weights learn from the second step on alone
    "onnx": (f"model.path={ROOT / 'tests/fixtures/onnx/keras_digits.onnx'}",),
    "timm": ("model.name=test_convnext2", "model.resize=32"),
    "gan": ("model.width=4",),
    "wgan": ("model.width=4",),
    "pretrained": ("model.config={hidden_size:32,num_attention_heads:2}",),
    "torchvision_detector": ("model.resize=32",),
    # few steps of training are enough for updates, and for the target net to follow
    "dqn": ("model.learning_starts=64", "model.gradient_steps=8", "model.target_update_interval=4"),
}


@cache
def options(name: str) -> list[str]:
    """The choice of a dataset, and what it needs beside its name."""
    return [f"data={name}", *TINY.get(name, Tiny()).options()]


@cache
def dataset(name: str) -> DataModule:
    data = build_node(compose(options(name)).data)
    TINY.get(name, Tiny()).fill(data)
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
# where a modality's rows come from; its labels are made up, so that every modality has all three
ROWS = {"table": "csv", "image": "digits", "text": "text_csv", "series": "series"}
# where the rows of a task come from that has no labels
OTHERS = {
    "forecasting": ("series", "series"),
    "causal_lm": ("text", "text_file"),
    "masked_lm": ("text", "text_file"),
    "question_answering": ("text", "squad"),
    "seq2seq": ("text_pairs", "lines"),
    "generation": ("image", "digits"),
    "control": ("environment", "environment"),
    "verification": ("image", "glyphs"),
    "rating": ("interactions", "low_rank_ratings"),
    "ranking": ("interactions", "low_rank_ratings"),
    "detection": ("image", "scenes"),
}
# tasks of rows as they are, on the modalities of ROWS
UNLABELLED = ("reconstruction", "density")
# a model's usual data, where that is large or a download, and what stands for it
USUAL = {"topics": "text_file", "dates": "lines", "ett": "series"}
SIZES = {"width": 16, "hidden_size": 8, "num_layers": 2, "num_heads": 2, "channels": [4, 8]}


@dataclass(frozen=True)
class Case:
    """A model on one modality of data with one task, and one of its options changed where `choice` names it."""

    model: str
    modality: str
    task: str
    choice: tuple[str, object] | None = None

    def __str__(self) -> str:
        choice = () if self.choice is None else ("=".join(map(str, self.choice)),)
        return "-".join((self.model, self.modality, self.task, *choice))

    @property
    def data(self) -> str:
        return ROWS[self.modality] if self.task in (*LABELS, *UNLABELLED) else OTHERS[self.task][1]

    @property
    def spec(self) -> DataSpec:
        spec = replace(dataset(self.data).spec, tasks=(self.task,))
        if self.task not in LABELS:
            return spec
        names = LABELS[self.task]
        return replace(spec, target=Classes(names, (8,) * len(names)) if names else Number())

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
    given = recipes.load("model", model)
    return [*LIGHT.get(model, ()), *(f"model.{name}={size}" for name, size in SIZES.items() if name in given)]


@cache
def small(model: str) -> DictConfig:
    return compose([f"model={model}", *sizes(model)])


def first_label(model: str) -> str:
    return next(task for task in family(model).tasks if task in LABELS)


def usual_data(model: str) -> str:
    """What `model=NAME` alone would train on, or the tiny dataset that stands for it."""
    defaults = yaml.safe_load((CONF / "model" / f"{model}.yaml").read_text()).get("defaults", [])
    name = next((d["override /data@_global_.data"] for d in defaults), "digits")
    return USUAL.get(name, name)


FETCHED = ("pretrained",)  # options that the network would have to answer


def choices(model: str) -> list[tuple[str, object]]:
    """(option, value) of each value that a model's signature lists, but for those of its YAML."""
    given, found = recipes.load("model", model), []
    chosen = family(model)
    for option, hint in get_type_hints(chosen.__new__ if "__new__" in vars(chosen) else chosen.__init__).items():
        values = get_args(hint) if get_origin(hint) is Literal else (True, False) if hint is bool else ()
        found += [(option, value) for value in values if value != given[option] and option not in FETCHED]
    return found


CASES = [
    Case(model, modality, task)
    for model in MODELS
    if model not in (*UNGRAPHED, *FIXED)
    for modality in (form.modality for form in family(model).inputs)
    for task in family(model).tasks
    if (modality in ROWS if task in (*LABELS, *UNLABELLED) else OTHERS.get(task, ("",))[0] == modality)
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
    return case.choice and (REFUSED.get((*case.choice, case.modality)) or REFUSED.get((*case.choice, case.task)))


# with each other value of its options
CHANGED = [case for case in ALL_CHANGED if refusal(case) is None]
