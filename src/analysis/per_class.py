"""Results of an evaluation: figures with intervals, a table by class, calibration."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from torch import Tensor
from torchmetrics.functional import classification as tmf

from src import plots
from src.analysis.bootstrap import Interval, Rows
from src.runtime.console import say
from src.runtime.format import number
from src.tasks.base import Task

BINS = 10  # of probabilities
CLASSES_SHOWN = 20


def print_figures(
    console: Console,
    values: Mapping[str, float],
    logged: Mapping[str, float],
    baseline: Mapping[str, float],
    spread: Mapping[str, Interval],
    level: float,
) -> None:
    """Print a line for each metric: value and interval, the baseline, the interval of the difference; and whether the
    values equal those that the run logged.
    """
    same = all(_equal(logged.get(name), value) for name, value in values.items())
    table = Table("metric")
    columns = ["test", *(["logged"] if logged and not same else [])]
    columns += [f"{100 * level:g} % interval"] if spread else []
    for column in [*columns, "baseline", *(["less the baseline"] if spread else [])]:
        table.add_column(column, justify="right", no_wrap=True)
    for name, value in values.items():
        short = name.partition("/")[2]
        cells = [number(value)] + ([number(logged.get(name))] if logged and not same else [])
        low, high, below, above = spread.get(short, (None,) * 4)
        cells += ["-" if low is None else f"{number(low)}..{number(high)}"] if spread else []
        cells.append(number(baseline.get(short)))
        cells += ["-" if below is None else f"{below:+.3g}..{above:+.3g}"] if spread else []
        table.add_row(short, *cells)
    console.print(table)
    if logged:
        verdict = (
            "equal those that the run logged, to the last bit" if same else "differ from those that the run logged"
        )
        say(console, f"these figures {verdict}")


def _equal(logged: float | None, value: float) -> bool:
    # a figure of a class that no row has is not a number
    return logged == value or (logged is not None and math.isnan(logged) and math.isnan(value))


class Classes(NamedTuple):
    """Figures of each class (C,), and how far the probabilities of the predicted class can be believed.

    Attributes:
        precision, recall, f1, rows: of each class.
        error: expected calibration error (Guo et al. 2017, arXiv:1706.04599), over ten bins.
        bins: mean probability, share that was right and rows of each bin that has any (K, 3).
    """

    names: tuple[str, ...]
    precision: Tensor
    recall: Tensor
    f1: Tensor
    rows: Tensor
    error: float
    bins: Tensor

    @classmethod
    def of(cls, task: Task, rows: Rows) -> Classes | None:
        """Compute the figures of each class from evaluated rows; None where the task has no classes."""
        if "confusion" not in task.curves():
            return None
        p = task.predict(rows.outputs)
        if p.ndim == 1:
            p = torch.stack([1 - p, p], dim=1)
        top, guess = p.max(1)
        target = rows.target.long()
        options: dict[str, Any] = {"num_classes": p.shape[1], "average": "none", "validate_args": False}
        precision, recall, f1 = (
            metric(guess, target, **options)
            for metric in (tmf.multiclass_precision, tmf.multiclass_recall, tmf.multiclass_f1_score)
        )
        right = (guess == target).float()
        place = (top * BINS).long().clamp(max=BINS - 1)
        counts = torch.bincount(place, minlength=BINS)
        sums = [torch.bincount(place, weights=weights, minlength=BINS) for weights in (top.double(), right.double())]
        filled = counts > 0
        bins = torch.stack([(sums[0] / counts)[filled], (sums[1] / counts)[filled], counts[filled].double()], dim=1)
        error = float(((bins[:, 0] - bins[:, 1]).abs() * bins[:, 2]).sum() / counts.sum())
        names = task.spec.class_names
        return cls(names, precision, recall, f1, torch.bincount(target, minlength=len(names)), error, bins)

    def table(self) -> list[tuple[str, float, float, float, int]]:
        """Rows of the table, one a class: its name, precision, recall, F1, and count of test rows."""
        columns = (self.precision.tolist(), self.recall.tolist(), self.f1.tolist(), self.rows.tolist())
        return list(zip(self.names, *columns, strict=True))


def print_classes(console: Console, classes: Classes) -> None:
    """Print the classes, those with the lowest F1 first, and the calibration error."""
    table = Table("class")
    for column in ("precision", "recall", "f1", "rows"):
        table.add_column(column, justify="right")
    ordered = sorted((row for row in classes.table() if row[4]), key=lambda row: row[3])
    for name, *values, count in ordered[:CLASSES_SHOWN]:
        table.add_row(escape(name), *map(number, values), f"{count:,}")
    console.print(table)
    left = len(ordered) - CLASSES_SHOWN
    more = f"; {left} more classes, with a better f1, are in classes.csv" if left > 0 else ""
    say(console, f"expected calibration error {number(classes.error)}{more}")


def save_figures(folder: Path, task: Task, curves: Mapping[str, Any], classes: Classes | None) -> None:
    """Save pictures of the test, classes.csv, and calibration.png where there are classes."""
    plots.curves.save_figures(folder, {}, curves, task.spec.class_names)
    if classes is None:
        return
    with open(folder / "classes.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("class", "precision", "recall", "f1", "rows"))
        writer.writerows(classes.table())
    confidence, accuracy, counts = classes.bins.T.tolist()
    title = f"expected calibration error {number(classes.error)}"
    figure = plots.calibration.calibration(confidence, accuracy, counts, title)
    plots.base.save(folder / "calibration.png", figure)
