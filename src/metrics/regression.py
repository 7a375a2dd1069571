"""Metrics of numbers and series: the scaled error of forecasts, and a sample of predictions beside their targets."""

from __future__ import annotations

import torch
import torchmetrics as tm
from torch import Tensor
from typing_extensions import override


class ScaledError(tm.Metric):
    """MASE: mean of the absolute errors, each over its channel's naive error in the training split.

    Hyndman and Koehler 2006, "Another look at measures of forecast accuracy". Below 1 is better than the naive
    forecast is one step (or season) ahead.

    Args:
        naive_errors: of each channel, above 0.
    """

    full_state_update = False
    naive_errors: Tensor
    total: Tensor
    count: Tensor

    def __init__(self, naive_errors: tuple[float, ...]) -> None:
        super().__init__()
        self.register_buffer("naive_errors", torch.tensor(naive_errors), persistent=False)
        self.add_state("total", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("count", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, prediction: Tensor, target: Tensor) -> None:
        """Takes predictions and targets (B, H, F)."""
        self.total += ((prediction - target).abs() / self.naive_errors).to(self.total.dtype).sum()
        self.count += target.numel()

    @override
    def compute(self) -> Tensor:
        """Mean scaled error so far, a scalar."""
        return self.total / self.count


class PairSample(tm.Metric):
    """A sample of (prediction, target) pairs, each row as likely as any other, the same at every run.

    Args:
        size: pairs kept, however many there were.
    """

    full_state_update = False
    rows: list[Tensor] | Tensor

    def __init__(self, size: int = 2000) -> None:
        super().__init__()
        self.size = size
        self.add_state("rows", default=[], dist_reduce_fx="cat")  # one (N, 3): priority, prediction, target

    def update(self, prediction: Tensor, target: Tensor) -> None:
        """Takes predictions and targets of one shape; the `size` smallest of all random priorities stay."""
        prediction, target = prediction.flatten(), target.flatten()
        generator = torch.Generator().manual_seed(self.update_count)
        priority = torch.rand(len(target), generator=generator).to(prediction.device)
        rows = torch.stack([priority, prediction.float(), target.float()], dim=1)
        self.rows = [self._smallest(torch.cat([*self.rows, rows]))]

    def compute(self) -> tuple[Tensor, Tensor]:
        """(prediction, target), each (N,), of all ranks."""
        rows = self._smallest(torch.cat(self.rows) if isinstance(self.rows, list) else self.rows)
        return rows[:, 1], rows[:, 2]

    def _smallest(self, rows: Tensor) -> Tensor:
        return rows if len(rows) <= self.size else rows[rows[:, 0].topk(self.size, largest=False).indices]
