"""Same seed, same bits: seeds, thread count, and the random state of each step drawn from where the step stands."""

from __future__ import annotations

import random

import numpy as np
import pytorch_lightning as pl
import torch
from typing_extensions import override

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
    not. Randomness inside a step has to come from torch's default generators.
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
