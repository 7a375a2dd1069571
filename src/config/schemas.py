"""The keys of each command, with their types: a file of conf/ has all of them, and nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt, Interval, Le

from src.runtime.ranges import NonNegativeInt, PositiveInt, UnitFloat

# what a 64-bit generator takes
Seed = Annotated[int, Interval(ge=-9_223_372_036_854_775_808, le=9_223_372_036_854_775_807)]
Node = Mapping[str, Any]


@dataclass
class Root:
    """The keys of a training configuration; a `Node` is built from its `_target_`."""

    seed: Seed
    train_fraction: Annotated[float, Gt(0), Le(1)]
    study: dict[str, Any] | None
    name: str | None
    tags: dict[str, Any]
    resume: str | None
    init_from: str | None
    test: bool
    show_predictions: NonNegativeInt
    log_texts: NonNegativeInt
    log_images: NonNegativeInt
    explain: bool
    threads: PositiveInt | None
    compile: bool | str
    channels_last: bool
    n_jobs: PositiveInt | None
    jobs_per_gpu: PositiveInt
    on_error: Literal["continue", "stop", "retry"]
    repeats: PositiveInt
    folds: Annotated[int, Ge(2)] | None
    force: bool
    trust: str | list[str] | None
    traceback: bool
    data: Node
    model: Node
    task: Node
    optimizer: Node
    scheduler: Node
    trainer: Node
    tracking: Node
    metrics: dict[str, Any]
    metric_modes: dict[str, Any]
    callbacks: dict[str, Any]
    loggers: dict[str, Any]
    checkpoint: Node
    early_stopping: Node
    weight_averaging: Node


@dataclass
class Use:
    """The keys of all commands that use a trained run; `data` says how its kind of data is read."""

    run: str
    data: dict[str, Any]
    device: Literal["auto", "cpu", "cuda", "mps"]
    threads: PositiveInt | None
    tracking: dict[str, str | None]
    trust: str | list[str] | None
    traceback: bool


@dataclass
class Predict(Use):
    """The keys of a prediction."""

    batch_size: PositiveInt
    text: str | None
    context: str | None
    output: str | None
    force: bool
    tokens: PositiveInt
    temperature: float
    top_k: int | None
    top_p: float
    beam_size: PositiveInt | None
    top_n: PositiveInt
    seed: Seed
    num_samples: PositiveInt | None
    class_: str | int | None  # the key is `class`, which Python keeps for itself: config["class"]
    explain: bool
    explain_rows: PositiveInt
    score_threshold: UnitFloat


@dataclass
class Evaluate(Use):
    """The keys of an evaluation."""

    split: Literal["train", "val", "test"]
    resamples: NonNegativeInt
    level: float
    seed: Seed
    explain: bool


@dataclass
class Inspect:
    """The keys of a look at data; without any, all data is listed."""

    data: dict[str, Any] | None
    task: Node
    output: str | None
    force: bool
    rows: PositiveInt | None
    seed: Seed
    threads: PositiveInt | None
    traceback: bool


@dataclass
class Sweep:
    """The keys of a look at a sweep."""

    action: Literal["status", "resume", "cancel"]
    sweep: str
    n_jobs: PositiveInt | None
    jobs_per_gpu: PositiveInt | None
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
    resamples: NonNegativeInt
    seed: Seed
    format: Literal["table", "csv", "json", "markdown", "html"] | None
    output: str | None
    force: bool
    rows: PositiveInt
    tracking: dict[str, str | None]
    traceback: bool


@dataclass
class Rerun:
    """The keys of a run run again."""

    run: str
    here: bool
    verify: bool
    tracking: dict[str, str | None]
    trust: str | list[str] | None
    traceback: bool


@dataclass
class Runs:
    """The keys of the bookkeeping of runs."""

    action: Literal["list", "show", "tag", "delete", "gc", "relocate"]
    run: str | None
    sweep: str | None
    filter: str | None
    tags: dict[str, Any]
    rows: PositiveInt
    force: bool
    path: str | None
    tracking: dict[str, str | None]
    traceback: bool


@dataclass
class Export:
    """The keys of a model written in another form."""

    run: str
    format: Literal["pt2", "onnx", "litert", "savedmodel", "safetensors", "keras", "mlflow"]
    output: str | None
    force: bool
    register: str | None
    alias: str | None
    tracking: dict[str, str | None]
    trust: str | list[str] | None
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
    trust: str | list[str] | None
    traceback: bool


@dataclass
class Init:
    """The keys of a new project."""

    name: str
    path: str | None
    traceback: bool


ROOTS = {
    "init": Init,
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
# what a run gives its trainer itself, and how to have it instead
GIVEN = {
    "trainer.plugins": "a run brings its own",
}


def keys(command: str) -> dict[str, str]:
    """The root keys of a command with their types as text."""
    return {field.name.removesuffix("_"): str(field.type) for field in fields(ROOTS[command])}


def callbacks(values: Mapping[str, Any]) -> dict[str, Any]:
    """The nodes of a user's own callbacks by their path: those of the group, entries `NAME: {_target_: ...}` or one
    node, then those of `trainer.callbacks`, a list as Lightning's Trainer takes it.
    """
    group, further = values["callbacks"], values["trainer"].get("callbacks") or []
    found = {"callbacks": group} if "_target_" in group else {f"callbacks.{name}": node for name, node in group.items()}
    listed = {f"trainer.callbacks[{place}]": node for place, node in enumerate(further)}
    return {path: node for path, node in (found | listed).items() if node is not None}
