"""A LightningModule from outside this project as a model: its own steps and optimizers train it, as they are."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.utilities.model_helpers import is_overridden
from pytorch_lightning.utilities.types import STEP_OUTPUT, OptimizerLRScheduler
from torch import Tensor
from typing_extensions import override

from src.errors import UserError
from src.models.own.module import OwnModule
from src.spec import DataSpec
from src.tasks.base import Task
from src.tasks.epoch import EpochMetrics

# hooks of a LightningModule that the trainer calls; this model calls those that the user's module defines
HOOKS = (
    *(f"on_{stage}_{at}" for stage in ("fit", "train", "validation", "test", "predict") for at in ("start", "end")),
    *(f"on_{stage}_epoch_{at}" for stage in ("train", "validation", "test", "predict") for at in ("start", "end")),
    *(f"on_{stage}_batch_{at}" for stage in ("train", "validation", "test", "predict") for at in ("start", "end")),
    *("on_before_zero_grad", "on_before_backward", "on_after_backward", "on_before_optimizer_step"),
    *("on_save_checkpoint", "on_load_checkpoint", "configure_callbacks", "configure_model"),
)
# what Lightning does itself, unless a module does it otherwise
INSTEAD = ("optimizer_step", "optimizer_zero_grad", "configure_gradient_clipping", "lr_scheduler_step", "backward")


class OwnLightning(OwnModule):
    """Base of the families that `wrapped` makes: the module is `self.net`.

    Its steps are given pairs (input, target), the input in standard units. What it logs appears beside the task's own
    metrics, and where a name is the same it is the module's that counts. The task's metrics are taken of `forward`, where
    that gives what the task takes.
    """

    net: pl.LightningModule

    def __init__(self, spec: DataSpec, task: Task, **options: object) -> None:
        super().__init__(spec, task, **options)
        self.automatic_optimization = self.net.automatic_optimization
        self.net.log = self._log  # type: ignore[method-assign]
        self.metrics["train"] = EpochMetrics(task, only_loss=True)
        for step in ("training_step", "configure_optimizers"):
            if not is_overridden(step, self.net):
                raise UserError(f"model: {type(self).__name__} has no {step}, which a LightningModule needs")

    def _log(self, name: str, value: Any, *arguments: Any, **options: Any) -> None:  # noqa: ANN401 (as Lightning has it)
        self.logged.add(name)
        self.log(name, value, *arguments, **options)

    def pair(self, batch: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """A batch as the module's steps take it: input in standard units, and target."""
        batch = self.task.prepare(batch, self.training)
        return self.taken(batch["input"]), self.task.target(batch)

    @override
    def training_step(self, batch: Mapping[str, Tensor], batch_idx: int) -> STEP_OUTPUT:
        output = self.net.training_step(self.pair(batch), batch_idx)
        loss = output["loss"] if isinstance(output, Mapping) else output
        if isinstance(loss, Tensor):
            self.metrics["train"].append_loss(loss, len(batch["input"]))
        return output

    @override
    def validation_step(self, batch: Mapping[str, Tensor], batch_idx: int) -> None:
        if is_overridden("validation_step", self.net):
            self.net.validation_step(self.pair(batch), batch_idx)
        self.step(batch, "val")

    @override
    def test_step(self, batch: Mapping[str, Tensor], batch_idx: int) -> None:
        if is_overridden("test_step", self.net):
            self.net.test_step(self.pair(batch), batch_idx)
        self.step(batch, "test")

    @override
    def configure_optimizers(self) -> OptimizerLRScheduler:
        return self.net.configure_optimizers()

    def keep_logged(self, values: Mapping[str, Tensor]) -> None:
        """Add the epoch's values of what the module has logged to the history."""
        epoch = self.trainer.current_epoch + 1
        for name in sorted(self.logged & values.keys()):
            points = self.history.setdefault(name, [])
            if not points or points[-1][0] != epoch:
                points.append([epoch, float(values[name])])


def hooks_of(cls: type[pl.LightningModule]) -> dict[str, Callable[..., Any]]:
    """Methods by which an `OwnLightning` hands Lightning's hooks on to a module of this class."""
    defined = [name for name in (*HOOKS, *INSTEAD) if getattr(cls, name, None) is not getattr(pl.LightningModule, name)]
    return {name: _handing_on(name) for name in defined}


def _handing_on(name: str) -> Callable[..., Any]:
    def hook(self: OwnLightning, *arguments: Any, **options: Any) -> Any:  # noqa: ANN401 (as Lightning has it)
        theirs = getattr(self.net, name)
        if name in INSTEAD or not hasattr(OwnLightning, name):
            return theirs(*arguments, **options)
        getattr(super(type(self), self), name)(*arguments, **options)
        return theirs(*arguments, **options)

    hook.__name__ = name
    return hook


class KeepLogged(pl.Callback):
    """Callback that keeps what an own module has logged in the history, before others look there for the best epoch."""

    @override
    def on_validation_end(self, trainer: pl.Trainer, model: pl.LightningModule) -> None:
        if isinstance(model, OwnLightning) and not trainer.sanity_checking:
            model.keep_logged(trainer.callback_metrics)

    on_train_epoch_end = on_test_end = on_validation_end
