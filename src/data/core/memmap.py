"""Rows in a temporary file, as a column: for tables that do not fit into memory once they are encoded."""

from __future__ import annotations

import hashlib
import tempfile
from typing import IO

import numpy as np
import torch
from torch import Tensor

_CHUNK = 1 << 16  # rows hashed at once


class MappedRows:
    """Rows (N, F) float32 in an unnamed file of the temporary folder (TMPDIR), which ends with the process.

    The file is mapped for one batch at a time: pages that stayed mapped would count as this process' memory.

    Args:
        rows, features: how many.
        file: that holds them already; None: a new one.
        chosen: the rows of it that count, by number; None: all.
    """

    in_memory = True  # the system keeps in memory what it can: workers would not help
    dtype = torch.float32

    def __init__(
        self, rows: int, features: int, *, file: IO[bytes] | None = None, chosen: np.ndarray | None = None
    ) -> None:
        if file is None:
            file = tempfile.TemporaryFile(prefix="labbook-rows-")  # noqa: SIM115  (it lives as long as the rows)
            file.truncate(max(1, rows * features * 4))
        self._file, self._size, self._chosen = file, (rows, features), chosen

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape (N, F) of all rows."""
        return (len(self), self._size[1])

    def __len__(self) -> int:
        return self._size[0] if self._chosen is None else len(self._chosen)

    def write(self, start: int, rows: Tensor) -> None:
        """Write rows (B, F) into the file, from row `start` on."""
        self._map()[start : start + len(rows)] = rows.numpy()

    def __getitem__(self, index: Tensor) -> Tensor:
        chosen = index.numpy() if self._chosen is None else self._chosen[index.numpy()]
        return torch.from_numpy(np.asarray(self._map()[chosen]))

    def subset(self, index: Tensor) -> MappedRows:
        """Column of the rows index (B,), in the same file."""
        chosen = index.numpy() if self._chosen is None else self._chosen[index.numpy()]
        return MappedRows(*self._size, file=self._file, chosen=chosen)

    def to(self, device: torch.device | str) -> Tensor:
        """Read all rows (N, F) into a tensor on a device."""
        return self[torch.arange(len(self))].to(device)

    def digest(self) -> bytes:
        """sha256 of the rows, read a chunk at a time."""
        digest = hashlib.sha256()
        for index in torch.arange(len(self)).split(_CHUNK):
            digest.update(self[index].numpy().data.cast("B"))
        return digest.digest()

    def _map(self) -> np.ndarray:
        return np.memmap(self._file, np.float32, mode="r+", shape=self._size)
