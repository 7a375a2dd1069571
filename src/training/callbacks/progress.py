"""Progress of a run on the terminal: a rich bar refreshed by time, or now and then a line where nobody watches."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytorch_lightning as pl
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from typing_extensions import override

if TYPE_CHECKING:
    from src.models.base import Model

WIDE = 112  # characters that all columns and three metrics need


class ProgressReporter(pl.Callback):
    """Callback that reports the progress of this run, after each validation, to whoever waits for it.

    Args:
        update: takes `epoch`, `epochs` (0: unknown) and of the metric that the model monitors `metric`, `mode`, `best`.
    """

    def __init__(self, update: Callable[..., None]) -> None:
        self.update = update

    @override
    def on_validation_end(self, trainer: pl.Trainer, model: Model) -> None:
        if trainer.sanity_checking or not trainer.is_global_zero or model.monitor not in model.history:
            return
        self.update(
            epoch=trainer.current_epoch + 1,
            epochs=max(0, trainer.max_epochs or 0),
            metric=model.monitor,
            mode=model.monitor_mode,
            best=model.best(model.monitor)[1],
        )


class ProgressBar(pl.Callback):
    """Epoch, batch, time left and the latest metrics.

    Drawn at most every `seconds`, since drawing costs more than a small training step; without a terminal one line an
    epoch, at most every `line_seconds`.
    """

    def __init__(self, console: Console, seconds: float = 0.1, line_seconds: float = 10.0) -> None:
        self.console = console
        self.seconds = seconds if console.is_terminal else line_seconds
        self._progress: Progress | None = None
        self._bar: Any = None
        self._drawn_at = 0.0
        self._wide = console.width >= WIDE

    @override
    def on_train_start(self, trainer: pl.Trainer, model: Model) -> None:
        self._drawn_at = time.monotonic()
        if not self.console.is_terminal:
            return
        counts = (MofNCompleteColumn(), TimeElapsedColumn()) if self._wide else ()
        self._progress = Progress(
            "{task.description}",
            BarColumn(bar_width=None),
            *counts,
            TimeRemainingColumn(),
            TextColumn("{task.fields[metrics]}"),
            console=self.console,
            auto_refresh=False,
            transient=True,
            expand=True,
        )
        total = trainer.estimated_stepping_batches
        self._bar = self._progress.add_task("epoch", total=None if total == float("inf") else total, metrics="")
        self._progress.start()

    @override
    def on_train_epoch_start(self, trainer: pl.Trainer, model: Model) -> None:
        # not at the epoch's end: there the model has yet to report its training metrics
        if model.history:
            self._print_line(trainer, model)

    @override
    def on_train_batch_end(self, trainer: pl.Trainer, model: Model, *args: object, **kwargs: object) -> None:
        if self._progress is not None and time.monotonic() - self._drawn_at > self.seconds:
            self._drawn_at = time.monotonic()
            metrics = "  ".join(self._metrics(model, wide=self._wide))
            epoch = self._epoch(trainer, trainer.current_epoch + 1)
            self._progress.update(self._bar, completed=trainer.global_step, description=epoch, metrics=metrics)
            self._progress.refresh()

    def _metrics(self, model: Model, wide: bool) -> list[str]:
        latest = {name: points[-1][1] for name, points in model.history.items() if points}
        names = dict.fromkeys([*(["train/loss"] if wide else []), "val/loss", model.monitor])
        shown = [f"{name} {latest[name]:.4g}" for name in names if name in latest]
        return shown or [f"{name} {value:.4g}" for name, value in latest.items() if name == "train/loss"]

    def _print_line(self, trainer: pl.Trainer, model: Model) -> None:
        if self._progress is None and time.monotonic() - self._drawn_at > self.seconds:
            self._drawn_at = time.monotonic()
            epoch = max(int(points[-1][0]) for points in model.history.values())
            self.console.print(self._epoch(trainer, epoch), *self._metrics(model, wide=True), sep="  ", soft_wrap=True)

    def _epoch(self, trainer: pl.Trainer, epoch: int) -> str:
        last = f"/{trainer.max_epochs}" if trainer.max_epochs and trainer.max_epochs > 0 else ""
        return f"epoch {epoch}{last}"

    def _stop(self) -> None:
        if self._progress is not None:
            self._progress.stop()
            self._progress = None

    @override
    def on_train_end(self, trainer: pl.Trainer, model: Model) -> None:
        self._stop()

    @override
    def on_exception(self, trainer: pl.Trainer, model: Model, exception: BaseException) -> None:
        self._stop()
