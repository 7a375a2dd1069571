"""Losses: plain functions, and those with options of their own as classes whose constructor takes the options.

A task lists by name the losses that it takes; an option bears the name that a user gives it: `task.label_smoothing`.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import cos, log, pi, sin
from typing import Annotated, Literal, get_type_hints

import torch
import torch.nn.functional as F
from annotated_types import Ge, Lt
from torch import Tensor

from src.errors import UserError
from src.runtime.ranges import NonNegativeFloat, PositiveFloat, Share, refusal


@dataclass(frozen=True)
class LossOptions:
    """Base of the losses with options: a dataclass of the options, called as the loss itself.

    Raises:
        UserError: an option is outside the range of its annotation.
    """

    def __post_init__(self) -> None:
        for name, hint in get_type_hints(type(self), include_extras=True).items():
            if found := refusal(getattr(self, name), hint):
                raise UserError(f"task.{name}={getattr(self, name)} {found}")


@dataclass(frozen=True)
class CrossEntropy(LossOptions):
    """Cross-entropy of logits; of its targets a share may be spread over all classes (Szegedy et al. 2016).

    Args:
        label_smoothing: the share, from 0 up to 1.
    """

    label_smoothing: Share = 0.0

    def __call__(
        self,
        outputs: Tensor,
        target: Tensor,
        *,
        weight: Tensor | None = None,
        ignore_index: int = -100,
        reduction: Literal["none", "mean", "sum"] = "mean",
    ) -> Tensor:
        """Loss of logits (B, C) against class ids (B,): a scalar, or (B,) with reduction="none"."""
        smoothing = self.label_smoothing
        return F.cross_entropy(
            outputs, target, weight, ignore_index=ignore_index, reduction=reduction, label_smoothing=smoothing
        )


@dataclass(frozen=True)
class Huber(LossOptions):
    """Squared error near zero, absolute error beyond (Huber 1964).

    Args:
        huber_delta: the error at which the one becomes the other, in standard units of the target, above 0.
    """

    huber_delta: PositiveFloat = 1.0

    def __call__(self, outputs: Tensor, target: Tensor) -> Tensor:
        """Mean loss of predictions (B, ...) against targets (B, ...), both in standard units."""
        return F.huber_loss(outputs, target, delta=self.huber_delta)


@dataclass(frozen=True)
class Focal(LossOptions):
    """Cross-entropy in which easy examples count less.

    Args:
        focal_gamma: how strongly easy examples are played down; at 0 it is cross-entropy.
    """

    focal_gamma: NonNegativeFloat = 2.0

    def __call__(self, outputs: Tensor, target: Tensor, *, weight: Tensor | None = None) -> Tensor:
        """Mean loss of logits (B, C) against class ids (B,), each class with its weight (C,)."""
        return focal_cross_entropy(outputs, target, gamma=self.focal_gamma, weight=weight)


class BinaryFocal(Focal):
    """Binary cross-entropy in which easy examples count less."""

    def __call__(self, outputs: Tensor, target: Tensor, *, weight: Tensor | None = None) -> Tensor:
        """Mean loss of logits (B,) against targets 0. or 1. (B,), each row with its weight (B,)."""
        return focal_binary(outputs, target, gamma=self.focal_gamma, weight=weight)


@dataclass(frozen=True)
class ArcFace(LossOptions):
    """Cross-entropy of cosines to the classes, with a margin for the right one (Deng et al. 2019, arXiv:1801.07698).

    Args:
        margin: radians that an embedding has to be nearer to its class, from 0 up to 1.57.
        scale: factor of the cosines, above 0.
    """

    margin: Annotated[float, Ge(0), Lt(1.57)] = 0.3
    scale: PositiveFloat = 16.0

    def __call__(self, outputs: Tensor, target: Tensor) -> Tensor:
        """Mean loss of cosines (B, K) to the classes against class ids (B,)."""
        return arcface(outputs, target, margin=self.margin, scale=self.scale)


@dataclass(frozen=True)
class SupCon(LossOptions):
    """Supervised contrastive loss of the embeddings of a batch (Khosla et al. 2020, arXiv:2004.11362).

    Args:
        temperature: divisor of the cosines, above 0.
    """

    temperature: PositiveFloat = 0.1

    def __call__(self, outputs: Tensor, target: Tensor) -> Tensor:
        """Mean loss of embeddings (B, E) of unit length with class ids (B,)."""
        return supcon(outputs, target, temperature=self.temperature)


def focal_cross_entropy(outputs: Tensor, target: Tensor, *, gamma: float, weight: Tensor | None = None) -> Tensor:
    """Cross-entropy scaled by (1 - p)^gamma, so that easy examples count less (Lin et al. 2017, arXiv:1708.02002)."""
    log_p = F.log_softmax(outputs, -1).gather(-1, target[:, None]).squeeze(-1)
    loss = -((1 - log_p.exp()) ** gamma) * log_p
    if weight is None:
        return loss.mean()
    return (loss * weight[target]).sum() / weight[target].sum()


def focal_binary(outputs: Tensor, target: Tensor, *, gamma: float, weight: Tensor | None = None) -> Tensor:
    """Binary focal loss on logits (B,) and targets 0. or 1. (B,)."""
    loss = F.binary_cross_entropy_with_logits(outputs, target, reduction="none")
    loss = loss * (1 - torch.exp(-loss)) ** gamma
    return loss.mean() if weight is None else (loss * weight).sum() / weight.sum()


def sampled_softmax(scores: Tensor, place: Tensor, others: Tensor) -> Tensor:
    """Cross-entropy (B,) of the candidate at `place` (B,) against those of `others` (B, C)."""
    score = scores.gather(1, place.unsqueeze(1))
    rest = scores.masked_fill(~others, float("-inf"))
    return torch.cat([score, rest], dim=1).logsumexp(1) - score.squeeze(1)


def bpr(scores: Tensor, place: Tensor, others: Tensor) -> Tensor:
    """Bayesian personalised ranking (Rendle et al. 2009, arXiv:1205.2618): the mean over the others."""
    gap = scores.gather(1, place.unsqueeze(1)) - scores
    return _mean(F.softplus(-gap), others)


def ranking_bce(scores: Tensor, place: Tensor, others: Tensor) -> Tensor:
    """Binary cross-entropy of the item taken, plus the mean of the others' (He et al. 2017, arXiv:1708.05031, who sum
    them instead).
    """
    return F.softplus(-scores.gather(1, place.unsqueeze(1)).squeeze(1)) + _mean(F.softplus(scores), others)


def _mean(values: Tensor, mask: Tensor) -> Tensor:
    return (values * mask).sum(1) / mask.sum(1).clamp(min=1)


def bernoulli_nll(logits: Tensor, target: Tensor) -> Tensor:
    """-log p of each row (B,) in nats, for pixels (B, D) from 0 to 1; of grey ones it is the cross-entropy."""
    return F.binary_cross_entropy_with_logits(logits, target, reduction="none").sum(1)


def gaussian_nll(mean: Tensor, log_scale: Tensor, target: Tensor) -> Tensor:
    """-log p of each row (B,) in nats, one standard deviation (B, 1) for all of its numbers (B, D)."""
    squares = ((target - mean) * (-log_scale).exp()).square()
    return (0.5 * squares + log_scale + 0.5 * log(2 * pi)).sum(1)


def arcface(cosine: Tensor, target: Tensor, *, margin: float, scale: float) -> Tensor:
    """Cross-entropy of cosines (B, K) to the classes, the right one's angle enlarged by the margin in radians.

    Where the enlarged angle would pass half a turn the cosine goes on falling in a straight line.
    """
    sine = (1 - cosine.square()).clamp(min=1e-12).sqrt()
    turned = cosine * cos(margin) - sine * sin(margin)
    enlarged = torch.where(cosine > cos(pi - margin), turned, cosine - margin * sin(margin))
    # no gather: its gradient has no fixed order on a GPU
    wanted = target.unsqueeze(1) == torch.arange(cosine.shape[1], device=cosine.device)
    return F.cross_entropy(scale * torch.where(wanted, enlarged, cosine), target)


def supcon(embedding: Tensor, target: Tensor, *, temperature: float) -> Tensor:
    """Cross-entropy of each row of the class being the likeliest one of the batch, by the cosine of embeddings (B, E)
    of unit length; the mean over the rows that have another one of their class (SupCon's L_out).
    """
    itself = torch.eye(len(embedding), dtype=torch.bool, device=embedding.device)
    logits = (embedding @ embedding.T / temperature).masked_fill(itself, -1e4)
    share = logits - logits.logsumexp(1, keepdim=True)
    wanted = (target.unsqueeze(1) == target) & ~itself
    count = wanted.sum(1)
    of_row = -(share * wanted).sum(1) / count.clamp(min=1)
    return of_row.sum() / (count > 0).sum().clamp(min=1)
