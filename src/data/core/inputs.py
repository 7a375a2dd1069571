"""New rows for a trained model: read as its spec says, in the order of the file, some at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from src.spec import DataSpec


@dataclass
class Rows:
    """Some rows: the columns that tell which they are, and what the model takes (B, ...)."""

    names: dict[str, list[Any]]
    input: Tensor


@dataclass
class Unseen:
    """Rows of a source that a model has not seen. `notes` are complete once all were read."""

    spec: DataSpec
    notes: list[str] = field(default_factory=list)

    def batches(self, size: int) -> Iterator[Rows]:
        """All rows, in order, at most `size` at a time."""
        raise NotImplementedError
