"""Metrics of anomaly scores: means of their parts, and how well they tell anomalies from the other rows."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torchmetrics as tm
from torch import Tensor
from typing_extensions import override

SMALLEST_ERROR = 1e-10  # a picture given back exactly has 100 dB


class MeanOfColumn(tm.Metric):
    """Mean over all rows of one column of their figures (B, S)."""

    full_state_update = False
    total: Tensor
    count: Tensor

    def __init__(self, column: int) -> None:
        super().__init__()
        self.column = column
        self.add_state("total", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("count", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    @override
    def update(self, rows: Tensor, anomalous: Tensor) -> None:
        """Add the figures (B, S) of some rows; `anomalous` (B,) is not used."""
        self.total += rows[:, self.column].double().sum()
        self.count += len(rows)

    @override
    def compute(self) -> Tensor:
        """Mean so far, a scalar."""
        return self.total / self.count


class AnomalyMetric(tm.Metric):
    """Metric of binary classification for the detection of anomalies by their score, the last column of (B, S).

    Not a number where all rows are anomalies, or none is.

    Args:
        metric: function of ranks in [0, 1] (N,) and whether each row is an anomaly (N,).
    """

    full_state_update = False
    scores: list[Tensor]
    truth: list[Tensor]

    def __init__(self, metric: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.metric = metric
        self.add_state("scores", [], dist_reduce_fx="cat")
        self.add_state("truth", [], dist_reduce_fx="cat")

    @override
    def update(self, rows: Tensor, anomalous: Tensor) -> None:
        """Keep the scores of some rows, the last of their figures (B, S), and whether each is an anomaly (B,)."""
        self.scores.append(rows[:, -1])
        self.truth.append(anomalous)

    @override
    def compute(self) -> Tensor:
        """Value of the metric over all rows, a scalar; NaN where all are of one kind."""
        scores, truth = (torch.cat(part) if isinstance(part, list) else part for part in (self.scores, self.truth))
        if not 0 < int(truth.sum()) < len(truth):
            return torch.tensor(torch.nan)
        # ranks: torchmetrics would squeeze scores above 1 through a sigmoid, where large ones become equal
        ranks = scores.unique(return_inverse=True)[1].double()
        return self.metric(ranks / ranks.max().clamp(min=1), truth)
