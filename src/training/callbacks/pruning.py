"""Pruning: a search gives up a run that looks bad beside others after a validation."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytorch_lightning as pl
from typing_extensions import override

if TYPE_CHECKING:
    from src.models.base import Model


class Pruning(pl.Callback):
    """Callback that ends training at the end of a validation, as if the run had come to its last epoch.

    Args:
        metric: what the run is judged by.
        gives_up: of (validations so far, value), whether to end.
        update: takes `pruned`, the epoch after which it was.
        pruned: that epoch, where it was before and the run is only to be brought to its end; 0: it was not.
    """

    def __init__(
        self, metric: str, gives_up: Callable[[int, float], bool], update: Callable[..., None], pruned: int = 0
    ) -> None:
        self.metric, self.gives_up, self.update, self.pruned = metric, gives_up, update, pruned

    @override
    def on_train_start(self, trainer: pl.Trainer, model: Model) -> None:
        if self.pruned:
            trainer.should_stop = True

    @override
    def on_validation_end(self, trainer: pl.Trainer, model: Model) -> None:
        points = model.history.get(self.metric)
        if trainer.sanity_checking or not points:
            return
        epoch = trainer.current_epoch + 1
        if self.gives_up(len(points), points[-1][1]) and epoch != trainer.max_epochs:
            self.update(pruned=epoch)
            trainer.should_stop = True
