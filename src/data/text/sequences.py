"""Token sequences: a column of stretches of text, padded batch by batch, and batches of rows of like length."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from src.spec.tokenizer import PAD


class Sequences:
    """Sequences of token ids as a column (N, longest) of int64: stretches of one tensor, which may overlap.

    A batch is as wide as its longest sequence, or always `width`; what is shorter is padded at the end.

    Args:
        tokens: what all sequences are taken from (T,).
        starts, lengths: of each sequence (N,).
        width: of every batch; None: of its longest sequence.
    """

    dtype = torch.int64
    in_memory = True

    def __init__(self, tokens: Tensor, starts: Tensor, lengths: Tensor, width: int | None = None) -> None:
        self.tokens, self.starts, self.lengths, self.width = tokens, starts, lengths, width
        self.shape = (len(starts), width or int(lengths.max()))

    @classmethod
    def of(cls, sequences: Sequence[Sequence[int]]) -> Sequences:
        """Column of token id sequences of any lengths, at least one."""
        lengths = np.fromiter(map(len, sequences), np.int64, len(sequences))
        tokens = np.fromiter((token for one in sequences for token in one), np.int64, int(lengths.sum()))
        return cls(torch.from_numpy(tokens), torch.from_numpy(lengths.cumsum() - lengths), torch.from_numpy(lengths))

    @classmethod
    def windows(cls, tokens: Tensor, length: int, stride: int) -> Sequences:
        """Windows of `length` over a text (T,), `stride` apart; the last one ends with the text and may be shorter."""
        count = -(-max(0, len(tokens) - length) // stride) + 1
        starts = torch.arange(count) * stride
        return cls(tokens, starts, (len(tokens) - starts).clamp(max=length), length)

    def __len__(self) -> int:
        return len(self.starts)

    def __getitem__(self, index: Tensor) -> Tensor:
        lengths = self.lengths[index].unsqueeze(1)
        steps = torch.arange(self.width or int(lengths.max()), device=lengths.device)
        inside = steps < lengths
        place = (self.starts[index].unsqueeze(1) + steps).where(inside, 0)
        return self.tokens[place].where(inside, PAD)

    def subset(self, index: Tensor) -> Sequences:
        """Column of the rows index (N,), over the same tokens."""
        return Sequences(self.tokens, self.starts[index], self.lengths[index], self.width)

    def to(self, device: torch.device | str) -> Sequences:
        """Copy of the rows with all tensors on a device."""
        return Sequences(self.tokens.to(device), self.starts.to(device), self.lengths.to(device), self.width)

    def digest(self) -> bytes:
        """sha256 of the tokens and of the rows' starts and lengths."""
        content = (self.tokens, self.starts, self.lengths)
        return hashlib.sha256(b"".join(split.cpu().numpy().tobytes() for split in content)).digest()
