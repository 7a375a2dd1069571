"""Lightning's loop over an epoch's batches, and the private members that `src/training/loop.py` needs of it.

Without one of them, or with a version that was not tested, a run takes Lightning's own steps: the same result, but
slower on a small net.
"""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl
from packaging.specifiers import SpecifierSet
from pytorch_lightning.loops import training_epoch_loop
from pytorch_lightning.utilities import rank_zero_only

TESTED = ">=2.6.6,<2.7"  # of pytorch-lightning

# what a loop over an epoch derives from; `object` where this version has none, of which `unsuitable` tells
TrainingEpochLoop: Any = getattr(training_epoch_loop, "_TrainingEpochLoop", object)


def unsuitable(trainer: pl.Trainer) -> str | None:
    """The reason why this Lightning's loop must not be replaced, as part of a sentence; None where it can be.

    A version that was not tested counts as one: it may take its steps in another order without any error.
    """
    if not SpecifierSet(TESTED).contains(pl.__version__, prereleases=True):
        return f"pytorch-lightning {pl.__version__} is not among the versions tested, {TESTED}"
    loop = trainer.fit_loop.epoch_loop
    connector = getattr(trainer, "_logger_connector", None)
    members = {
        "training_epoch_loop": (training_epoch_loop, ("_TrainingEpochLoop",)),
        "Trainer": (trainer, ("_logger_connector", "_val_check_time_interval")),
        "Trainer._logger_connector": (connector, ("on_batch_end", "update_train_step_metrics", "_first_loop_iter")),
        "epoch_loop": (loop, ("_results", "_batches_that_stepped", "batch_progress", "scheduler_progress")),
        "LightningModule": (pl.LightningModule(), ("_current_fx_name",)),
    }
    for owner, (thing, names) in members.items():
        for name in names:
            if not hasattr(thing, name):
                return f"pytorch-lightning {pl.__version__} has no {owner}.{name}"
    return None


def enter_training_step(model: pl.LightningModule) -> None:
    """Has `self.log` take `training_step` for its caller."""
    model._current_fx_name = "training_step"


def validates_by_time(trainer: pl.Trainer) -> bool:
    """True if validation is due after so many minutes (`val_check_interval` as a duration)."""
    return getattr(trainer, "_val_check_time_interval") is not None  # noqa: B009 (set outside the class)


def begin_batch(trainer: pl.Trainer, loop: Any, batch: Any) -> None:
    """Set what `self.log` asks about a batch, as the logger connector's `on_batch_start` does."""
    connector, results = trainer._logger_connector, loop._results
    connector._first_loop_iter = connector._first_loop_iter is None
    results.batch, results.batch_size, results.dataloader_idx = batch, None, None


def logged(loop: Any) -> int:
    """Number of values that `self.log` has given this loop."""
    return len(loop._results)


def hand_on_logged(trainer: pl.Trainer) -> None:
    """Hands what `self.log` was given in a step to the loggers, as Lightning's own step does at its end."""
    trainer._logger_connector.on_batch_end()
    trainer._logger_connector.update_train_step_metrics()


def count_batch(loop: Any) -> None:
    """Counts a batch after which nothing else is due."""
    loop._batches_that_stepped += 1


def own_rank() -> int:
    """Number of this process among those that train together, from 0 on."""
    rank: int = rank_zero_only.rank  # type: ignore[attr-defined, unused-ignore]  # set as Lightning is imported
    return rank
