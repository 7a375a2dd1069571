"""Extractive question answering: where in its context an answer begins and ends (Rajpurkar et al. 2016, SQuAD)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
import torchmetrics as tm
from torch import Tensor
from typing_extensions import override

from src.metrics.modes import modes
from src.metrics.spans import IGNORED, SpanMetric, answerable, best_span
from src.spec.tokenizer import PAD
from src.tasks.base import Batch, StepOutput, Task
from src.tasks.language.view import TextView
from src.tasks.registry import register_task


@register_task("question_answering")
class QuestionAnswering(Task):
    """The span of the context that answers. Outputs are logits of its first and last token (B, T, 2), -inf where no
    answer can be; targets are their positions in the row (B, 2), which lie outside of a window without the answer.

    Batches also have `question` (B,), its number, and `offset` (B,): how far the context is moved in the row.

    Beside it stands the whole context as the answer.
    """

    answer_per_row = False
    one_pass = False
    losses = {"cross_entropy": F.cross_entropy}  # without label_smoothing: where no answer can be is certain
    monitor = "f1"
    metric_modes = modes("loss", "exact_match", "f1")
    num_outputs = 2
    per_token = True
    view_class = TextView

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

    @override
    def evaluate_batch(self, outputs: Tensor, batch: Batch) -> StepOutput:
        """Loss, and score and span (B, 3) beside question and right span (B, 3), as tokens of the context."""
        loss = self.loss(outputs, batch)
        with torch.no_grad():
            offset = batch["offset"].unsqueeze(1)
            score, span = best_span(outputs)
            chosen = torch.cat([score.unsqueeze(1), (span - offset).to(score.dtype)], dim=1)
            right = torch.cat([batch["question"].unsqueeze(1), self.target(batch) - offset], dim=1)
            context = answerable(batch["input"]).int()
            whole = torch.stack([context.argmax(1), context.shape[1] - 1 - context.flip(1).argmax(1)], dim=1)
            reference = torch.cat([score.unsqueeze(1), (whole - offset).to(score.dtype)], dim=1)
        return StepOutput(loss, chosen, right, reference)

    @override
    def prediction(self, outputs: Tensor) -> Tensor:
        return outputs

    @override
    def bootstrap_clusters(self, target: Tensor) -> Tensor:
        return target[:, 0]  # the question, whose windows share its answer

    @override
    def as_clusters(self, target: Tensor, cluster: Tensor) -> Tensor:
        return torch.cat([cluster.unsqueeze(1).to(target.dtype), target[:, 1:]], dim=1)

    def predict(self, outputs: Tensor) -> Tensor:
        """Positions of the first and the last token of each row's answer (B, 2)."""
        return best_span(outputs)[1]

    def decode_for_display(self, outputs: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """Tokens of the answer, and of the right one as far as the row holds it."""
        tokens = batch["input"]
        steps = torch.arange(tokens.shape[1], device=tokens.device)
        spans = (self.predict(outputs), self.target(batch))
        inside = [(steps >= span[:, :1]) & (steps <= span[:, 1:]) for span in spans]
        return tokens.where(inside[0], PAD), tokens.where(inside[1], PAD)

    @override
    def metrics(self) -> tm.MetricCollection:
        return tm.MetricCollection({name: SpanMetric(name) for name in ("exact_match", "f1")}, compute_groups=False)

    @override
    def baseline(self, target: Tensor, reference: Tensor | None = None) -> Tensor:
        """Score and whole context (N, 3) as the answer: the reference itself."""
        assert reference is not None
        return reference
