"""Checkpoints that survive: plain data, written beside the old one, synced, then renamed over it."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from pickle import UnpicklingError
from typing import TYPE_CHECKING, Any

import pytorch_lightning as pl
import torch
from lightning_fabric.plugins.io.torch_io import TorchCheckpointIO
from pytorch_lightning.utilities.types import STEP_OUTPUT
from torch import Tensor
from torch.serialization import MAP_LOCATION
from typing_extensions import override

from src.data.core.loader import Loader
from src.errors import Interrupted, RunFailed, UserError
from src.runtime import output
from src.runtime.ranges import NonNegativeFloat, PositiveInt, checked
from src.runtime.signals import Signals

if TYPE_CHECKING:
    from src.models.base import Model
    from src.tasks.base import Batch


def save_atomically(content: dict[str, Any], path: Path) -> None:
    """Write a checkpoint under a temporary name in the same folder, sync it, then rename it over the previous one.

    Raises:
        RunFailed: it cannot be written; the previous file is as it was.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with output.replacing(path, synced=True) as temporary, open(temporary, "wb") as file:
            torch.save(content, file)
    except OSError as error:
        raise RunFailed(f"checkpoint {path}: {error.strerror or error}; the previous one is untouched") from error


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a whole checkpoint, its tensors left on the disk until they are used.

    Raises:
        UserError: it is cut short, or no checkpoint at all.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        content["state_dict"], content["loops"], content["labbook"]
    except (OSError, RuntimeError, EOFError, KeyError, TypeError, UnpicklingError) as error:
        raise UserError(
            f"checkpoint {path} is damaged or none at all: put a good copy there, or delete it to train from the start"
        ) from error
    return content


class AtomicCheckpointIO(TorchCheckpointIO):
    """Lightning's hook for reading and writing checkpoints; reading never unpickles code."""

    @override
    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: object = None) -> None:
        save_atomically(checkpoint, Path(path))

    @override
    def load_checkpoint(
        self, path: str | Path, map_location: MAP_LOCATION = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        return torch.load(path, map_location=map_location or "cpu", weights_only=True)


class Checkpoint(pl.callbacks.Checkpoint):
    """Callback that keeps `last.ckpt`, from which training goes on, and `best.ckpt`, the best weights so far.

    Best weights wait in memory until the next write, so that a net that trains an epoch in milliseconds does not spend
    its time on the disk. Of two epochs with an equal score the later one counts.

    Args:
        every_seconds: at least this long between two writes; the end of training and a signal write at once.
        every_n_steps: in addition after every so many optimizer steps.
    """

    @checked("checkpoint")
    def __init__(self, *, every_seconds: NonNegativeFloat = 60.0, every_n_steps: PositiveInt | None = None) -> None:
        self.every_seconds = every_seconds
        self.every_n_steps = every_n_steps
        self.directory = Path()
        self.signals = Signals()
        self.evaluation_state: Callable[[Model], dict[str, Tensor]] = lambda model: model.state_dict()
        self.before_save: Callable[[], None] = lambda: None
        self.best_score: float | None = None
        self.best_epoch = 0
        self._best: dict[str, Any] | None = None
        self._best_written = True
        self._written_at = time.monotonic()
        self._written_step = 0
        self._loader_state: dict[str, int] | None = None

    @property
    def last_path(self) -> Path:
        """File of the state that training resumes from."""
        return self.directory / "last.ckpt"

    @property
    def best_path(self) -> Path:
        """File of the weights with the best validation."""
        return self.directory / "best.ckpt"

    # the best weights ------------------------------------------------------------------------------------------------

    @override
    def on_validation_end(self, trainer: pl.Trainer, model: Model) -> None:
        points = model.history.get(model.monitor)
        if trainer.sanity_checking or not points:
            return
        epoch, score = points[-1]
        sign = 1 if model.monitor_mode == "max" else -1
        if self.best_score is None or sign * score >= sign * self.best_score:
            self.best_score, self.best_epoch = score, int(epoch)
            self._best = self._weights(trainer, model)
            self._best_written = False

    def _weights(self, trainer: pl.Trainer, model: Model) -> dict[str, Any]:
        state = {name: t.detach().cpu().clone() for name, t in self.evaluation_state(model).items()}
        return {
            "state_dict": state,
            "epoch": self.best_epoch,
            "global_step": trainer.global_step,
            "labbook": model.description() | {"monitor": model.monitor, "score": self.best_score},
        }

    def best_weights(self, model: Model) -> dict[str, Tensor] | None:
        """State dict of the best epoch, from memory or from this run's file; None where nothing was validated."""
        if self._best is None and self.best_path.exists():
            self._best = torch.load(self.best_path, map_location="cpu", weights_only=True)
        return None if self._best is None else self._best["state_dict"]

    # when to write ---------------------------------------------------------------------------------------------------

    @override
    def on_train_start(self, trainer: pl.Trainer, model: Model) -> None:
        self._written_at, self._written_step = time.monotonic(), trainer.global_step
        if self._loader_state is not None and trainer.train_dataloader is not None:
            trainer.train_dataloader.load_state_dict(self._loader_state)

    @override
    def on_train_batch_end(
        self, trainer: pl.Trainer, model: Model, outputs: STEP_OUTPUT, batch: Batch, batch_idx: int
    ) -> None:
        # The epoch's last batch waits for on_train_epoch_end: Lightning would skip that epoch's validation on resume.
        # In the middle of an accumulation the gradients so far would be lost.
        if trainer.is_last_batch or (batch_idx + 1) % trainer.accumulate_grad_batches:
            return
        # agreeing is a collective operation: with several ranks not after every batch
        if trainer.world_size == 1 or self.every_n_steps or batch_idx % 10 == 0:
            self._save_if_due(trainer)

    @override
    def on_train_epoch_end(self, trainer: pl.Trainer, model: Model) -> None:
        self._save_if_due(trainer)

    @override
    def on_train_end(self, trainer: pl.Trainer, model: Model) -> None:
        self.save(trainer)

    def _save_if_due(self, trainer: pl.Trainer) -> None:
        stop = self.signals.received
        steps = trainer.global_step - self._written_step
        due = bool(self.every_n_steps) and steps >= (self.every_n_steps or 0)
        late = time.monotonic() - self._written_at >= self.every_seconds
        if trainer.world_size > 1:
            # saving is a collective operation as well: all ranks or none
            stop = trainer.strategy.reduce_boolean_decision(bool(stop), all=False) and (stop or 15)
            late = trainer.strategy.reduce_boolean_decision(late, all=False)
        if stop or due or late:
            self.save(trainer)
        if stop:
            raise Interrupted(stop)

    def save(self, trainer: pl.Trainer) -> None:
        """Write what is new: the best weights first, so that `last` never knows of a best that is not on the disk."""
        self.before_save()
        if not self._best_written and self._best is not None and trainer.is_global_zero:
            save_atomically(self._best, self.best_path)
        self._best_written = True
        trainer.save_checkpoint(self.last_path)
        self._written_at, self._written_step = time.monotonic(), trainer.global_step

    # Lightning restores a loader's position only if nothing asked for the loader before, and a schedule that needs to
    # know the number of steps does ask: so the position is kept here as well.

    @override
    def on_save_checkpoint(self, trainer: pl.Trainer, model: Model, checkpoint: dict[str, Any]) -> None:
        if isinstance(trainer.train_dataloader, Loader):
            checkpoint["loader"] = trainer.train_dataloader.state_dict()

    @override
    def on_load_checkpoint(self, trainer: pl.Trainer, model: Model, checkpoint: dict[str, Any]) -> None:
        self._loader_state = checkpoint.get("loader")

    @override
    def state_dict(self) -> dict[str, Any]:
        return {"best_score": self.best_score, "best_epoch": self.best_epoch}

    @override
    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.best_score, self.best_epoch = state["best_score"], state["best_epoch"]
