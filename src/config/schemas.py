"""The keys of each command, with their types: a file of conf/ has all of them, and nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal

Node = Mapping[str, Any]


@dataclass
class Root:
    """The keys of a training configuration; a `Node` is built from its `_target_`."""

    seed: int
    train_fraction: float
    study: dict[str, Any] | None
    name: str | None
    tags: dict[str, Any]
    resume: str | None
    init_from: str | None
    test: bool
    show_predictions: int
    log_texts: int
    log_images: int
    explain: bool
    threads: int | None
    compile: bool | str
    channels_last: bool
    n_jobs: int | None
    jobs_per_gpu: int
    on_error: Literal["continue", "stop", "retry"]
    repeats: int
    folds: int | None
    force: bool
    traceback: bool
    data: Node
    model: Node
    task: Node
    optimizer: Node
    scheduler: Node
    trainer: Node
    tracking: Node
    callbacks: dict[str, Any]
    checkpoint: Node
    early_stopping: Node
    weight_averaging: Node


@dataclass
class Use:
    """The keys of all commands that use a trained run; `data` says how its kind of data is read."""

    run: str
    data: dict[str, Any]
    device: Literal["auto", "cpu", "cuda", "mps"]
    threads: int | None
    tracking: dict[str, str | None]
    traceback: bool


@dataclass
class Predict(Use):
    """The keys of a prediction."""

    batch_size: int
    text: str | None
    context: str | None
    output: str | None
    force: bool
    tokens: int
    temperature: float
    top_k: int | None
    top_p: float
    beam_size: int | None
    top_n: int
    seed: int
    num_samples: int | None
    class_: str | int | None  # the key is `class`, which Python keeps for itself: config["class"]
    explain: bool
    explain_rows: int
    score_threshold: float


@dataclass
class Evaluate(Use):
    """The keys of an evaluation."""

    split: Literal["train", "val", "test"]
    resamples: int
    level: float
    seed: int
    explain: bool


@dataclass
class Inspect:
    """The keys of a look at data; without any, all data is listed."""

    data: dict[str, Any] | None
    task: Node
    output: str | None
    force: bool
    rows: int | None
    seed: int
    threads: int | None
    traceback: bool


@dataclass
class Sweep:
    """The keys of a look at a sweep."""

    action: Literal["status", "resume", "cancel"]
    sweep: str
    n_jobs: int | None
    jobs_per_gpu: int | None
    on_error: Literal["continue", "stop", "retry"] | None
    tracking: dict[str, str | None]
    traceback: bool


@dataclass
class Compare:
    """The keys of a comparison."""

    runs: str | None
    sweep: str | None
    filter: str | None
    by: str | None
    metric: str | None
    pareto: str | None
    level: float
    resamples: int
    seed: int
    format: Literal["table", "csv", "json", "markdown", "html"] | None
    output: str | None
    force: bool
    rows: int
    tracking: dict[str, str | None]
    traceback: bool


@dataclass
class Rerun:
    """The keys of a run run again."""

    run: str
    here: bool
    verify: bool
    tracking: dict[str, str | None]
    traceback: bool


@dataclass
class Runs:
    """The keys of the bookkeeping of runs."""

    action: Literal["list", "show", "tag", "delete", "gc", "relocate"]
    run: str | None
    sweep: str | None
    filter: str | None
    tags: dict[str, Any]
    rows: int
    force: bool
    path: str | None
    tracking: dict[str, str | None]
    traceback: bool


@dataclass
class Export:
    """The keys of a model written in another form."""

    run: str
    format: Literal["pt2", "onnx", "safetensors", "mlflow"]
    output: str | None
    force: bool
    register: str | None
    alias: str | None
    tracking: dict[str, str | None]
    traceback: bool


@dataclass
class Report:
    """The keys of a page about a run or a sweep."""

    run: str | None
    sweep: str | None
    output: str
    force: bool
    evaluate: bool
    tracking: dict[str, str | None]
    traceback: bool


ROOTS = {
    "report": Report,
    "export": Export,
    "runs": Runs,
    "rerun": Rerun,
    "compare": Compare,
    "train": Root,
    "predict": Predict,
    "evaluate": Evaluate,
    "inspect": Inspect,
    "sweep": Sweep,
}
RANGES = {
    "seed": (-(2**63), 2**63 - 1),
    "train_fraction": (0, 1),
    "show_predictions": (0, None),
    "log_texts": (0, None),
    "log_images": (0, None),
    "threads": (1, None),
    "n_jobs": (1, None),
    "jobs_per_gpu": (1, None),
    "repeats": (1, None),
    "folds": (2, None),
    "batch_size": (1, None),
    "tokens": (1, None),
    "num_samples": (1, None),
    "beam_size": (1, None),
    "top_n": (1, None),
    "explain_rows": (1, None),
    "score_threshold": (0, 1),
    "resamples": (0, None),
    "rows": (1, None),
}
# what a run gives its trainer itself, and how to have it instead
GIVEN = {
    "trainer.callbacks": "callbacks are a group of their own: callbacks=NAME for conf/callbacks/NAME.yaml, or"
    " +callbacks.NAME._target_=...",
    "trainer.plugins": "a run brings its own",
}


def keys(command: str) -> dict[str, str]:
    """The root keys of a command with their types as text."""
    return {field.name.removesuffix("_"): str(field.type) for field in fields(ROOTS[command])}


def callbacks(group: Mapping[str, Any]) -> dict[str, Any]:
    """The nodes of the group `callbacks` by their path: entries `NAME: {_target_: ...}`, or one node."""
    if "_target_" in group:
        return {"callbacks": group}
    return {f"callbacks.{name}": node for name, node in group.items() if node is not None}
