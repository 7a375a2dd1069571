"""Items of a dataset of a user's own, whatever form they have, as rows of columns that are read when asked for."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from src.data.core.splits import spread
from src.errors import UserError

INPUTS = ("input", "inputs", "x", "image", "images", "pixel_values", "features", "data")
TARGETS = ("target", "targets", "y", "label", "labels")
_DIGESTED = 2_000


class Sized(Protocol):
    """A dataset as torch has them: rows by number, and how many there are."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Any: ...


class Items:
    """Inputs of a dataset's items, as tensors of one shape.

    Args:
        dataset: its items are pairs (input, target), dicts with names such as those of `INPUTS` and `TARGETS`, or
            inputs alone. An input is a tensor, an array, a number or a picture of PIL.
        name: as messages call it.

    Attributes:
        is_picture: whether inputs are bytes of one or three channels.

    Raises:
        UserError: no items, or ones that are none of this.
    """

    def __init__(self, dataset: Sized, name: str) -> None:
        self.dataset, self.name = dataset, name
        if not len(dataset):
            raise UserError(f"data: {name} has no items")
        first, target = self.item(0)
        self.shape, self.dtype = tuple(first.shape), first.dtype
        self.has_target = target is not None
        self.is_picture = first.dtype == torch.uint8 and first.ndim == 3 and first.shape[0] in (1, 3)

    def item(self, row: int) -> tuple[Tensor, Any]:
        """Input and target of an item; None where it has no target."""
        item = self.dataset[row]
        if isinstance(item, Mapping):
            given = {str(key).lower(): value for key, value in item.items()}
            name = next((key for key in INPUTS if key in given), None)
            if name is None:
                raise UserError(f"data: item {row} of {self.name} has {', '.join(given)}: name its input `input`")
            target = next((given[key] for key in TARGETS if key in given), None)
            return self._tensor(given[name], row), target
        if isinstance(item, tuple | list) and len(item) == 2:
            return self._tensor(item[0], row), item[1]
        if isinstance(item, tuple | list):
            raise UserError(f"data: item {row} of {self.name} has {len(item)} parts: a pair (input, target) is needed")
        return self._tensor(item, row), None

    def input(self, row: int) -> Tensor:
        """Input of an item, which has the form of the first one.

        Raises:
            UserError: it has another; both are named.
        """
        found, _ = self.item(row)
        if tuple(found.shape) != self.shape or found.dtype != self.dtype:
            raise UserError(
                f"data: item {row} of {self.name} is {_form(found.dtype, found.shape)}, item 0"
                f" {_form(self.dtype, self.shape)}: all need one form"
            )
        return found

    def _tensor(self, value: Any, row: int) -> Tensor:
        if isinstance(value, Tensor):
            found = value.detach().cpu()
        else:
            try:
                array = np.asarray(value)
                found = torch.from_numpy(np.ascontiguousarray(array))
            except (TypeError, ValueError):
                kind = type(value).__name__
                raise UserError(
                    f"data: item {row} of {self.name} has a {kind} as input: a tensor, an array or a picture is needed"
                ) from None
        if found.dtype == torch.uint8 and found.ndim == 2:
            found = found.unsqueeze(0)
        elif (
            found.dtype == torch.uint8 and found.ndim == 3 and found.shape[0] not in (1, 3) and found.shape[2] in (1, 3)
        ):
            found = found.permute(2, 0, 1)
        return found if found.dtype == torch.uint8 else found.float()

    def targets(self) -> list[Any]:
        """Target of each item, of the dataset's own list where it keeps one."""
        kept = getattr(self.dataset, "targets", None)
        if isinstance(kept, Tensor | np.ndarray | Sequence) and len(kept) == len(self.dataset):
            values: Any = kept
        else:
            values = [self.item(row)[1] for row in range(len(self.dataset))]
        return [value.item() if isinstance(value, Tensor | np.ndarray | np.generic) else value for value in values]


def _form(dtype: torch.dtype, shape: Sequence[int]) -> str:
    return f"{str(dtype).removeprefix('torch.')} {tuple(shape)}"


class ItemColumn:
    """Column of inputs; each item is read anew whenever it is asked for."""

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
        digest = hashlib.sha256()
        rows = self[spread(len(self), _DIGESTED)]
        digest.update(rows.contiguous().numpy().data.cast("B"))
        return digest.digest()
