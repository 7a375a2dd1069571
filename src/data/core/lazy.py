"""Rows that are read when they are asked for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import torch
from torch import Tensor


class Column(Protocol):
    """Rows of one kind that are read when they are asked for, since they do not fit in memory or into one shape.

    Attributes:
        shape, dtype: as those of a tensor that held all rows.
        in_memory: whether reading a batch is as good as indexing, so that workers would not help.
    """

    @property
    def in_memory(self) -> bool: ...

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def dtype(self) -> torch.dtype: ...

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
    """A column that is `in_memory`."""

    def to(self, device: torch.device | str) -> Tensor | Column:
        """Copy with its rows on a device."""
        ...


Columns = Mapping[str, Tensor | Column]
