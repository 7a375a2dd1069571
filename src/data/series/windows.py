"""Windows over a series, as a column: stretches of one tensor that may overlap, cut out when they are asked for."""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor


class Windows:
    """Stretches of a series as a column (N, length, F), all of them views of the same values until a batch is read.

    Args:
        values: the whole series (T, F).
        starts: first step of each window (N,).
        length: steps of a window.
    """

    in_memory = True

    def __init__(self, values: Tensor, starts: Tensor, length: int) -> None:
        self.values, self.starts, self.length = values, starts, length
        self.shape = (len(starts), length, values.shape[1])
        self.dtype = values.dtype

    def __len__(self) -> int:
        return len(self.starts)

    def __getitem__(self, index: Tensor) -> Tensor:
        steps = torch.arange(self.length, device=self.starts.device)
        return self.values[self.starts[index].unsqueeze(1) + steps]

    def subset(self, index: Tensor) -> Windows:
        """Column of the windows index (N,), over the same values."""
        return Windows(self.values, self.starts[index], self.length)

    def to(self, device: torch.device | str) -> Windows:
        """Copy of the windows with all tensors on a device."""
        return Windows(self.values.to(device), self.starts.to(device), self.length)

    def digest(self) -> bytes:
        """sha256 of the values and of the windows' starts."""
        content = (self.values.contiguous(), self.starts)
        return hashlib.sha256(b"".join(split.cpu().numpy().tobytes() for split in content)).digest()
