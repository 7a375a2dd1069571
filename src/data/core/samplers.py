"""Samplers: the order of rows as a function of (seed, epoch): shuffled, in order, by class, by length."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Sampler, SequentialSampler
from typing_extensions import override

from src.errors import UserError
from src.runtime.stateless_random import mix

_GROUPS, _CLASSES = 1, 2  # streams within the order's


ORDER = 1  # keeps the stream of permutations apart from others drawn from the same seed


class EpochSampler(Sampler[Tensor]):
    """Index batches of one epoch on one rank: int64 tensors (B,), a function of (seed, epoch) alone.

    A step's rows are dealt to the ranks in equal shares (sizes differ by at most one), so every rank has the same
    number of batches, and each row is served once an epoch. Where the rows left over at the end are fewer than the
    ranks, the last step takes them in. With `drop_last` only full batches are served.

    The epoch's order is moved to `device` once, so its batches cost no transfer.

    Epoch and resume position are read when the first batch is asked for, not at `iter()`: Lightning calls `iter()`
    ahead of `set_epoch()`.

    Raises:
        UserError: fewer rows than ranks, or `drop_last` leaves no batch.
    """

    def __init__(
        self,
        n: int,
        batch_size: int,
        *,
        seed: int,
        shuffle: bool,
        drop_last: bool = False,
        rank: int = 0,
        world_size: int = 1,
        device: torch.device | str = "cpu",
    ) -> None:
        step_rows = batch_size * world_size
        if n < world_size:
            raise UserError(f"{n} rows cannot be shared by {world_size} processes: use at most {n} (trainer.devices)")
        if drop_last and n < step_rows:
            raise UserError(f"drop_last leaves no batch: {n} rows, {step_rows} a step; lower data.batch_size")
        self.n = n
        self.batch_size = batch_size
        self.seed = seed
        self.shuffle = shuffle
        self.rank = rank
        self.world_size = world_size
        self.device = device
        self.epoch = 0
        self._rows = n // step_rows * step_rows if drop_last else n
        self._length = n // step_rows + (not drop_last and n % step_rows >= world_size)
        self._resume: tuple[int, int] | None = None

    def __len__(self) -> int:
        """Batches of a whole epoch on this rank, whatever a resumed epoch has left."""
        return self._length

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose order the next iteration serves."""
        self.epoch = epoch

    def resume(self, epoch: int, batch: int) -> None:
        """Let the next iteration, if it is of that epoch, start after `batch` batches."""
        self._resume = epoch, batch

    def begin(self) -> tuple[int, int]:
        """(epoch, first batch) of the iteration that starts now; a resume position is used up by it."""
        resume, self._resume = self._resume, None
        return self.epoch, resume[1] if resume is not None and resume[0] == self.epoch else 0

    def order(self, epoch: int) -> Tensor:
        """Order of all rows of an epoch, before they are dealt to the ranks: int64 (n,)."""
        return permutation(self.n, mix(self.seed, ORDER, epoch)) if self.shuffle else torch.arange(self.n)

    def batches(self, epoch: int, first: int = 0) -> Iterator[Tensor]:
        """Row numbers (B,) of this rank's batches of an epoch, from batch number `first` on."""
        order = self.order(epoch).to(self.device)
        step_rows = self.batch_size * self.world_size
        for step in range(first, self._length):
            start = step * step_rows
            rows = (self._rows if step == self._length - 1 else start + step_rows) - start
            yield order[start + rows * self.rank // self.world_size : start + rows * (self.rank + 1) // self.world_size]

    def __iter__(self) -> Iterator[Tensor]:
        yield from self.batches(*self.begin())


def permutation(n: int, key: int) -> Tensor:
    """Permutation by numpy, whose legacy stream never changes; torch's wakes its threads, which takes milliseconds."""
    return torch.from_numpy(np.random.RandomState([key & 0xFFFFFFFF, key >> 32]).permutation(n))


class InOrder(EpochSampler, SequentialSampler):  # type: ignore[misc]  # its items are rows (B,), not one number
    """An EpochSampler that does not shuffle; Lightning accepts nothing but a SequentialSampler as unshuffled."""

    def __init__(
        self, n: int, batch_size: int, *, rank: int = 0, world_size: int = 1, device: torch.device | str = "cpu"
    ) -> None:
        EpochSampler.__init__(
            self, n, batch_size, seed=0, shuffle=False, rank=rank, world_size=world_size, device=device
        )


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
        super().__init__(
            len(lengths), batch_size, seed=seed, shuffle=True, rank=rank, world_size=world_size, device=device
        )
        self._lengths = lengths.cpu().numpy()
        self._ends = self._cut(np.sort(self._lengths), tokens)
        self._length = len(self._ends)

    def _cut(self, ascending: np.ndarray, tokens: int | None) -> list[int]:
        """End of each step's rows, in the order of length."""
        if tokens is not None and ascending[-1] > tokens:
            raise UserError(f"data.batch_tokens={tokens}: the longest row has {ascending[-1]} tokens")
        ends: list[int] = []
        start, n = 0, len(ascending)
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

    @override
    def batches(self, epoch: int, first: int = 0) -> Iterator[Tensor]:
        order = permutation(self.n, mix(self.seed, ORDER, epoch)).numpy()
        order = order[np.argsort(self._lengths[order], kind="stable")]
        rows = torch.from_numpy(order).to(self.device)
        bounds = [0, *self._ends]
        for step in permutation(self._length, mix(self.seed, ORDER, epoch, 1)).tolist()[first:]:
            start, count = bounds[step], bounds[step + 1] - bounds[step]
            low, high = (start + count * r // self.world_size for r in (self.rank, self.rank + 1))
            yield rows[low:high]


class ClassBalanced(EpochSampler):
    """An EpochSampler whose order goes through groups of `per_class` rows of one class.

    In an epoch each class is cut at random into groups; the last one is filled up with rows of its own class, so a few
    are served twice. Then the classes take turns: one group of each, in random order, a second one of those that have
    more, and so on. A function of (seed, epoch) alone.

    Args:
        target: class of each row (N,), int64.
        per_class: rows in a group.
        options: of an EpochSampler.
    """

    def __init__(self, target: Tensor, per_class: int, batch_size: int, **options) -> None:
        target = target.cpu()
        self._rows_of = [(target == label).nonzero().squeeze(1) for label in target.unique().tolist()]
        self._per_class = per_class
        groups = sum(-(-len(rows) // per_class) for rows in self._rows_of)
        super().__init__(groups * per_class, batch_size, **options)

    @override
    def order(self, epoch: int) -> Tensor:
        key = mix(self.seed, ORDER, epoch)
        turns, groups = [], []
        for label, rows in enumerate(self._rows_of):
            rows = rows[permutation(len(rows), mix(_GROUPS, label, state=key))]
            count = -(-len(rows) // self._per_class)
            groups.append(rows[torch.arange(count * self._per_class) % len(rows)].view(count, -1))
            turns.append(torch.arange(count))
        turn, whole = torch.cat(turns), torch.cat(groups)
        shuffled = permutation(len(whole), mix(_CLASSES, state=key))
        return whole[shuffled[turn[shuffled].sort(stable=True).indices]].flatten()
