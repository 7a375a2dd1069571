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

STAGES = ("train", "validation", "test", "predict")
NEEDED = ("training_step", "configure_optimizers")
# hooks of a LightningModule that the trainer calls, and that are handed on to a user's own which defines them
HOOKS = (
    *("on_fit_start", "on_fit_end", "configure_model", "configure_callbacks"),
    *(f"on_{stage}{of}_{at}" for stage in STAGES for of in ("", "_epoch", "_batch") for at in ("start", "end")),
    *("on_before_zero_grad", "on_before_backward", "on_after_backward", "on_before_optimizer_step"),
    *("on_save_checkpoint", "on_load_checkpoint"),
)
EPOCH_ENDS = ("on_train_epoch_end", "on_validation_epoch_end", "on_test_epoch_end")
# what Lightning does itself, unless a module does it in its own way
INSTEAD = ("optimizer_step", "optimizer_zero_grad", "configure_gradient_clipping", "lr_scheduler_step", "backward")


class OwnLightning(OwnModule):
    """Base of the families of a user's own LightningModules: the module is `self.net`.

    Its steps are given pairs (input, target), the input in standard units. What it logs appears beside the task's own
    metrics; where a name is the same, it is the module's that counts. The task's metrics are taken of `forward`.
    """

    logs_metrics = True
    net: pl.LightningModule
    own_steps = True

    def __init__(self, spec: DataSpec, task: Task, **options: object) -> None:
        super().__init__(spec, task, **options)
        for name in NEEDED:
            if not is_overridden(name, self.net):
                raise UserError(f"model: {type(self).__name__} has no {name}, which a LightningModule needs")
        self.automatic_optimization = self.net.automatic_optimization
        self.metrics["train"] = EpochMetrics(task, only_loss=True)
        for module in self.net.modules():  # modules of Lightning inside it log through it as well
            if isinstance(module, pl.LightningModule):
                module.log = self.log  # type: ignore[assignment, method-assign]

    def pair(self, batch: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """A batch as the module's steps take it: inputs in standard units, and targets."""
        batch = self.task.prepare(batch, self.training)
        return self.taken(batch["input"]), self.task.target(batch)

    @override
    def training_step(self, batch: Mapping[str, Tensor], batch_idx: int) -> STEP_OUTPUT:
        output: STEP_OUTPUT = self.net.training_step(self.pair(batch), batch_idx)
        loss = output["loss"] if isinstance(output, Mapping) else output
        if loss is not None:
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


def hooks_of(cls: type[pl.LightningModule]) -> dict[str, Callable[..., Any]]:
    """Methods by which an `OwnLightning` hands Lightning's hooks on to a module of this class."""
    names = [name for name in HOOKS + INSTEAD if getattr(cls, name) is not getattr(pl.LightningModule, name)]
    return {name: _handing_on(name) for name in names}


def _handing_on(name: str) -> Callable[..., Any]:
    own = getattr(OwnLightning, name)  # this project's part of the hook, or Lightning's, which does nothing

    def hook(self: OwnLightning, *arguments: Any, **options: Any) -> Any:  # noqa: ANN401 (as Lightning's own)
        if name not in (*INSTEAD, *EPOCH_ENDS):
            own(self, *arguments, **options)
        result = getattr(self.net, name)(*arguments, **options)
        if name in EPOCH_ENDS:  # reports what the module has logged until then
            own(self, *arguments, **options)
        return result

    hook.__name__ = name
    return hook
