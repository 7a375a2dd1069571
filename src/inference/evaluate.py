"""Evaluate a trained model again: on its own rows, which gives the metrics that it logged, or on other data."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from typing_extensions import override

from src import tracking
from src.analysis import per_class
from src.analysis.bootstrap import Interval, Rows, intervals
from src.analysis.per_class import Classes
from src.config import compose_saved
from src.data.core.modality import modality_of
from src.data.core.module import DataModule, TakesTokenizer
from src.errors import UserError
from src.experiment.build import build_data, build_node
from src.inference.load import Trained
from src.models.base import Model
from src.tasks.base import StepOutput, Task
from src.tasks.epoch import EpochMetrics
from src.training.seeding import seed_everything


class Kept(EpochMetrics):
    """Metrics of a test that also keep outputs and targets, row by row."""

    def __init__(self, task: Task) -> None:
        super().__init__(task, with_curves=True)
        self.step_outputs: list[StepOutput] = []

    @override
    def append(self, step_output: StepOutput) -> None:
        super().append(step_output)
        self.step_outputs.append(step_output)

    def rows(self) -> Rows:
        """Outputs and targets of all rows, on the CPU, in the order of the data."""
        _, outputs, target, reference, _ = zip(*self.step_outputs, strict=True)
        whole = None if reference[0] is None else torch.cat(reference).cpu()
        return Rows(torch.cat(outputs).cpu(), torch.cat(target).cpu(), whole)


@dataclass(frozen=True)
class Evaluation:
    """Result of an evaluation on the rows of a split.

    Attributes:
        split: name of the rows' split.
        columns: the rows themselves.
        values: `test/NAME` of each metric.
        logged: the same as the run itself logged them; empty of other rows than its test split.
        baseline: of the trivial answer, by NAME.
        intervals: of the bootstrap, by NAME.
        curves: as `plots.curves.save_figures` takes them.
        classes: the confusion of the classes, where there are any.
    """

    split: str
    columns: Mapping[str, Any]
    values: dict[str, float]
    logged: Mapping[str, float]
    baseline: Mapping[str, float]
    intervals: Mapping[str, Interval]
    curves: Mapping[str, Any]
    classes: Classes | None


def evaluate(
    trained: Trained,
    changes: Mapping[str, Any] | None = None,
    *,
    split: str = "test",
    resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
    device: str = "auto",
    threads: int | None = None,
    track: Callable[[Iterable[Any]], Iterable[Any]] = lambda draws: draws,
) -> Evaluation:
    """Evaluate the model. What a person should know about the figures is added to `trained.notes`.

    Args:
        changes: options of the run's data that are others, or all of another dataset's (with `_target_`), which is
            then evaluated whole; none: the run's own data.
        split: of its own data: train, val or test.
        resamples: of the bootstrap; 0: no intervals.
        level: of the intervals, between 0 and 1.
        seed: of the resamples.
        device: auto (as the run was trained), cpu, cuda or mps.
        threads: of the CPU; None: as many as the run had, which equal bits need.
        track: shows the progress of the resamples.

    Raises:
        UserError: data that cannot be used.
    """
    model, changes = trained.model, dict(changes or {})
    saved: dict[str, Any] = model.config
    if "path" in changes and saved["data"].get("source"):
        changes.setdefault("source", "file")
    # another dataset's own options, or changes to those of the run's
    full = compose_saved(saved | {"data": changes if "_target_" in changes else saved["data"] | changes})
    seed_everything(full.seed, threads or saved.get("threads"))
    data = _data(full, trained, other=bool(changes))
    name = "test" if changes else split
    if name not in data.splits:
        raise UserError(f"split={name}: data={data.name} has {', '.join(data.splits)}")
    kept = model.metrics["test"] = Kept(model.task)
    _trainer(full, device).test(model, data.in_order(name, data.eval_batch_size), verbose=False)
    rows = kept.rows()
    trained.notes += model.task.remarks(rows.outputs, rows.target)
    return Evaluation(
        split=name,
        columns=data.splits[name],
        values={metric: points[-1][1] for metric, points in model.history.items() if metric.startswith("test/")},
        logged={} if changes else _logged(trained, name),
        baseline=kept.baseline(),
        intervals=_intervals(model, rows, resamples, level, seed, track),
        curves=kept.curves(),
        classes=Classes.of(model.task, rows),
    )


def _data(
    full: Any,  # noqa: ANN401 - a DictConfig, whose library this package does not know
    trained: Trained,
    *,
    other: bool,
) -> DataModule:
    data = build_data(full.data, seed=full.seed, task=full.task.name)
    data.train_fraction = full.train_fraction
    spec = trained.model.spec
    if isinstance(data, TakesTokenizer):
        data.take_tokenizer(modality_of(spec).tokenizer)
    if other:
        data.reuse(spec)
        return data
    data.prepare_data()
    data.setup("fit")
    if data.spec.sha256 != spec.sha256:
        trained.notes.append("the data is not what the run was trained on: its rows or their order have changed since")
    return data


def _trainer(full: Any, device: str) -> pl.Trainer:  # noqa: ANN401 - a DictConfig, as above
    accelerator = {"auto": full.trainer.accelerator, "cuda": "gpu"}.get(device, device)
    options = {"accelerator": accelerator, "strategy": "auto", "devices": 1, "num_nodes": 1, "logger": False}
    return build_node(full.trainer)(**options)


def _logged(trained: Trained, split: str) -> Mapping[str, float]:
    """Metrics that the run itself logged, as far as that is known."""
    if trained.run is None or split != "test":
        return {}
    return {name: value for name, value in trained.run.metrics.items() if name.startswith("test/")}


def _intervals(
    model: Model, rows: Rows, resamples: int, level: float, seed: int, track: Callable[[Any], Any]
) -> Mapping[str, Interval]:
    if not (resamples and model.task.bootstrapped):
        return {}
    block = 1 if model.spec.target is None else model.spec.target.block
    return intervals(model.task, rows, resamples=resamples, level=level, seed=seed, block=block, track=track)


def keep(trained: Trained, found: Evaluation, config: Mapping[str, Any]) -> Path | None:
    """Write the figures into `evaluations/N` of the run's artifacts; that folder, or None of a checkpoint's path.

    Args:
        config: of the evaluation, which is kept with it.
    """
    if trained.run is None:
        return None
    whole = trained.run.directory / "evaluations"
    whole.mkdir(parents=True, exist_ok=True)
    number = 1 + max((int(entry.name) for entry in whole.iterdir() if entry.name.isdigit()), default=0)
    folder = Path(f"{whole}/{number}")
    folder.mkdir()
    content = {
        "config": config,
        "metrics": found.values,
        "baseline": found.baseline,
        "intervals": {name: interval._asdict() for name, interval in found.intervals.items()},
    }
    (folder / "metrics.json").write_text(json.dumps(content, indent=1))
    per_class.save_figures(folder, trained.model.task, found.curves, found.classes)
    return folder


def attach(trained: Trained, folder: Path) -> None:
    """Add a folder that `keep` made to the run, also where its artifacts lie on a server."""
    assert trained.run is not None  # the folder is the run's
    tracking.attach(trained.run, f"evaluations/{folder.name}")


def explain(trained: Trained, found: Evaluation, folder: Path | None) -> list[str]:
    """Draw attributions of some rows into the folder; return what is to be said of them."""
    if folder is None:
        return ["explain=true: a checkpoint named by its path has no folder for pictures, name its run"]
    from src.analysis.explain import figures  # noqa: PLC0415 - imports matplotlib, which evaluations may do without

    model = trained.model
    try:
        return figures.save_all(folder, model, found.columns, model.worst_examples.compute(), found.split)
    except Exception as error:  # noqa: BLE001 - the figures are there, whatever becomes of the pictures
        return [f"attributions: none, {type(error).__name__}: {error}".splitlines()[0]]
