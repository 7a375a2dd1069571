"""Random changes to training batches: what a dataset takes as `augment`, and how it is applied."""

from __future__ import annotations

from typing import cast

from torch import Tensor

from src.data.core.loader import Batch


class RandomChange:
    """Base of random changes to training batches."""

    @property
    def active(self) -> bool:
        """True if any change is switched on."""
        raise NotImplementedError


class InputChange(RandomChange):
    """Base of random changes to the inputs of a batch."""

    def __call__(self, images: Tensor, index: Tensor, *, seed: int, epoch: int) -> Tensor:
        """Changed copy of inputs (B, ...) whose rows in the dataset are index (B,)."""
        raise NotImplementedError


class BatchChange(RandomChange):
    """Base of random changes to a batch whose other columns follow its inputs."""

    def __call__(self, batch: Batch, *, seed: int, epoch: int) -> Batch:
        """Changed copy of a batch."""
        raise NotImplementedError


def augmented(augment: RandomChange, seed: int, batch: Batch, epoch: int) -> Batch:
    """Changed copy of a batch: its boxes follow where it has some."""
    if "boxes" in batch:
        return cast(BatchChange, augment)(batch, seed=seed, epoch=epoch)
    return {**batch, "input": cast(InputChange, augment)(batch["input"], batch["index"], seed=seed, epoch=epoch)}
