"""Metrics of episodes: mean and deviation of returns, share that ended."""

from __future__ import annotations

import torch
import torchmetrics as tm
from torch import Tensor
from typing_extensions import override


class OfRows(tm.Metric):
    """A figure of all rows (N, K) of an epoch, which are few: kept, and put together on the CPU in double precision."""

    full_state_update = False
    rows: list[Tensor]

    def __init__(self, place: int) -> None:
        super().__init__()
        self.place = place
        self.add_state("rows", default=[], dist_reduce_fx="cat")

    @override
    def update(self, prediction: Tensor, target: Tensor) -> None:
        """Keep rows (B, K); the target is not used."""
        self.rows.append(prediction)

    @override
    def compute(self) -> Tensor:
        """Figure of all rows, a scalar in double precision."""
        return self.of(torch.cat(list(self.rows)).cpu().double())

    def of(self, rows: Tensor) -> Tensor:
        """Compute the figure of rows (N, K), a scalar."""
        raise NotImplementedError(f"{type(self).__name__}.of")


class Mean(OfRows):
    @override
    def of(self, rows: Tensor) -> Tensor:
        return rows[:, self.place].mean()


class Deviation(OfRows):
    """Standard deviation, of all rows as a population: 0 of a single one."""

    @override
    def of(self, rows: Tensor) -> Tensor:
        return rows[:, self.place].std(correction=0)


class Ended(OfRows):
    """Mean over the episodes that ended in training; while none did, over those that go on.

    A row is a step of training: returns and lengths, each summed over the episodes that ended in it, and how many
    these were; then the rewards and steps of one copy of the environment, on average.
    """

    @override
    def of(self, rows: Tensor) -> Tensor:
        total, count, going = rows[:, self.place].sum(), rows[:, 2].sum(), rows[:, 3 + self.place].sum()
        return total / count if count else going
