"""The keys of each command, with their types: a file of conf/ has all of them, and nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
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
    predict: int
    texts: int
    pictures: int
    explain: bool
    threads: int | None
    compile: bool | str
    channels_last: bool
    n_jobs: int | None
    jobs_per_gpu: int
    on_error: Literal["continue", "stop", "retry"]
    repeats: int
    folds: int | None
    again: bool
    traceback: bool
    data: Node
    model: Node
    task: Node
    optimizer: Node
    scheduler: Node
    trainer: Node
    tracking: Node
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
    top: int
    seed: int
    draw: int | None
    label: str | int | None
    explain: bool
    explain_rows: int
    least_score: float


@dataclass
class Evaluate(Use):
    """The keys of an evaluation."""

    part: Literal["train", "val", "test"]
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
    place: str | None
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
    "predict": (0, None),
    "texts": (0, None),
    "pictures": (0, None),
    "threads": (1, None),
    "n_jobs": (1, None),
    "jobs_per_gpu": (1, None),
    "repeats": (1, None),
    "folds": (2, None),
    "batch_size": (1, None),
    "tokens": (1, None),
    "draw": (1, None),
    "beam_size": (1, None),
    "top": (1, None),
    "explain_rows": (1, None),
    "least_score": (0, 1),
    "resamples": (0, None),
    "rows": (1, None),
}
