"""Token sequences: a column of stretches of text, padded batch by batch, and batches of rows of like length."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from src.data.loading import ORDER, EpochSampler, permutation
from src.errors import UserError
from src.randomness import mix
from src.text import PAD


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
        return Sequences(self.tokens, self.starts[index], self.lengths[index], self.width)

    def to(self, device: torch.device | str) -> Sequences:
        return Sequences(self.tokens.to(device), self.starts.to(device), self.lengths.to(device), self.width)

    def digest(self) -> bytes:
        content = (self.tokens, self.starts, self.lengths)
        return hashlib.sha256(b"".join(part.cpu().numpy().tobytes() for part in content)).digest()


class ByLength(EpochSampler):
    """Batches of rows of like length, so that little is padding; their order, and that of equally long rows, is random.

    The lengths of an epoch's batches are the same in every epoch, so the number of batches is too.

    Args:
        lengths: tokens of each row (N,).
        batch_size: most rows a step on each device.
        tokens: most tokens a step on each device, padding included; None for no such limit.

    Raises:
        UserError: a row is longer than `tokens`.
    """

    def __init__(
        self,
        lengths: Tensor,
        batch_size: int,
        *,
        seed: int,
        tokens: int | None = None,
        rank: int = 0,
        world_size: int = 1,
        device: torch.device | str = "cpu",
    ) -> None:
        options = {"rank": rank, "world_size": world_size, "device": device}
        super().__init__(len(lengths), batch_size, seed=seed, shuffle=True, **options)
        self._lengths = lengths.cpu().numpy()
        self._ends = self._cut(np.sort(self._lengths), tokens)
        self._length = len(self._ends)

    def _cut(self, ascending: np.ndarray, tokens: int | None) -> list[int]:
        """Where each step's rows end, in the order of length."""
        if tokens is not None and ascending[-1] > tokens:
            raise UserError(f"data.batch_tokens={tokens}: the longest row has {ascending[-1]} tokens")
        ends, start, n = [], 0, len(ascending)
        for end in range(1, n + 1):
            rows = end + 1 - start  # with one more
            full = rows > self.batch_size * self.world_size
            if end == n or full or (tokens is not None and rows * ascending[end] > tokens * self.world_size):
                if end - start < self.world_size and ends:  # too few for all ranks: to those before
                    ends[-1] = end
                else:
                    ends.append(end)
                start = end
        return ends

    def batches(self, epoch: int, first: int = 0) -> Iterator[Tensor]:
        order = permutation(self.n, mix(self.seed, ORDER, epoch)).numpy()
        order = order[np.argsort(self._lengths[order], kind="stable")]
        rows = torch.from_numpy(order).to(self.device)
        bounds = [0, *self._ends]
        for step in permutation(self._length, mix(self.seed, ORDER, epoch, 1)).tolist()[first:]:
            start, count = bounds[step], bounds[step + 1] - bounds[step]
            low, high = (start + count * r // self.world_size for r in (self.rank, self.rank + 1))
            yield rows[low:high]
