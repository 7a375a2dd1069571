"""New rows for a trained model: read as its spec says, in the order of the file, some at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from src.spec import DataSpec


@dataclass
class Rows:
    """A batch of new rows: columns that identify them, and the model's input (B, ...)."""

    names: dict[str, list[Any]]
    input: Tensor


@dataclass
class Inputs:
    """New rows for a trained model. `notes` (messages for the user) are complete once all rows were read."""

    spec: DataSpec
    notes: list[str] = field(default_factory=list)

    def batches(self, size: int) -> Iterator[Rows]:
        """Iterate over all rows in order, at most `size` at a time."""
        raise NotImplementedError
