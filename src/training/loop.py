"""The loop over an epoch's batches: Lightning's, with a short way through a step for runs that use nothing else.

Lightning offers every hook, plugin and profiler at every step. On a small net that takes longer than torch itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import pytorch_lightning as pl
from lightning_fabric.utilities.apply_func import move_data_to_device
from pytorch_lightning.plugins.precision import MixedPrecision, Precision
from pytorch_lightning.profilers import PassThroughProfiler
from pytorch_lightning.strategies import SingleDeviceStrategy
from pytorch_lightning.utilities.model_helpers import is_overridden
from typing_extensions import override

from src.runtime.compat import lightning as compat

# Hooks that the short way leaves out: whoever defines one gets Lightning's own step.
AROUND_THE_STEP = ("on_before_zero_grad", "on_before_backward", "on_after_backward", "on_before_optimizer_step")
TRANSFER = ("on_before_batch_transfer", "transfer_batch_to_device", "on_after_batch_transfer")
STEP = (
    "on_train_batch_start",
    "on_train_batch_end",
    "backward",
    "optimizer_step",
    "optimizer_zero_grad",
    "configure_gradient_clipping",
    "lr_scheduler_step",
)


class Fetcher(Protocol):
    """Iterator of Lightning over the batches of an epoch, as far as the loop asks it."""

    done: bool

    def __next__(self) -> tuple[Any, int, int]: ...


class EpochLoop(compat.TrainingEpochLoop):
    """Takes the short way where one process trains on one device with one optimizer and nobody hooks into a step.

    The operations on tensors and their order are Lightning's: a run gives the same bits either way. Where a model or
    a callback calls `self.log` in a step, Lightning's own way serves it from the next step on.

    Attributes:
        short: whether the run takes it; None before its first epoch.
    """

    short: bool | None = None

    @classmethod
    def install(cls, trainer: pl.Trainer) -> str | None:
        """Replace the trainer's own loop by one of this class.

        Returns:
            None, or the reason why this version of Lightning keeps its own.
        """
        if reason := compat.unsuitable(trainer):
            return reason
        own = trainer.fit_loop.epoch_loop
        trainer.fit_loop.epoch_loop = cls(trainer, min_steps=own.min_steps, max_steps=own.max_steps)
        return None

    @override
    def on_run_start(self, data_fetcher: Fetcher) -> None:
        super().on_run_start(data_fetcher)
        trainer = self.trainer
        if self.short is None:
            self.short = self._nothing_is_left_out()
        self._model = trainer.lightning_module
        self._schedulers = [config.scheduler for config in trainer.lr_scheduler_configs]
        compat.enter_training_step(self._model)
        self._logged = compat.logged(self)  # by the ends of epochs so far
        self._starts, self._ends = self._hooks("on_train_batch_start"), self._hooks("on_train_batch_end")
        self._validates_at_end = trainer.val_check_batch in (
            trainer.num_training_batches,
            float("inf"),
        ) and not compat.validates_by_time(trainer)

    def _nothing_is_left_out(self) -> bool:
        trainer, model, data = self.trainer, self.trainer.lightning_module, self.trainer.datamodule
        precision = trainer.precision_plugin
        schedules = [(config.interval, config.frequency) for config in trainer.lr_scheduler_configs]
        return (
            type(trainer.strategy) is SingleDeviceStrategy
            and (type(precision) is Precision or (type(precision) is MixedPrecision and precision.scaler is None))
            and isinstance(trainer.profiler, PassThroughProfiler)
            and model.automatic_optimization
            and trainer.accumulate_grad_batches == 1
            and all(schedule == ("step", 1) for schedule in schedules)
            and not any(is_overridden(name, model) for name in (*AROUND_THE_STEP, *TRANSFER, *STEP))
            and not (data and any(is_overridden(name, data) for name in TRANSFER))
            and not any(is_overridden(name, callback) for callback in trainer.callbacks for name in AROUND_THE_STEP)
        )

    def _hooks(self, name: str) -> list[Callable[..., None]]:
        return [getattr(callback, name) for callback in self.trainer.callbacks if is_overridden(name, callback)]

    def advance(self, data_fetcher: Fetcher) -> None:
        """Train on one batch."""
        if not self.short or self.restarting:
            super().advance(data_fetcher)
            return
        trainer, model, progress = self.trainer, self._model, self.batch_progress
        batch, _, _ = next(data_fetcher)
        batch_idx = progress.current.ready
        progress.is_last_batch = data_fetcher.done
        device = trainer.strategy.root_device
        if device.type != "cpu":
            batch = move_data_to_device(batch, device)
        progress.increment_ready()
        compat.begin_batch(trainer, self, batch)
        for hook in self._starts:
            hook(trainer, model, batch, batch_idx)
        progress.increment_started()
        outputs = self._step(batch, batch_idx)
        progress.increment_processed()
        for scheduler in self._schedulers:
            self.scheduler_progress.increment_ready()
            scheduler.step()
            self.scheduler_progress.increment_completed()
        for hook in self._ends:
            hook(trainer, model, outputs, batch, batch_idx)
        if compat.logged(self) > self._logged:  # in this step
            self.short = False
            compat.hand_on_logged(trainer)
        progress.increment_completed()

    def _step(self, batch: object, batch_idx: int) -> dict[str, Any]:
        """Run forward, backward and optimizer; return what `training_step` did, the loss detached."""
        trainer, model, progress = self.trainer, self._model, self.automatic_optimization.optim_progress.optimizer
        if type(trainer.precision_plugin) is Precision:
            outputs = model.training_step(batch, batch_idx)
        else:
            with trainer.precision_plugin.forward_context():
                outputs = model.training_step(batch, batch_idx)
        outputs = dict(outputs) if isinstance(outputs, Mapping) else {"loss": outputs}
        optimizer, loss = trainer.optimizers[0], outputs["loss"]
        progress.zero_grad.increment_ready()
        optimizer.zero_grad()
        progress.zero_grad.increment_started()
        progress.zero_grad.increment_completed()
        progress.step.increment_ready()
        if loss is not None:  # the model's way to skip a batch
            loss.backward()
            if trainer.gradient_clip_val:
                model.clip_gradients(optimizer, trainer.gradient_clip_val, trainer.gradient_clip_algorithm)
            optimizer.step()
            outputs["loss"] = loss.detach()
        progress.step.increment_completed()
        return outputs

    def on_advance_end(self, data_fetcher: Fetcher) -> None:
        """Validate where it is due; in the middle of an ordinary epoch only count the batch."""
        trainer = self.trainer
        stops = trainer.should_stop or trainer.received_sigterm
        if self.short and self._validates_at_end and not (self.batch_progress.is_last_batch or stops):
            compat.count_batch(self)
        else:
            super().on_advance_end(data_fetcher)
