"""A trained run judged again: its own test rows, which give the figures that it logged, or other data of their form."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.progress import track

from src import tracking
from src.analysis import per_class
from src.analysis.bootstrap import Interval, Rows, intervals
from src.analysis.explain import attribution
from src.analysis.per_class import Classes
from src.config import compose_saved
from src.data.core.module import DataModule
from src.errors import UserError
from src.experiment.run import quieten
from src.inference.load import Trained, load
from src.models.base import Model
from src.spec import Horizon
from src.spec.tokenizer import Tokenizer
from src.tasks.base import StepOutput
from src.tasks.epoch import EpochMetrics
from src.training.seeding import seed_everything


class Kept(EpochMetrics):
    """Metrics of a test that also keep what was judged, row by row."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.step_output: list[StepOutput] = []

    def append(self, step_output: StepOutput) -> None:
        super().append(step_output)
        self.step_output.append(step_output)

    def rows(self) -> Rows:
        """On the CPU, in the order of the data."""
        _, outputs, target, reference, _ = zip(*self.step_output, strict=True)
        whole = None if reference[0] is None else torch.cat(reference).cpu()
        return Rows(torch.cat(outputs).cpu(), torch.cat(target).cpu(), whole)


def evaluate(config: DictConfig) -> dict[str, float]:
    """Prints a run's figures with intervals, by class and with their calibration, and keeps them among its artifacts.

    Returns:
        `test/NAME` of each metric.

    Raises:
        UserError: a run or data that cannot be used; nothing was written.
    """
    quieten()
    if not 0 < config.level < 1:
        raise UserError(f"level={config.level}: between 0 and 1, such as 0.95")
    if config.explain:
        attribution.require()
    console = Console()
    trained = load(config.run, uri=config.tracking.get("uri"), device="cpu")
    model = trained.model
    saved: dict[str, Any] = model.config
    changes = OmegaConf.to_container(config.data, resolve=True)
    if "path" in changes and saved["data"].get("source"):
        changes.setdefault("source", "file")
    # another dataset's own options, or changes to those of the run's
    full = compose_saved(saved | {"data": changes if "_target_" in changes else saved["data"] | changes})
    seed_everything(full.seed, config.threads or saved.get("threads"))
    data = _data(full, trained, other=bool(changes))
    name = "test" if changes else config.part
    if name not in data.splits:
        raise UserError(f"part={name}: data={data.name} has {', '.join(data.splits)}")
    kept = model.metrics["test"] = Kept(model.task, with_curves=True)
    _trainer(full, config.device).test(model, data.in_order(name, data.eval_batch_size), verbose=False)
    values = {metric: points[-1][1] for metric, points in model.history.items() if metric.startswith("test/")}
    rows = kept.rows()
    trained.notes += model.task.remarks(rows.outputs, rows.target)
    spread, classes = _spread(config, model, rows, console), Classes.of(model.task, rows)
    logged = _logged(trained, name) if not changes else {}
    per_class.print_figures(console, values, logged, kept.baseline(), spread, config.level)
    if classes is not None:
        per_class.print_classes(console, classes)
    folder = _keep(trained, values, kept, classes, spread, OmegaConf.to_container(config, resolve=True))
    if config.explain:
        trained.notes += _explain(trained, folder, data.splits[name], name)
    if folder is not None:
        tracking.attach(trained.run, f"evaluations/{folder.name}")
        console.print(f"kept in {folder}", highlight=False, soft_wrap=True)
    for note in trained.notes:
        console.print(note, highlight=False, soft_wrap=True, markup=False)
    return values


def _data(full: DictConfig, trained: Trained, *, other: bool) -> DataModule:
    data: DataModule = instantiate(full.data, _convert_="all")
    data.train_fraction = full.train_fraction
    spec = trained.model.spec
    if hasattr(data, "tokenizer"):
        data.tokenizer = Tokenizer(spec.input.tokenizer)
    if other:
        data.reuse(spec)
        return data
    data.prepare_data()
    data.setup("fit")
    if data.spec.sha256 != spec.sha256:
        trained.notes.append("the data is not what the run was trained on: its rows or their order have changed since")
    return data


def _trainer(full: DictConfig, device: str) -> pl.Trainer:
    accelerator = {"auto": full.trainer.accelerator, "cuda": "gpu"}.get(device, device)
    options = {"accelerator": accelerator, "strategy": "auto", "devices": 1, "num_nodes": 1, "logger": False}
    return instantiate(full.trainer, _convert_="all")(**options)


def _logged(trained: Trained, split: str) -> Mapping[str, float]:
    """What the run itself measured, as far as that is known."""
    if trained.run is None or split != "test":
        return {}
    return {name: value for name, value in trained.run.metrics.items() if name.startswith("test/")}


def _spread(config: DictConfig, model: Model, rows: Rows, console: Console) -> dict[str, Interval]:
    if not (config.resamples and model.task.bootstrapped):
        return {}
    return intervals(
        model.task,
        rows,
        resamples=config.resamples,
        level=config.level,
        seed=config.seed,
        block=model.spec.target.steps if isinstance(model.spec.target, Horizon) else 1,
        track=lambda draws: track(
            draws, "resampling", console=console, transient=True, disable=not console.is_terminal
        ),
    )


def _keep(
    trained: Trained,
    values: Mapping[str, float],
    kept: Kept,
    classes: Classes | None,
    spread: Mapping[str, Interval],
    config: dict[str, Any],
) -> Path | None:
    """Writes the figures into `evaluations/N` of the run's artifacts; that folder, or None of a checkpoint's path."""
    if trained.run is None:
        return None
    whole = trained.run.directory / "evaluations"
    whole.mkdir(parents=True, exist_ok=True)
    number = 1 + max((int(entry.name) for entry in whole.iterdir() if entry.name.isdigit()), default=0)
    folder = Path(f"{whole}/{number}")
    folder.mkdir()
    content = {
        "config": config,
        "metrics": dict(values),
        "baseline": kept.baseline(),
        "intervals": {name: interval._asdict() for name, interval in spread.items()},
    }
    (folder / "metrics.json").write_text(json.dumps(content, indent=1))
    per_class.save_figures(folder, trained.model.task, kept.curves(), classes)
    return folder


def _explain(trained: Trained, folder: Path | None, split: Mapping[str, Any], name: str) -> list[str]:
    """Attributions of some rows into the folder; what is to be said of them."""
    if folder is None:
        return ["explain=true: a checkpoint named by its path has no folder for pictures, name its run"]
    from src.analysis.explain import figures  # matplotlib: not before it is needed

    try:
        return figures.save_all(folder, trained.model, split, trained.model.worst_examples.compute(), name)
    except Exception as error:  # the figures are there, whatever becomes of the pictures
        return [f"attributions: none, {type(error).__name__}: {error}".splitlines()[0]]
