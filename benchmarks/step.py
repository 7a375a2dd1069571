"""Cost of a training step: Labbook beside a plain PyTorch loop, and the common template's style beside both.

    python benchmarks/step.py                    the beginner's net: 20-64-32-1 on 1,000 rows, batches of 32
    python benchmarks/step.py --problem mnist    model=cnn on 4,000 MNIST images, batches of 64
    python benchmarks/step.py --own              the beginner's net as a user's own module, and as a LightningModule

All train the same net with Adam on the same rows, take the same metrics on the training and the validation part and
validate once an epoch. The plain loop is in _problems.py. The template is in the style of the common Lightning-Hydra
template: `DataLoader`, torchmetrics and `self.log` in the step, ModelCheckpoint, rich progress bar, MLFlowLogger on
SQLite. `5 metrics a step` records 5 metrics at each step in a SQLite store, whose writes the tracker's process does.

`--own` puts the same net built in beside an own `nn.Module`, and an own LightningModule beside Lightning's own Trainer,
which there records and saves nothing; Labbook takes its metrics and keeps the best weights.

A figure is the time of whole epochs, validation included, over their training steps; the first epoch does not count.
CPU time is that of the training process.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import statistics
import tempfile
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path

from _rounds import Column, alternate, show, where

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")

import pytorch_lightning as pl
import torch
import torchmetrics as tm
from _own import lightning
from _problems import Epochs, Problem, mnist_folder, plain
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from src import tracking
from src.config import compose
from src.experiment.assemble import assemble
from src.experiment.run import quieten
from src.runtime.signals import Signals
from src.tracking.logger import MLflowLogger

SCRATCH = Path(tempfile.mkdtemp(prefix="labbook-bench-"))
NVML = "PYTORCH_NVML_BASED_CUDA_CHECK"  # importing Lightning sets it, and it slows Adam: not the plain loop's doing
OVERRIDES = {
    "beginner": ["experiment=keras_example"],
    "mnist": ["model=cnn", "data=mnist", "optimizer=adam", "scheduler=none", "data.augment.crop=0"],
}


class Mark(pl.Callback):
    def __init__(self, epochs: Epochs) -> None:
        self.on_train_epoch_start = self.on_train_end = epochs.mark


def labbook(
    problem: Problem, *options: str, tracked: bool = False, every: int = 10, metrics: int = 2, short: bool | None = None
) -> dict[str, float]:
    """Train as `python -m src.train` does between reading the data and the test.

    Args:
        tracked: in a SQLite store.
        every: steps between two records.
        metrics: recorded each time; the loss and the learning rate are two.
        short: False is Lightning's own step.
    """
    overrides = [*OVERRIDES[problem.name], *options, f"trainer.log_every_n_steps={every}", "trainer.accelerator=cpu"]
    overrides += [f"trainer.max_epochs={problem.epochs}", f"threads={torch.get_num_threads()}"]
    if problem.name == "mnist":
        overrides.append(f"data.root={mnist_folder()}")
    parts = assemble(compose(overrides), Signals())
    for name, rows in (("train", problem.train), ("val", problem.val)):
        parts.data.splits[name] = dict(zip(("input", "target"), rows, strict=True))
    run = tracking.start(
        config=parts.model.config, overrides=[], enabled=tracked, root=SCRATCH, uri=None, system_metrics=False
    )
    parts.checkpoint.directory = run.directory / "checkpoints"
    copies = metrics // 2

    def log_points(points: list[tuple[str, float, int]]) -> None:
        more = [(f"{key}_{copy}", value, step) for key, value, step in points for copy in range(copies - 1)]
        last = [("again", value, step) for key, value, step in points if metrics % 2 and key == "lr"]
        run.log_points([*points, *more, *last])

    parts.recorder.log_points = log_points if metrics > 2 else run.log_points
    parts.trainer.logger = MLflowLogger(run)
    epochs = Epochs(problem.steps)
    parts.trainer.callbacks.append(Mark(epochs))
    parts.trainer.fit_loop.epoch_loop.short = short
    parts.trainer.fit(parts.model, datamodule=parts.data)
    run.finish("FINISHED")
    return epochs.figures()


class TemplateModule(pl.LightningModule):
    """Metrics and `self.log` in every step."""

    def __init__(self, problem: Problem) -> None:
        super().__init__()
        self.problem, self.net = problem, problem.net()
        self.train_metrics = problem.metrics().clone(prefix="train/")
        self.val_metrics = problem.metrics().clone(prefix="val/")
        self.train_loss, self.val_loss = tm.MeanMetric(), tm.MeanMetric()

    def model_step(self, batch: list[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        x, y = batch
        outputs = self.net(x)
        return self.problem.loss(outputs, y), self.problem.predict(outputs), y

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        loss, prediction, y = self.model_step(batch)
        self.train_loss(loss)
        self.log("train/loss", self.train_loss, on_step=False, on_epoch=True, prog_bar=True)
        for name, metric in self.train_metrics.items():
            metric(prediction, y)
            self.log(name, metric, on_step=False, on_epoch=True, prog_bar=True)
        return loss

    def validation_step(self, batch: list[Tensor], batch_idx: int) -> None:
        loss, prediction, y = self.model_step(batch)
        self.val_loss(loss)
        self.log("val/loss", self.val_loss, on_step=False, on_epoch=True, prog_bar=True)
        for name, metric in self.val_metrics.items():
            metric(prediction, y)
            self.log(name, metric, on_step=False, on_epoch=True, prog_bar=True)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=1e-3)


def template(problem: Problem, progress_bar: bool = True) -> dict[str, float]:
    """Train for fewer epochs than the others: it would take most of the time."""
    from pytorch_lightning.loggers import MLFlowLogger

    folder = SCRATCH / "template"
    epochs = Epochs(problem.steps)

    def loader(part: tuple[Tensor, Tensor], shuffle: bool) -> DataLoader:
        return DataLoader(TensorDataset(*part), batch_size=problem.batch_size, shuffle=shuffle)

    callbacks = [pl.callbacks.ModelCheckpoint(dirpath=folder, monitor="val/loss", save_last=True), Mark(epochs)]
    if progress_bar:
        callbacks += [pl.callbacks.RichModelSummary(max_depth=-1), pl.callbacks.RichProgressBar()]
    trainer = pl.Trainer(
        max_epochs=min(problem.epochs, 6),
        accelerator="cpu",
        default_root_dir=folder,
        callbacks=callbacks,
        enable_progress_bar=progress_bar,
        logger=MLFlowLogger("template", tracking_uri=f"sqlite:///{SCRATCH}/mlflow.db"),
    )
    with open(os.devnull, "w") as nothing, contextlib.redirect_stdout(nothing):
        trainer.fit(TemplateModule(problem), loader(problem.train, True), loader(problem.val, False))
    return epochs.figures()


def in_turns(one: Callable[[], dict[str, float]], other: Callable[[], dict[str, float]], rounds: int) -> list[float]:
    """CPU ratios of two that are nearly equal: one, other, other, one, so that a drift of the machine cancels."""
    one(), other()
    ratios = []
    for _ in range(rounds):
        first, second, third, fourth = (run()["cpu"] for run in (one, other, other, one))
        ratios.append((second + third) / (first + fourth))
    return ratios


def without_nvml(contestant: Callable[[], dict[str, float]]) -> dict[str, float]:
    before = os.environ.pop(NVML, None)
    try:
        return contestant()
    finally:
        os.environ[NVML] = before or "1"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--problem", choices=["beginner", "mnist"])
    parser.add_argument("--own", action="store_true")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    quieten()
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    torch.set_num_threads(options.threads)
    note = f"{options.rounds} rounds, {options.threads} thread(s)"
    columns = {"cpu": Column("CPU, µs a step"), "wall": Column("wall, µs a step")}
    if options.own:
        problem = Problem("beginner")
        own = partial(labbook, problem, "model._target_=_own.net")
        ratios = in_turns(partial(labbook, problem), own, 2 * options.rounds)
        median, low, high = statistics.median(ratios), min(ratios), max(ratios)
        print(f"own nn.Module beside the same net built in, CPU: {median:.3f} ({low:.3f} to {high:.3f}), {where()}")
        lightning_modules = {
            "Lightning's Trainer, DataLoader": partial(lightning, problem, False),
            "Lightning's Trainer, batches ready in memory": partial(lightning, problem, True),
            "own LightningModule": partial(labbook, problem, "model._target_=_own.Lit"),
        }
        show("a LightningModule", alternate(lightning_modules, options.rounds), columns, note)
        return
    for name in [options.problem] if options.problem else ["beginner", "mnist"]:
        problem = Problem(name)
        contestants = {
            "plain loop": partial(without_nvml, partial(plain, problem, False)),
            "plain loop, fused Adam": partial(without_nvml, partial(plain, problem, True)),
            "Labbook": partial(labbook, problem),
            "Labbook, tracked": partial(labbook, problem, tracked=True),
            "Labbook, tracked, 5 metrics a step": partial(labbook, problem, tracked=True, every=1, metrics=5),
            "template": partial(template, problem),
        }
        if name == "beginner":  # where the rest goes
            contestants |= {
                "Labbook, optimizer.fused=false": partial(labbook, problem, "optimizer.fused=false"),
                "Labbook with Lightning's own step": partial(labbook, problem, short=False),
                "template without its progress bar": partial(template, problem, progress_bar=False),
            }
        medians = alternate(contestants, options.rounds)
        show(f"{name}: a training step", medians, columns, note)


if __name__ == "__main__":
    main()
