"""Ranking metrics: NDCG, recall and reciprocal rank over lists of items."""

from __future__ import annotations

import torch
import torchmetrics as tm
from torch import Tensor
from typing_extensions import override

TOP = 10  # places of a list that count


class RankMetric(tm.Metric):
    """Mean over users of how early the items that they took stand in the list of all items that they had not.

    Rows of torchmetrics' retrieval metrics would be pairs of a user and an item, the whole catalogue for each user, and
    its loop goes through the users one by one; the places of the items taken say the same.

    Args:
        kind: ndcg (normalised discounted cumulative gain), hit_rate, recall, each of the first ten places, or mrr, the
            reciprocal of the first item's place.
    """

    full_state_update = False
    rows: list[Tensor]

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.add_state("rows", default=[], dist_reduce_fx="cat")  # (N, 2): user, items that stand before this one

    def update(self, prediction: Tensor, target: Tensor) -> None:
        """Takes how many items stand before the one taken (B, 1), and the user's number (B,)."""
        self.rows.append(torch.stack([target.double(), prediction.squeeze(1).double()], dim=1))

    @override
    def compute(self) -> Tensor:
        """Mean over the users so far, a scalar."""
        rows = torch.cat(self.rows) if isinstance(self.rows, list) else self.rows
        rows = rows[rows[:, 1].argsort(stable=True)]
        rows = rows[rows[:, 0].argsort(stable=True)]  # user after user, the best place first
        _, number, count = rows[:, 0].unique_consecutive(return_inverse=True, return_counts=True)
        first = count.cumsum(0) - count
        before = rows[:, 1]
        if self.kind == "mrr":
            return (1 / (before[first] + 1)).mean()
        inside = before < TOP
        if self.kind == "hit_rate":
            return inside[first].double().mean()
        if self.kind == "recall":
            return (_sums(inside.double(), number, len(count)) / count).mean()
        place = torch.arange(len(rows), device=rows.device) - first[number]  # in the best of all lists
        gain, best = (torch.where(p < TOP, 1 / torch.log2(p + 2), 0.0) for p in (before, place.double()))
        return (_sums(gain, number, len(count)) / _sums(best, number, len(count))).mean()


def _sums(values: Tensor, number: Tensor, size: int) -> Tensor:
    """Sums (size,) of values (N,) with the same number."""
    return torch.zeros(size, dtype=values.dtype, device=values.device).index_add(0, number, values)
