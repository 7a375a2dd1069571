"""Recommendation: which rating a user gives an item, and which item a user takes next, of the whole catalogue."""

from __future__ import annotations

import torch
import torchmetrics as tm
from torch import Tensor
from typing_extensions import override

from src.metrics.modes import modes
from src.metrics.ranking import TOP, RankMetric
from src.runtime.ranges import NonNegativeInt, checked
from src.spec import DataSpec, InteractionsSpec
from src.spec.interactions import HISTORY, ITEM, USER
from src.spec.packed_interactions import Interactions
from src.tasks.base import Batch, Loss, Named, StepOutput, Task
from src.tasks.losses import bpr, ranking_bce, sampled_softmax
from src.tasks.recommendation.view import ListView
from src.tasks.registry import register_task
from src.tasks.supervised.task import Regression
from src.tasks.view import RowView

SHOWN = 3  # of a list that is printed


@register_task("rating")
class Rating(Regression):
    """The rating that a user gives an item. Outputs (B, 1) are in standard units of the training ratings; predictions
    are in the ratings' own unit, and none lies outside of their range.

    Beside it stand the biases of user and item, regularised (Koren 2009).
    """

    answer_per_row = False
    monitor = "rmse"
    view_class = RowView
    user_bias: Tensor
    item_bias: Tensor

    def __init__(self, spec: DataSpec, loss: Loss | None = None) -> None:
        super().__init__(spec, loss)
        known = spec.input_as(InteractionsSpec)
        self.mean, user, item = Interactions.of(known).biases(len(known.users), len(known.items))
        # not persistent: both come from the spec, which lies beside the weights in every checkpoint
        self.register_buffer("user_bias", user, persistent=False)
        self.register_buffer("item_bias", item, persistent=False)

    def estimate(self, user: Tensor, item: Tensor) -> Tensor:
        """Rating by the biases alone, for codes of users and items of any one shape."""
        return self.mean + self.user_bias[user] + self.item_bias[item]

    @override
    def evaluate_batch(self, outputs: Tensor, batch: Batch) -> StepOutput:
        target = self.target(batch)
        return StepOutput(self.loss(outputs, batch), outputs, target, batch["input"][:, :HISTORY])

    @override
    def predict(self, outputs: Tensor) -> Tensor:
        """Ratings (B,) in their own unit, none outside of their range."""
        return super().predict(outputs).clamp(*self.spec.input_as(InteractionsSpec).rating_range)

    @override
    def baseline(self, target: Tensor, reference: Tensor | None = None) -> Tensor:
        """Ratings (N,) by the biases of user and item (N, 2); the mean rating where these are not given."""
        if reference is None:
            return super().baseline(target)
        user, item = reference.long().unbind(1)
        return self.estimate(user, item).clamp(*self.spec.input_as(InteractionsSpec).rating_range)


@register_task("ranking")
class Ranking(Task):
    """The item that a user takes, among all. Outputs are scores: of the catalogue (B, I), in training with `negatives`
    of the item taken and of so many others (B, 1 + negatives), drawn anew in each step.

    In evaluation the items of the user's training split and history are left out of the list, and an item that training
    did not have stands behind all others. Beside it stand the items by popularity.

    Args:
        negatives: others drawn uniformly for each row; items that the user is known to have taken do not count. 0: all
            items of the catalogue, drawn none.
    """

    answer_per_row = False
    losses = {"cross_entropy": sampled_softmax, "bpr": bpr, "bce": ranking_bce}
    monitor = "ndcg_10"
    metric_modes = modes("loss", "ndcg_10", "hit_rate_10", "recall_10", "mrr")
    view_class = ListView
    pairs: Tensor  # of user and item as one number, sorted
    popularity: Tensor

    @checked("task")
    def __init__(self, spec: DataSpec, loss: Loss | None = None, *, negatives: NonNegativeInt = 0) -> None:
        super().__init__(spec, loss)
        self.negatives = negatives
        interactions = spec.input_as(InteractionsSpec)
        self.num_outputs = len(interactions.items)
        known = Interactions.of(interactions)
        pairs = (known.users * (self.num_outputs + 1) + known.items).unique()  # type: ignore[no-untyped-call, unused-ignore]
        self.register_buffer("pairs", pairs, persistent=False)  # sorted
        self.register_buffer("popularity", known.counts(self.num_outputs)[1:], persistent=False)

    @override
    def prepare(self, batch: Batch, training: bool = False) -> Batch:
        """Add `candidates` (B, 1 + negatives) in training: codes of the item taken and of others; 0 is none."""
        if not (training and self.negatives):
            return batch
        taken = self.target(batch)
        drawn = torch.randint(1, self.num_outputs + 1, (len(taken), self.negatives), device=taken.device)
        pair = batch["input"][:, USER].long().unsqueeze(1) * (self.num_outputs + 1) + drawn
        place = torch.searchsorted(self.pairs, pair).clamp(max=max(0, len(self.pairs) - 1))
        drawn = drawn.masked_fill((self.pairs[place] == pair) | (drawn == taken.unsqueeze(1)), 0)
        return {**batch, "candidates": torch.cat([taken.unsqueeze(1), drawn], dim=1)}

    def target(self, batch: Batch) -> Tensor:
        """Codes (B,) of the items taken; 0: an item that training did not have."""
        return batch["input"][:, ITEM].long()

    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        """Mean over the rows whose item training had."""
        taken = self.target(batch)
        candidates = batch.get("candidates")
        if candidates is None:
            place = (taken - 1).clamp(min=0)
            others = torch.arange(outputs.shape[1], device=outputs.device) != place.unsqueeze(1)
        else:
            place, others = torch.zeros_like(taken), candidates > 0
            others = others & (torch.arange(outputs.shape[1], device=outputs.device) > 0)
        losses = self.loss_function(outputs.float(), place, others)
        known = (taken > 0).float()
        return (losses * known).sum() / known.sum().clamp(min=1)

    @override
    def evaluate_batch(self, outputs: Tensor, batch: Batch) -> StepOutput:
        """Loss, and how many items stand before the one taken (B, 1), beside its group (B,), else the item itself."""
        loss, taken = self.loss(outputs, batch), self.target(batch)
        if self.training:
            return StepOutput(loss, outputs.new_zeros(len(taken), 1), taken, weight=(taken > 0).sum())
        with torch.no_grad():
            left_out = self.left_out(batch["input"])
            popular = self.popularity.to(outputs.dtype).expand(len(taken), -1)
            before, reference = (self.before(scores, taken, left_out) for scores in (outputs, popular))
        return StepOutput(loss, before, batch.get("group", taken), reference, weight=(taken > 0).sum())

    def left_out(self, inputs: Tensor) -> Tensor:
        """Mask of the items that each row's user took, in the training split or the history, bool (B, I)."""
        user, width = inputs[:, USER].long(), self.num_outputs + 1
        first, last = (torch.searchsorted(self.pairs, bound * width) for bound in (user, user + 1))
        count = last - first
        row = torch.arange(len(user), device=user.device).repeat_interleave(count)
        place = torch.arange(len(row), device=user.device) - (count.cumsum(0) - count)[row] + first[row]
        known = torch.zeros(len(user), width, dtype=torch.bool, device=user.device)
        known[row, self.pairs[place] % width] = True
        length = (inputs.shape[1] - HISTORY) // 2
        known.scatter_(1, inputs[:, HISTORY : HISTORY + length].long(), True)
        return known[:, 1:]

    def before(self, scores: Tensor, taken: Tensor, left_out: Tensor) -> Tensor:
        """Number of items that stand before the one taken (B, 1), half of those of equal score among them."""
        place = (taken - 1).clamp(min=0).unsqueeze(1)
        score = scores.gather(1, place)
        others = ~left_out.scatter(1, place, True)
        more = ((scores > score) & others).sum(1).float()
        same = ((scores == score) & others).sum(1).float()
        return torch.where(taken > 0, more + same / 2, float(self.num_outputs)).unsqueeze(1)

    @override
    def prediction(self, outputs: Tensor) -> Tensor:
        return outputs

    def decode_for_display(self, outputs: Tensor, batch: Batch) -> tuple[Tensor, Tensor | None]:
        """Codes of the first items of the list (B, 3), and of the item taken (B,)."""
        scores = outputs.masked_fill(self.left_out(batch["input"]), float("-inf"))
        return scores.topk(min(SHOWN, self.num_outputs), dim=1).indices + 1, self.target(batch)

    @override
    def metrics(self) -> tm.MetricCollection:
        kinds = ("ndcg", "hit_rate", "recall", "mrr")
        named: Named = {kind if kind == "mrr" else f"{kind}_{TOP}": RankMetric(kind) for kind in kinds}
        return tm.MetricCollection(named, compute_groups=False)

    @override
    def training_metrics(self) -> tm.MetricCollection:
        return tm.MetricCollection({})

    @override
    def bootstrap_clusters(self, target: Tensor) -> Tensor:
        return target

    @override
    def as_clusters(self, target: Tensor, cluster: Tensor) -> Tensor:
        return cluster

    def baseline(self, target: Tensor, reference: Tensor | None = None) -> Tensor:
        """Number of items that stand before the one taken in the order of popularity (N, 1)."""
        assert reference is not None
        return reference
