"""Recorder: hands step losses and learning rates to the tracker in batches, and stops a run that diverged."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities.types import STEP_OUTPUT
from typing_extensions import override

from src.errors import RunFailed

if TYPE_CHECKING:
    from src.models.base import Model
    from src.tasks.base import Batch

Point = tuple[str, float, int]  # (name, value, step)


class Recorder(pl.Callback):
    """Reads the losses that the model gathered, every `seconds` and at the end of an epoch, in one transfer.

    Args:
        every_n_steps: `train/loss_step` and `lr` are recorded at every so many optimizer steps.
        seconds: between two transfers from the device.

    Attributes:
        log_points: where the points go; the caller sets it once there is a run.
    """

    def __init__(self, every_n_steps: int, seconds: float = 1.0) -> None:
        self.log_points: Callable[[Sequence[Point]], None] = lambda points: None
        self.every_n_steps = max(1, every_n_steps)
        self.seconds = seconds
        self.fit_seconds = 0.0
        self.rows = 0
        # losses of this epoch that were read already; unknown until the first batch after a start or a resume
        self._read: int | None = None
        self._steps: list[tuple[int, float]] = []  # (optimizer steps so far, learning rate) after each batch since then
        self._last_step = 0
        self._model: Model | None = None
        self._flushed_at = self._started_at = time.monotonic()

    @override
    def on_train_start(self, trainer: pl.Trainer, model: Model) -> None:
        self._model = model
        self._read = None
        self._steps = []
        self._last_step = trainer.global_step
        self._group = trainer.optimizers[0].param_groups[0]
        self._flushed_at = self._started_at = time.monotonic()

    @override
    def on_train_epoch_start(self, trainer: pl.Trainer, model: Model) -> None:
        self._read = 0

    @override
    def on_train_batch_end(
        self, trainer: pl.Trainer, model: Model, outputs: STEP_OUTPUT, batch: Batch, batch_idx: int
    ) -> None:
        if self._read is None:
            self._read = len(model.metrics["train"].losses) - 1
        self._steps.append((trainer.global_step, self._group["lr"]))
        self.rows += len(batch["input"])
        # not in the middle of an accumulation: a step's loss is the mean over its batches
        stepped = (batch_idx + 1) % trainer.accumulate_grad_batches == 0
        if stepped and time.monotonic() - self._flushed_at > self.seconds:
            self.flush()

    @override
    def on_train_epoch_end(self, trainer: pl.Trainer, model: Model) -> None:
        self.flush()
        self.log_points([("epoch", trainer.current_epoch + 1, trainer.global_step)])

    @override
    def on_train_end(self, trainer: pl.Trainer, model: Model) -> None:
        self.fit_seconds += time.monotonic() - self._started_at
        self._started_at = time.monotonic()

    @override
    def on_exception(self, trainer: pl.Trainer, model: Model, exception: BaseException) -> None:
        if self._model is not None and not isinstance(exception, RunFailed):
            self.flush()

    def flush(self) -> None:
        """Read the losses since the last call, check them and hand them on.

        Raises:
            RunFailed: a loss is not finite; names the step.
        """
        self._flushed_at = time.monotonic()
        if not self._steps:
            return
        assert self._model is not None and self._read is not None  # both since the first batch
        # an exception inside a step can leave a loss whose batch never ended
        losses = self._model.metrics["train"].losses[self._read : self._read + len(self._steps)]
        values = torch.stack(losses).tolist()
        points: list[Point] = []
        group: list[float] = []
        for value, (step, lr) in zip(values, self._steps, strict=True):
            group.append(value)
            if step == self._last_step:
                continue  # a batch of an accumulation that is not complete
            self._last_step = step
            mean = sum(group) / len(group)
            group = []
            if step % self.every_n_steps == 0:
                points += [("train/loss_step", mean, step), ("lr", lr, step)]
            if not math.isfinite(mean):
                self.log_points(points)
                epoch = self._model.trainer.current_epoch + 1
                raise RunFailed(
                    f"the loss is {mean} at step {step} (epoch {epoch}): a smaller optimizer.lr or"
                    " trainer.gradient_clip_val=1.0 often helps; debug=anomaly finds the operation"
                )
        self._read += len(losses)
        self._steps = []
        self.log_points(points)

    @override
    def state_dict(self) -> dict[str, Any]:
        return {"seconds": self.fit_seconds + time.monotonic() - self._started_at, "rows": self.rows}

    @override
    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.fit_seconds, self.rows = state["seconds"], state["rows"]
