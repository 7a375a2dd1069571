"""Rows that are read when they are asked for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, cast

import torch
from torch import Tensor


class Column(Protocol):
    """Rows of one kind that are read when they are asked for, since they do not fit in memory or into one shape."""

    @property
    def in_memory(self) -> bool:
        """Whether reading a batch is as good as indexing, so that workers would not help."""
        ...

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of a tensor that held all rows."""
        ...

    @property
    def dtype(self) -> torch.dtype:
        """Type of the values of all rows."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: Tensor) -> Tensor:
        """Read the rows index (B,) in its order, as one tensor (B, ...)."""
        ...

    def subset(self, index: Tensor) -> Column:
        """Column of the rows index (N,), none of them read yet."""
        ...

    def digest(self) -> bytes:
        """Hash of the rows: equal for the same rows in the same order."""
        ...


class MovableColumn(Column, Protocol):
    """Column that is `in_memory`, and so can move to a device."""

    def to(self, device: torch.device | str) -> Tensor | Column:
        """Copy with its rows on a device."""
        ...


Columns = Mapping[str, Tensor | Column]


def moved(column: Tensor | Column, device: torch.device | str) -> Tensor | Column:
    """Copy of a column, which is `in_memory`, with its rows on a device."""
    return cast("Tensor | MovableColumn", column).to(device)
