"""How far a figure can be trusted: bootstrap intervals of a task's metrics, and of their distance to the baseline."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor

from src.metrics import counting
from src.tasks.base import Task


class Rows(NamedTuple):
    """What was judged, row by row: outputs, target and, where the baseline needs it, reference, each (N, ...)."""

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
    task: Task, rows: Rows, *, resamples: int, level: float, seed: int, block: int = 1, track=None
) -> dict[str, Interval]:
    """Percentile intervals of each metric over resampled rows (Efron 1979, "Bootstrap methods").

    The model and the baseline are compared on the same resamples, so the difference is a paired one.

    Args:
        task: says which metrics, and what the baseline is.
        rows: what was judged.
        resamples: how many.
        level: of the interval, such as 0.95.
        seed: of the draws.
        block: rows that stand side by side are drawn together, as neighbouring windows of a series hold the same steps
            (Kunsch 1989, "The jackknife and the bootstrap for general stationary observations").
        track: wraps the resamples, to show progress.
    """
    prediction = task.prediction(rows.outputs)
    baseline = task.baseline(rows.target, rows.reference)
    generator = torch.Generator().manual_seed(seed)
    both: dict[str, list[tuple[float, float]]] = {}
    draws: Iterable[int] = range(resamples)
    for _ in track(draws) if track else draws:
        index = _resample(len(rows.target), block, generator)
        target = rows.target[index]
        own, other = _values(task, prediction[index], target), _values(task, baseline[index], target)
        for name, value in own.items():
            both.setdefault(name, []).append((value, other[name]))
    bounds = torch.tensor([(1 - level) / 2, (1 + level) / 2], dtype=torch.float64)
    result = {}
    for name, pairs in both.items():
        own, other = torch.tensor(pairs, dtype=torch.float64).T
        result[name] = Interval(*own.quantile(bounds).tolist(), *(own - other).quantile(bounds).tolist())
    return result


def _resample(n: int, block: int, generator: torch.Generator) -> Tensor:
    block = min(block, n)
    starts = torch.randint(n - block + 1, (-(-n // block), 1), generator=generator)
    return (starts + torch.arange(block)).flatten()[:n]


def _values(task: Task, prediction: Tensor, target: Tensor) -> dict[str, float]:
    metrics = task.metrics()
    with counting(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a resample that lacks a class
        metrics.update(prediction, target)
        return {name: value.item() for name, value in metrics.compute().items()}
