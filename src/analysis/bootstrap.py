"""Bootstrap intervals of a task's metrics, and of their distance to the baseline."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from typing import NamedTuple

import torch
from torch import Tensor

from src.tasks.base import Task
from src.tasks.epoch import counting


class Rows(NamedTuple):
    """Rows that were evaluated: outputs, target and, where the baseline needs it, reference, each (N, ...)."""

    outputs: Tensor
    target: Tensor
    reference: Tensor | None


class Interval(NamedTuple):
    """Bounds of a metric, and of the model's less the baseline's."""

    low: float
    high: float
    difference_low: float
    difference_high: float


def intervals(
    task: Task,
    rows: Rows,
    *,
    resamples: int,
    level: float,
    seed: int,
    block: int = 1,
    track: Callable[[Iterable[int]], Iterable[int]] | None = None,
) -> dict[str, Interval]:
    """Percentile intervals of each metric over resampled units (Efron 1979, "Bootstrap methods"): rows, or as many rows
    as the task says belong together.

    The model and the baseline are compared on the same resamples, so the difference is a paired one. Resamples of which
    a figure is not a number, such as those of one class alone, do not count.

    Args:
        task: says which metrics, and what the baseline is.
        rows: the evaluated rows.
        resamples: how many.
        level: of the interval, such as 0.95.
        seed: of the draws.
        block: units that stand side by side are drawn together, as neighbouring windows of a series hold the same steps
            (Kunsch 1989, "The jackknife and the bootstrap for general stationary observations").
        track: wraps the resamples, to show progress.
    """
    prediction = task.prediction(rows.outputs)
    baseline = task.baseline(rows.target, rows.reference)
    generator = torch.Generator().manual_seed(seed)
    units = Units.of(task.bootstrap_clusters(rows.target))
    both: dict[str, list[tuple[float, float]]] = {}
    draws: Iterable[int] = range(resamples)
    for _ in track(draws) if track else draws:
        index, unit = units.rows(_resample(len(units.first), block, generator))
        target = task.as_clusters(rows.target[index], unit)
        own, other = _values(task, prediction[index], target), _values(task, baseline[index], target)
        for name, value in own.items():
            both.setdefault(name, []).append((value, other[name]))
    bounds = torch.tensor([(1 - level) / 2, (1 + level) / 2], dtype=torch.float64)
    result = {}
    for name, pairs in both.items():
        own, other = torch.tensor(pairs, dtype=torch.float64).T
        result[name] = Interval(*own.nanquantile(bounds).tolist(), *(own - other).nanquantile(bounds).tolist())
    return result


class Units(NamedTuple):
    """Rows that belong together: where each unit begins in `order`, and how many rows it has (U,)."""

    order: Tensor
    first: Tensor
    counts: Tensor

    @classmethod
    def of(cls, unit: Tensor) -> Units:
        """Group rows by the number of each one's unit (N,)."""
        _, number = unit.unique(return_inverse=True)
        count = torch.bincount(number)
        return cls(number.argsort(stable=True), count.cumsum(0) - count, count)

    def rows(self, drawn: Tensor) -> tuple[Tensor, Tensor]:
        """The rows of drawn units (D,), and for each of them the number of its draw, both (M,)."""
        count = self.counts[drawn]
        draw = torch.arange(len(drawn)).repeat_interleave(count)
        within = torch.arange(len(draw)) - (count.cumsum(0) - count)[draw]
        return self.order[self.first[drawn][draw] + within], draw


def _resample(n: int, block: int, generator: torch.Generator) -> Tensor:
    block = min(block, n)
    starts = torch.randint(n - block + 1, (-(-n // block), 1), generator=generator)
    return (starts + torch.arange(block)).flatten()[:n]


def _values(task: Task, prediction: Tensor, target: Tensor) -> dict[str, float]:
    metrics = task.collection("test")
    with counting(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a resample that lacks a class
        metrics.update(prediction, target)
        return {name: float(value) for name, value in metrics.compute().items()}
