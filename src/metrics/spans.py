"""Metrics of answer spans: exact match and F1 as SQuAD has them."""

from __future__ import annotations

import torch
import torchmetrics as tm
from torch import Tensor
from typing_extensions import override

from src.spec.tokenizer import SEP, SPECIAL, UNK

IGNORED = -100  # place of a target that has no loss


def answerable(tokens: Tensor) -> Tensor:
    """Mask of the context in rows `[BOS] question [SEP] context [EOS]` (B, T): bool (B, T)."""
    return (tokens == SEP).cumsum(1).bool() & ((tokens >= len(SPECIAL)) | (tokens == UNK))


def best_span(outputs: Tensor) -> tuple[Tensor, Tensor]:
    """The pair start <= end of the largest sum of logits (B, T, 2): its sum (B,) and the pair (B, 2)."""
    start, end = outputs.float().unbind(2)
    start, place = start.cummax(1)  # the best start up to each end
    score, last = (start + end).max(1)
    return score, torch.stack([place.gather(1, last.unsqueeze(1)).squeeze(1), last], dim=1)


class SpanMetric(tm.Metric):
    """Mean over questions of how the chosen span agrees with the right one, each [first, last] token of the context.

    Of a question with several windows the span with the largest score counts.

    Args:
        kind: exact_match, or f1 of the tokens inside.
    """

    full_state_update = False
    rows: list[Tensor]

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.add_state("rows", default=[], dist_reduce_fx="cat")  # (N, 6): question, score, chosen and right span

    def update(self, prediction: Tensor, target: Tensor) -> None:
        """Takes score, first and last token (B, 3); and question, first and last token (B, 3)."""
        prediction, target = prediction.double(), target.double()
        self.rows.append(torch.cat([target[:, :1], prediction, target[:, 1:]], dim=1))

    @override
    def compute(self) -> Tensor:
        """Mean over the questions so far, a scalar in [0, 1]."""
        rows = torch.cat(self.rows) if isinstance(self.rows, list) else self.rows
        rows = rows[rows[:, 1].argsort(descending=True, stable=True)]
        rows = rows[rows[:, 0].argsort(stable=True)]  # by question, its best span first
        rows = rows[rows[:, 0].diff(prepend=rows[:1, 0] - 1) != 0]
        first, last, right_first, right_last = rows[:, 2:].T
        if self.kind == "exact_match":
            return ((first == right_first) & (last == right_last)).double().mean()
        common = (torch.minimum(last, right_last) - torch.maximum(first, right_first) + 1).clamp(min=0)
        return (2 * common / (last - first + right_last - right_first + 2)).mean()
