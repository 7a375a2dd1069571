"""Same seed, same bits: seeds, thread count, and the random state of each step drawn from where the step stands."""

from __future__ import annotations

import random
import sys
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from typing_extensions import override

from src.runtime.randomness import Randomness
from src.runtime.stateless_random import mix


def seed_everything(seed: int, threads: int | None) -> int:
    """Seed Python, NumPy and torch, pin torch's threads, and return their number (another number, other bits)."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)
    if threads is not None:
        torch.set_num_threads(threads)
    return torch.get_num_threads()


class StepRandomness(pl.Callback):
    """Callback that draws the random state of each training step from (seed, epoch, batch, rank).

    Dropout and noise then do not depend on what ran before, so a run that was cut and resumed equals the one that was
    not. What else a user's own module draws from is `OwnRandomness`' business.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self._epoch: tuple[int, int] | None = None  # (epoch, what it makes of the seed)

    @override
    def on_train_batch_start(
        self, trainer: pl.Trainer, model: pl.LightningModule, batch: object, batch_idx: int
    ) -> None:
        epoch = trainer.current_epoch
        if self._epoch is None or self._epoch[0] != epoch:
            self._epoch = epoch, mix(self.seed, epoch)
        seed = mix(batch_idx, trainer.global_rank, state=self._epoch[1]) >> 1
        torch.default_generator.manual_seed(seed)
        kind = model.device.type
        if kind == "cuda":
            torch.cuda.manual_seed(seed)
        elif kind == "mps":
            torch.mps.manual_seed(seed)


class OwnRandomness(pl.Callback):
    """Callback that does the same for what a module of the user's own draws from beside torch's default generators.

    That is NumPy's and Python's random state, and generators that the module keeps. Seeding them takes 17 us, so it is
    left out where the first step of a process has not drawn from them. If one is drawn from later all the same, every
    step from the next epoch on is seeded, and a line says so.

    Args:
        name: of the module, for that line.
        net: whose attributes are searched for generators.
    """

    def __init__(self, seed: int, name: str, net: torch.nn.Module) -> None:
        self.seed, self.name = seed, name
        self._randomness = Randomness(net)
        self._before: tuple[Any, ...] = ()
        self._draws: bool | None = None  # unknown until the first step has ended

    @override
    def on_train_batch_start(
        self, trainer: pl.Trainer, model: pl.LightningModule, batch: object, batch_idx: int
    ) -> None:
        if self._draws is not False:
            self._randomness.seed(self.seed, trainer.current_epoch, batch_idx, trainer.global_rank)
        if self._draws is None:
            self._before = self._state()

    @override
    def on_train_batch_end(self, trainer: pl.Trainer, *arguments: object, **options: object) -> None:
        if self._draws is None:
            self._draws = self._state() != self._before

    @override
    def on_train_epoch_end(self, trainer: pl.Trainer, model: pl.LightningModule) -> None:
        if self._draws is False and self._state() != self._before:
            self._draws = True
            print(
                f"model: {self.name} draws random numbers from elsewhere than torch in some steps only: a run that is "
                f"resumed within epoch {trainer.current_epoch + 1} will differ from one that was not cut",
                file=sys.stderr,
            )

    def _state(self) -> tuple[Any, ...]:
        return self._randomness.state()[1:]  # torch's own is StepRandomness' business

    @override
    def state_dict(self) -> dict[str, Any]:
        return {"draws": self._draws}

    @override
    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._draws = state["draws"]
