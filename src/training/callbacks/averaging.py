"""Weight averaging: an exponential moving average, or the mean over the last epochs, evaluated in place of the weights.

Polyak and Juditsky 1992; stochastic weight averaging, Izmailov et al. 2018, arXiv:1803.05407.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import pytorch_lightning as pl
import torch
from torch import Tensor
from typing_extensions import override

from src.runtime.compat import torch as compat
from src.runtime.ranges import Share, checked

if TYPE_CHECKING:
    from src.models.base import Model


class WeightAveraging(pl.Callback):
    """Callback that keeps averaged weights (and normalisation statistics) beside the trained ones.

    Validation, the best checkpoint and the test use the average; training goes on with the weights themselves.

    Args:
        kind: `none`; `ema`, after each optimizer step; `swa`, the mean of the epochs' last weights.
        decay: of ema; reached gradually, min(decay, (1 + n) / (10 + n)) after n steps.
        start_epoch: first epoch that counts, from 0.
    """

    @checked("weight_averaging")
    def __init__(
        self, *, kind: Literal["none", "ema", "swa"] = "none", decay: Share = 0.999, start_epoch: int = 0
    ) -> None:
        self.kind = kind
        self.decay = decay
        self.start_epoch = start_epoch
        self.updates = 0
        self._average: dict[str, Tensor] = {}
        self._trained: dict[str, Tensor] = {}
        self._last_step = 0

    @staticmethod
    def _tensors(model: Model) -> dict[str, Tensor]:
        return {name: t for name, t in model.state_dict().items() if t.is_floating_point()}

    @override
    def on_train_start(self, trainer: pl.Trainer, model: Model) -> None:
        self._last_step = trainer.global_step
        self._average = {name: t.to(model.device) for name, t in self._average.items()}

    @torch.no_grad()
    @override
    def on_train_batch_end(self, trainer: pl.Trainer, model: Model, *args: object, **kwargs: object) -> None:
        stepped = trainer.global_step != self._last_step
        self._last_step = trainer.global_step
        if trainer.current_epoch < self.start_epoch or not (stepped if self.kind == "ema" else trainer.is_last_batch):
            return
        current = self._tensors(model)
        if not self._average:
            self._average = {name: t.clone() for name, t in current.items()}
        n = self.updates
        weight = 1 / (n + 1) if self.kind == "swa" else 1 - min(self.decay, (1 + n) / (10 + n))
        compat.lerp_([*self._average.values()], [*current.values()], weight)
        self.updates += 1

    def evaluation_state(self, model: Model) -> dict[str, Tensor]:
        """The model's state dict with averaged values where there are any."""
        return {**model.state_dict(), **self._average}

    @torch.no_grad()
    @override
    def on_validation_start(self, trainer: pl.Trainer, model: Model) -> None:
        if self._average:
            current = self._tensors(model)
            self._trained = {name: t.clone() for name, t in current.items()}
            compat.copy_([*current.values()], [*self._average.values()])

    @torch.no_grad()
    @override
    def on_validation_end(self, trainer: pl.Trainer, model: Model) -> None:
        if self._trained:
            compat.copy_([*self._tensors(model).values()], [*self._trained.values()])
            self._trained = {}

    @override
    def state_dict(self) -> dict[str, Any]:
        return {"updates": self.updates, "average": dict(self._average)}

    @override
    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.updates, self._average = state["updates"], dict(state["average"])
