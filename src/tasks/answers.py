"""Extractive question answering: where in its context an answer begins and ends (Rajpurkar et al. 2016, SQuAD)."""

from __future__ import annotations

import torch
import torchmetrics as tm
from torch import Tensor

from src.directions import directions
from src.tasks.base import Batch, Judged, Task
from src.text import PAD, SEP, SPECIAL, UNK

IGNORED = -100  # place of a target that has no loss


def answerable(tokens: Tensor) -> Tensor:
    """Which positions of rows `[BOS] question [SEP] context [EOS]` (B, T) are of the context: bool (B, T)."""
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

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.add_state("rows", default=[], dist_reduce_fx="cat")  # (N, 6): question, score, chosen and right span

    def update(self, prediction: Tensor, target: Tensor) -> None:
        """Takes score, first and last token (B, 3); and question, first and last token (B, 3)."""
        prediction, target = prediction.double(), target.double()
        self.rows.append(torch.cat([target[:, :1], prediction, target[:, 1:]], dim=1))

    def compute(self) -> Tensor:
        rows = torch.cat(self.rows) if isinstance(self.rows, list) else self.rows
        rows = rows[rows[:, 1].argsort(descending=True, stable=True)]
        rows = rows[rows[:, 0].argsort(stable=True)]  # by question, its best span first
        rows = rows[rows[:, 0].diff(prepend=rows[:1, 0] - 1) != 0]
        first, last, right_first, right_last = rows[:, 2:].T
        if self.kind == "exact_match":
            return ((first == right_first) & (last == right_last)).double().mean()
        common = (torch.minimum(last, right_last) - torch.maximum(first, right_first) + 1).clamp(min=0)
        return (2 * common / (last - first + right_last - right_first + 2)).mean()


class QuestionAnswering(Task):
    """The span of the context that answers. Outputs are logits of its first and last token (B, T, 2), -inf where no
    answer can be; targets are their positions in the row (B, 2), which lie outside of a window without the answer.

    Batches also have `question` (B,), its number, and `offset` (B,): how far the context is moved in the row.

    Beside it stands the whole context as the answer.
    """

    losses = ("cross_entropy",)
    monitor = "f1"
    directions = directions("loss", "exact_match", "f1")
    num_outputs = 2
    per_token = True

    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        """Mean of the cross-entropies of start and end, over the rows that hold their answer."""
        target, open_ = self.target(batch), answerable(batch["input"])
        inside = (target >= 0) & (target < open_.shape[1])
        held = (inside & open_.gather(1, target.where(inside, 0))).all(1, keepdim=True)
        place = target.where(held, IGNORED)
        losses = self.loss_function(
            outputs.transpose(1, 2).flatten(0, 1), place.flatten(), ignore_index=IGNORED, reduction="none"
        )
        return losses.sum() / (2 * held.sum()).clamp(min=1)

    def judge(self, outputs: Tensor, batch: Batch) -> Judged:
        loss = self.loss(outputs, batch)
        with torch.no_grad():
            offset = batch["offset"].unsqueeze(1)
            score, span = best_span(outputs)
            chosen = torch.cat([score.unsqueeze(1), (span - offset).to(score.dtype)], dim=1)
            right = torch.cat([batch["question"].unsqueeze(1), self.target(batch) - offset], dim=1)
            context = answerable(batch["input"]).int()
            whole = torch.stack([context.argmax(1), context.shape[1] - 1 - context.flip(1).argmax(1)], dim=1)
            reference = torch.cat([score.unsqueeze(1), (whole - offset).to(score.dtype)], dim=1)
        return Judged(loss, chosen, right, reference)

    def prediction(self, outputs: Tensor) -> Tensor:
        return outputs

    def units(self, target: Tensor) -> Tensor:
        return target[:, 0]  # the question, whose windows share its answer

    def as_units(self, target: Tensor, unit: Tensor) -> Tensor:
        return torch.cat([unit.unsqueeze(1).to(target.dtype), target[:, 1:]], dim=1)

    def predict(self, outputs: Tensor) -> Tensor:
        """Positions of the first and the last token of each row's answer (B, 2)."""
        return best_span(outputs)[1]

    def shown(self, outputs: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """Tokens of the answer, and of the right one as far as the row holds it."""
        tokens = batch["input"]
        steps = torch.arange(tokens.shape[1], device=tokens.device)
        spans = (self.predict(outputs), self.target(batch))
        inside = [(steps >= span[:, :1]) & (steps <= span[:, 1:]) for span in spans]
        return tokens.where(inside[0], PAD), tokens.where(inside[1], PAD)

    def metrics(self) -> tm.MetricCollection:
        return tm.MetricCollection({name: SpanMetric(name) for name in ("exact_match", "f1")}, compute_groups=False)

    def baseline(self, target: Tensor, reference: Tensor | None = None) -> Tensor:
        assert reference is not None
        return reference
