"""Loaders of a LightningDataModule: the datasets, collate_fns and samplers that they bring."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytorch_lightning as pl
import torch
from lightning_fabric.utilities.exceptions import MisconfigurationException
from pytorch_lightning.utilities.model_helpers import is_overridden
from torch import Tensor
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    DistributedSampler,
    RandomSampler,
    SequentialSampler,
    default_collate,
)
from typing_extensions import override

from src.data.core.samplers import ORDER, EpochSampler
from src.data.own.items import Collate
from src.errors import UserError
from src.runtime.randomness import Randomness

HOOKS = ("on_before_batch_transfer", "transfer_batch_to_device", "on_after_batch_transfer")


@dataclass
class Loaded:
    """Rows of a split, and how a loader of theirs serves them.

    Attributes:
        rows: a dataset, or arrays and the like.
        collate: makes a batch of a list of items; None: they are stacked.
        sampler: gives row numbers, or lists of them; None: all rows.
        shuffle: without a sampler, whether they are in random order in training.
        options: of `DataModule` that the loader sets.
        is_batched: whether the sampler gives lists.
    """

    rows: Any
    collate: Collate | None = None
    sampler: Any = None
    shuffle: bool = True
    options: dict[str, Any] = field(default_factory=dict)
    is_batched: bool = False


def loaded(loader: Any, name: str) -> Loaded:  # noqa: ANN401 (whatever a user's own module returns)
    """What a loader brings.

    Raises:
        UserError: it is none of torch, or gives batches of which the items are not known.
    """
    if not isinstance(loader, DataLoader):
        if isinstance(loader, list | tuple | dict):
            raise UserError(f"data: {name} gives {len(loader)} loaders of a split: give one, of a ConcatDataset")
        raise UserError(f"data: {name} gives a {type(loader).__name__} as loader, not a DataLoader of torch")
    own_batches: Any = loader.batch_sampler
    streams = not hasattr(loader.dataset, "__len__")
    if own_batches is None and not streams:
        raise UserError(f"data: the loader of {name} has batch_size=None: let its dataset give items, not batches")
    found = Loaded(loader.dataset, None if loader.collate_fn is default_collate else loader.collate_fn)
    if streams:
        found.options = {"batch_size": loader.batch_size} if loader.batch_size else {}
        return found
    if type(own_batches) is not BatchSampler:
        found.sampler, found.is_batched = own_batches, True
        return found
    found.options = {"batch_size": own_batches.batch_size, "drop_last": own_batches.drop_last}
    sampler: Any = own_batches.sampler
    if isinstance(sampler, DistributedSampler):
        found.shuffle = sampler.shuffle
    elif type(sampler) is SequentialSampler:
        found.shuffle = False
    elif type(sampler) is not RandomSampler or sampler.replacement or len(sampler) != len(loader.dataset):  # type: ignore[arg-type]
        found.sampler = sampler
    return found


def of_module(made: pl.LightningDataModule, name: str) -> dict[str, Loaded]:
    """What the loaders of a data module bring, by split.

    Raises:
        UserError: it has no loader for training, or changes batches where they are moved to the device.
    """
    for hook in HOOKS:
        if is_overridden(hook, made, pl.LightningDataModule):
            raise UserError(
                f"data: {name} has {hook}, which is not called here: do the same in its dataset or its collate_fn, or "
                "in the training_step of a LightningModule"
            )
    made.prepare_data()
    made.setup("fit")
    found = {}
    for split in ("train", "val", "test"):
        if split == "test":
            made.setup("test")
        with contextlib.suppress(MisconfigurationException):  # a module without such a loader
            loader = getattr(made, f"{split}_dataloader")()
            if loader is not None and not (isinstance(loader, list) and not loader):
                found[split] = loaded(loader[0] if isinstance(loader, list) and len(loader) == 1 else loader, name)
    if "train" not in found:
        raise UserError(f"data: {name} has no train_dataloader")
    return found


class AsTheyStand(EpochSampler):
    """Rows of a training split in their own order; batches are copies all the same, which a step may write into."""

    @override
    def order(self, epoch: int) -> Tensor:
        return torch.arange(self.n)


class GivenOrder(EpochSampler):
    """Order of a sampler of a user's own, of torch's kind: what it draws is a function of (seed, epoch).

    Args:
        sampler: gives row numbers of the dataset, or lists of them, which then are the batches.
        rows: of the dataset, the rows (N,) of the training split; others that the sampler gives are passed over.
        count: of all rows of the dataset.
        options: of an EpochSampler.

    Raises:
        UserError: it gives no row of the training split.
    """

    def __init__(self, sampler: Any, rows: Tensor, count: int, batch_size: int, **options: Any) -> None:  # noqa: ANN401
        self._sampler, self._place = sampler, torch.full((count,), -1)
        self._place[rows] = torch.arange(len(rows))
        self._randomness = Randomness(sampler)
        self._given: list[Any] = []
        super().__init__(count, batch_size, **options)
        first = self._drawn(0)
        self.is_restorable = first == self._drawn(0)
        self._in_batches = isinstance(first[0], list)
        if self._in_batches:
            self._length = len(first)
        else:
            super().__init__(len(first), batch_size, **options)
        self._drawn_rows = len(first)

    def _drawn(self, epoch: int) -> list[Any]:
        """Places in the training split of the rows that the sampler gives in an epoch, or of each of its batches."""
        with self._randomness.set_apart():
            self._randomness.seed(self.seed, ORDER, epoch)
            if hasattr(self._sampler, "set_epoch"):
                self._sampler.set_epoch(epoch)
            found = [self._kept(one) for one in self._sampler]
        found = [one for one in found if one != [] and one != -1]
        if not found:
            raise UserError("data: its sampler gives no row of the training split")
        return found

    def _kept(self, one: Any) -> Any:  # noqa: ANN401 (a row number or a list of them)
        try:
            if isinstance(one, Sequence | Tensor) and not (isinstance(one, Tensor) and not one.ndim):
                return [place for place in self._place[torch.as_tensor(one)].tolist() if place >= 0]
            return int(self._place[int(one)])
        except (IndexError, TypeError, ValueError):
            raise UserError(f"data: its sampler gives {one!r}, rows are 0 to {len(self._place) - 1}") from None

    def _of_epoch(self, epoch: int) -> list[Any]:
        """As many as in the first epoch, from the beginning again where there are fewer."""
        found = self._drawn(epoch)
        return [found[i % len(found)] for i in range(self._drawn_rows)]

    @override
    def order(self, epoch: int) -> Tensor:
        return torch.tensor(self._of_epoch(epoch))

    @override
    def batches(self, epoch: int, first: int = 0) -> Iterator[Tensor]:
        if not self._in_batches:
            yield from super().batches(epoch, first)
            return
        for rows in self._of_epoch(epoch)[first:]:
            low, high = (len(rows) * r // self.world_size for r in (self.rank, self.rank + 1))
            yield torch.tensor(rows[low:high], device=self.device)
