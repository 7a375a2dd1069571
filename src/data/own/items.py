"""Items of a dataset of a user's own, whatever form they have, as rows of columns that are read when asked for."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from src.data.core.splits import spread
from src.errors import UserError

INPUTS = ("input", "inputs", "x", "image", "images", "pixel_values", "features", "data")
TARGETS = ("target", "targets", "y", "label", "labels")
_DIGESTED = 2_000


class Dataset(Protocol):
    """A dataset as torch has them: items by number, and how many there are."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> object: ...


class Items:
    """Items of a dataset as tensors of one form with their targets.

    Args:
        dataset: its items are pairs (input, target), dicts with names such as those of `INPUTS` and `TARGETS`, or
            inputs alone. An input is a tensor, an array, a number or a picture of PIL.
        name: what messages call it.

    Attributes:
        is_picture: whether an input is bytes of one or three channels.

    Raises:
        UserError: no items, or ones that are none of this.
    """

    def __init__(self, dataset: Dataset, name: str) -> None:
        self.dataset, self.name = dataset, name
        if not len(dataset):
            raise UserError(f"data: {name} has no items")
        first, target = self._read(0)
        self.shape, self.dtype = tuple(first.shape), first.dtype
        self.has_target = target is not None
        self.is_picture = first.dtype == torch.uint8 and first.ndim == 3 and first.shape[0] in (1, 3)

    def input(self, row: int) -> Tensor:
        """Input of an item.

        Raises:
            UserError: its form is not that of the first one; both are named.
        """
        found, _ = self._read(row)
        if tuple(found.shape) != self.shape or found.dtype != self.dtype:
            own, first = (_form(*form) for form in ((found.dtype, found.shape), (self.dtype, self.shape)))
            raise UserError(f"data: item {row} of {self.name} is {own}, item 0 is {first}: all need one form")
        return found

    def targets(self) -> list[object]:
        """Target of each item; of the dataset's own list where it keeps one, else all items are read for it."""
        kept = getattr(self.dataset, "targets", None)
        if isinstance(kept, Tensor | np.ndarray | list | tuple) and len(kept) == len(self.dataset):
            values = list(kept)
        else:
            values = [self._read(row)[1] for row in range(len(self.dataset))]
        return [value.item() if isinstance(value, Tensor | np.ndarray | np.generic) else value for value in values]

    def _read(self, row: int) -> tuple[Tensor, object]:
        """Input and target of an item; None where it has no target."""
        item = self.dataset[row]
        where = f"data: item {row} of {self.name}"
        if isinstance(item, Mapping):
            given = {str(key).lower(): value for key, value in item.items()}
            name = next((key for key in INPUTS if key in given), None)
            if name is None:
                raise UserError(f"{where} has {', '.join(given)}: call its input `input`, its target `target`")
            return _tensor(given[name], where), next((given[key] for key in TARGETS if key in given), None)
        if not isinstance(item, tuple | list):
            return _tensor(item, where), None
        if len(item) != 2:
            raise UserError(f"{where} has {len(item)} parts: a pair (input, target) is needed")
        return _tensor(item[0], where), item[1]


def _tensor(value: object, where: str) -> Tensor:
    """An input as float32, or a picture as uint8 with its channels first."""
    try:
        found = value.detach().cpu() if isinstance(value, Tensor) else torch.from_numpy(np.array(value))
    except (TypeError, ValueError):
        kind = type(value).__name__
        raise UserError(f"{where} has a {kind} as input: a tensor, an array or a picture is needed") from None
    if found.dtype != torch.uint8:
        return found.float()
    if found.ndim == 2:
        return found.unsqueeze(0)
    last = found.ndim == 3 and found.shape[0] not in (1, 3) and found.shape[2] in (1, 3)
    return found.permute(2, 0, 1) if last else found


def _form(dtype: torch.dtype, shape: Sequence[int]) -> str:
    return f"{str(dtype).removeprefix('torch.')} {tuple(shape)}"


class ItemColumn:
    """Column of inputs; an item is read anew whenever it is asked for."""

    in_memory = False

    def __init__(self, items: Items, rows: Tensor | None = None) -> None:
        self.items = items
        self.rows = torch.arange(len(items.dataset)) if rows is None else rows
        self.shape = (len(self.rows), *items.shape)
        self.dtype = items.dtype

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: Tensor) -> Tensor:
        return torch.stack([self.items.input(row) for row in self.rows[index].tolist()])

    def subset(self, index: Tensor) -> ItemColumn:
        """Column of the rows index (N,), none of them read yet."""
        return ItemColumn(self.items, self.rows[index])

    def digest(self) -> bytes:
        """sha256 of up to 2,000 rows spread evenly."""
        rows = self[spread(len(self), _DIGESTED)]
        return hashlib.sha256(rows.contiguous().numpy().data.cast("B")).digest()
