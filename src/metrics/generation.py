"""Metrics of generated samples: Frechet distance, coverage, diversity, duplicates, by class."""

from __future__ import annotations

import torch
import torchmetrics as tm
from torch import Tensor
from typing_extensions import override

SIZE = 64  # features of a sample, which stand before the logits of its classes
ROWS = 1000  # among which pairs are compared
NEAR = 0.5  # of the distance at which rows of the data have their nearest neighbour: what is nearer is a duplicate


def moments(features: Tensor) -> tuple[Tensor, Tensor]:
    """Mean (D,) and covariance (D, D) of rows (N, D), in double precision."""
    features = features.double()
    mean = features.mean(0)
    centred = features - mean
    return mean, centred.T @ centred / len(features)


def frechet_distance(mean: Tensor, covariance: Tensor, other_mean: Tensor, other_covariance: Tensor) -> Tensor:
    """Squared Frechet distance between two Gaussians (Dowson and Landau 1982), as images are compared by it since
    Heusel et al. 2017 (arXiv:1706.08500): |m - n|^2 + tr(C + D - 2 (C D)^(1/2)).

    The trace of the root is that of (C^(1/2) D C^(1/2))^(1/2), which is symmetric, so that no root is complex.
    """
    values, vectors = torch.linalg.eigh(covariance)
    root = (vectors * values.clamp(min=0).sqrt()) @ vectors.T
    between = torch.linalg.eigvalsh(root @ other_covariance @ root).clamp(min=0).sqrt().sum()
    distance = (mean - other_mean).square().sum() + covariance.trace() + other_covariance.trace() - 2 * between
    return distance.clamp(min=0)


class OfSamples(tm.Metric):
    """A figure of all samples (N, 64 + C) beside all rows (M, 64 + C + 1) of an epoch, whose features it keeps."""

    full_state_update = False
    samples: list[Tensor]
    rows: list[Tensor]

    def __init__(self) -> None:
        super().__init__()
        self.add_state("samples", default=[], dist_reduce_fx="cat")
        self.add_state("rows", default=[], dist_reduce_fx="cat")

    def update(self, prediction: Tensor, target: Tensor) -> None:
        """Takes samples (B, K, 64 + C) and rows (B, 64 + C + 1)."""
        self.samples.append(prediction.flatten(0, 1))
        self.rows.append(target)

    @override
    def compute(self) -> Tensor:
        """Figure of all samples and rows so far, a scalar."""
        # on the CPU: some devices have no double precision
        return self.of(torch.cat(list(self.samples)).cpu(), torch.cat(list(self.rows)).cpu())

    def of(self, samples: Tensor, rows: Tensor) -> Tensor:
        """Compute the figure of samples (N, 64 + C) and rows (M, 64 + C + 1), a scalar."""
        raise NotImplementedError(f"{type(self).__name__}.of")


class Frechet(OfSamples):
    @override
    def of(self, samples: Tensor, rows: Tensor) -> Tensor:
        return frechet_distance(*moments(samples[:, :SIZE]), *moments(rows[:, :SIZE]))


class Diversity(OfSamples):
    @override
    def of(self, samples: Tensor, rows: Tensor) -> Tensor:
        own, other = (torch.pdist(some[:ROWS, :SIZE].double()).mean() for some in (samples, rows))
        return own / other


class Duplicates(OfSamples):
    @override
    def of(self, samples: Tensor, rows: Tensor) -> Tensor:
        own, other = (nearest(some[:ROWS, :SIZE].double()) for some in (samples, rows))
        return (own <= NEAR * other.median()).double().mean()


def nearest(rows: Tensor) -> Tensor:
    """Distance of each row (N, D) to the nearest of the others (N,)."""
    distances = torch.cdist(rows, rows, compute_mode="donot_use_mm_for_euclid_dist")
    return distances.fill_diagonal_(torch.inf).min(1).values


class Coverage(OfSamples):
    @override
    def of(self, samples: Tensor, rows: Tensor) -> Tensor:
        return (histogram(samples) > 0).double().mean()


class ClassEntropy(OfSamples):
    @override
    def of(self, samples: Tensor, rows: Tensor) -> Tensor:
        shares = histogram(samples) / len(samples)
        return torch.special.entr(shares).sum() / torch.tensor(float(len(shares))).log()


def histogram(samples: Tensor) -> Tensor:
    """Count how many samples (N, 64 + C) the classifier takes for each class (C,)."""
    logits = samples[:, SIZE:]
    return torch.bincount(logits.argmax(1), minlength=logits.shape[1]).double()


class ClassifierAccuracy(OfSamples):
    @override
    def of(self, samples: Tensor, rows: Tensor) -> Tensor:
        return (rows[:, SIZE:-1].argmax(1) == rows[:, -1]).double().mean()


class MeanOf(tm.Metric):
    """Mean over rows of one of the losses of a step."""

    full_state_update = False
    total: Tensor

    def __init__(self, place: int) -> None:
        super().__init__()
        self.place = place
        self.add_state("total", torch.zeros(2), dist_reduce_fx="sum")

    def update(self, prediction: Tensor, target: Tensor) -> None:
        """Takes losses (S, 2) of steps and how many rows each had (S,)."""
        losses = prediction[:, self.place].float()
        self.total += torch.stack([(losses * target).sum(), target.float().sum()])

    @override
    def compute(self) -> Tensor:
        """Mean loss so far, a scalar."""
        return self.total[0] / self.total[1]
