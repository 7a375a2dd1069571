"""Early stopping where validation no longer improves, and stopping where a signal asks for it."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl
from typing_extensions import override

from src.errors import UserError
from src.runtime.signals import Signals

NOTE = "stopping after this step; Ctrl-C again stops at once"


class EarlyStopping(pl.callbacks.EarlyStopping):
    """Lightning's early stopping, whose decision is kept over a resume.

    Args:
        monitor, mode: the watched metric and its good direction; the task's by default, filled in by the caller.
        patience: validations without improvement before training stops; null is never.
        min_delta: what counts as an improvement.
    """

    def __init__(self, *, monitor: str, mode: str, patience: int | None = None, min_delta: float = 0.0) -> None:
        if patience is not None and patience < 0:
            raise UserError(f"early_stopping.patience={patience}: epochs from 0, or null for never")
        rules: dict[str, Any] = {"patience": patience, "min_delta": min_delta}  # null: no run uses this callback
        super().__init__(monitor=monitor, mode=mode, **rules, check_finite=False)

    @override
    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state | {"patience": self.patience})  # a resumed run may have more of it

    @override
    def on_train_start(self, trainer: pl.Trainer, model: pl.LightningModule) -> None:
        # Lightning saves stopped_epoch and forgets to act on it: a resumed run would train one epoch more
        if self.stopped_epoch and self.wait_count >= self.patience:
            trainer.should_stop = True


class StopOnSignal(pl.Callback):
    """Callback that lets a signal during training wait for the end of the step, where `Checkpoint` saves and stops."""

    def __init__(self, signals: Signals) -> None:
        self.signals = signals

    @override
    def on_train_start(self, trainer: pl.Trainer, model: pl.LightningModule) -> None:
        self.signals.install()
        self.signals.defer(NOTE)

    @override
    def on_validation_batch_end(self, trainer: pl.Trainer, *args: object, **kwargs: object) -> None:
        # a validation can be long and cannot be resumed in its middle: the last checkpoint stands
        self.signals.check()

    @override
    def on_train_end(self, trainer: pl.Trainer, model: pl.LightningModule) -> None:
        self.signals.resume()
        self.signals.check()

    @override
    def on_exception(self, trainer: pl.Trainer, model: pl.LightningModule, exception: BaseException) -> None:
        self.signals.resume()
