"""Rows of a part read a few at a time, so that data need not fit in memory."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

Split = Mapping[str, Any]  # of tensors (N, ...), or of columns that are read by `column[index]`
_ELEMENTS = 1 << 22  # numbers read at once


def pieces(column: Any, rows: int | None = None) -> Iterator[tuple[Tensor, Tensor]]:
    """The numbers (B,) and values (B, ...) of all rows of a column, or of so many in even steps, a few at a time."""
    index = spread(len(column), len(column) if rows is None else rows)
    for some in index.split(max(1, _ELEMENTS // max(1, math.prod(column.shape[1:])))):
        yield some, column[some]


def spread(n: int, most: int) -> Tensor:
    """Up to `most` of n row numbers, in even steps, the first and the last among them."""
    return torch.arange(n) if most >= n else torch.linspace(0, n - 1, most, dtype=torch.float64).long()


def in_split(split: str, row: int) -> str:
    """Name a row whose data has no better name for it."""
    return f"{split} row {row}"
