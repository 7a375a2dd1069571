"""Pictures of a run: curves over epochs, confusion matrix, ROC and precision-recall, predicted against actual."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from src.plots.base import INCHES_A_LETTER, new_axes, save, short
from src.plots.error_rates import error_rates

History = Mapping[str, Sequence[Sequence[float]]]  # {"val/loss": [[epoch, value], ...]}


LABELLED_CLASSES = 20  # with more, a confusion matrix shows colours only


def save_figures(folder: Path, history: History, curves: Mapping[str, Any], class_names: Sequence[str]) -> list[Path]:
    """Draws what there is to draw and returns the files.

    Args:
        folder: where the PNG files go; made if it is not there.
        history: values of each epoch by metric.
        curves: `confusion` (C, C) counts, rows the truth; `roc` (false positive rate, true positive rate, threshold);
            `precision_recall` (precision, recall, threshold); `scatter` (prediction, target); `pairs` (threshold,
            accepted, falsely accepted, equal error rate); each may be absent.
        class_names: labels of the confusion matrix; the second names what ROC and precision-recall look for.
    """
    figures: dict[str, Figure] = {}
    for name in sorted({metric.split("/", 1)[1] for metric in history}):
        lines = {stage: history[f"{stage}/{name}"] for stage in ("train", "val") if f"{stage}/{name}" in history}
        if any(len(points) > 1 for points in lines.values()):
            figures[f"curve_{name}"] = _curve(name, lines)
    if "confusion" in curves:
        figures["confusion_matrix"] = _confusion_matrix(curves["confusion"].tolist(), class_names)
    wanted = f" of {short(class_names[1])}" if len(class_names) == 2 else ""
    if "roc" in curves:
        fpr, tpr, _ = curves["roc"]
        names = ("false positive rate", f"true positive rate{wanted}")
        figures["roc"] = _plane(*names, fpr.tolist(), tpr.tolist(), diagonal=True)
    if "precision_recall" in curves:
        precision, recall, _ = curves["precision_recall"]
        names = (f"recall{wanted}", "precision")
        figures["precision_recall"] = _plane(*names, recall.tolist(), precision.tolist())
    if "scatter" in curves:
        figures["predicted_actual"] = _scatter(*(values.tolist() for values in curves["scatter"]))
    if "pairs" in curves and len(curves["pairs"][0]):
        figures["error_rates"] = error_rates(*(values.tolist() for values in curves["pairs"]))
    # a square picture beside a colour bar needs the second pass, or its label is cut off; the others do not
    return [save(folder / f"{name}.png", figure, name == "confusion_matrix") for name, figure in figures.items()]


def _curve(name: str, lines: Mapping[str, Sequence[Sequence[float]]]) -> Figure:
    figure, axes = new_axes()
    for stage, points in lines.items():
        epochs, values = zip(*points, strict=True)
        axes.plot(epochs, values, label=stage, marker="." if len(epochs) < 40 else None)
    axes.set(xlabel="epoch", ylabel=name.replace("_", " "))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    return figure


def _confusion_matrix(counts: list[list[int]], class_names: Sequence[str]) -> Figure:
    classes = len(counts)
    labelled = classes <= LABELLED_CLASSES
    names = [short(name) for name in class_names] or [str(i) for i in range(classes)]
    label = max(map(len, names)) * INCHES_A_LETTER if labelled else 0.0
    size = min(11.0, 2.4 + 0.45 * classes)
    flat = label < 0.8 * size / classes
    figure, axes = new_axes(size + label + 1.2, size + (0.0 if flat else 0.7 * label) + 0.6)
    totals = [max(1, sum(row)) for row in counts]
    shares = [[value / total for value in row] for row, total in zip(counts, totals, strict=True)]
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    if labelled:
        for i, row in enumerate(counts):
            for j, value in enumerate(row):
                color = "white" if shares[i][j] > 0.5 else "black" if value else "0.7"
                points = 11 if classes <= 5 else 8 if value < 1000 else 6.5
                axes.text(j, i, _count(value), ha="center", va="center", color=color, fontsize=points)
        slant = {} if flat else {"rotation": 45, "ha": "right", "rotation_mode": "anchor"}
        axes.set_xticks(range(classes), names, **slant)
        axes.set_yticks(range(classes), names)
    axes.set(xlabel="predicted class", ylabel="actual class")
    figure.colorbar(image, ax=axes, label="share of the actual class", fraction=0.046)
    return figure


def _count(value: int) -> str:
    return str(value) if value < 10_000 else f"{value / 1000:.0f}k"


def _plane(x_name: str, y_name: str, x: list[float], y: list[float], diagonal: bool = False) -> Figure:
    figure, axes = new_axes(4.4, 4.0)
    # precision has no value where nothing is predicted to be of the class
    points = [point for point in zip(x, y, strict=True) if all(map(math.isfinite, point))]
    axes.plot(*zip(*points, strict=True))
    if diagonal:
        axes.plot([0, 1], [0, 1], color="0.6", linestyle="--", linewidth=1)
    axes.set(xlabel=x_name, ylabel=y_name, xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), aspect="equal")
    axes.grid(alpha=0.3)
    return figure


def _scatter(prediction: list[float], target: list[float]) -> Figure:
    figure, axes = new_axes(4.4, 4.0)
    many = len(target) > 500
    axes.scatter(target, prediction, s=4 if many else 12, alpha=0.3 if many else 0.6, linewidths=0)
    low, high = min(target + prediction), max(target + prediction)
    axes.plot([low, high], [low, high], color="0.6", linestyle="--", linewidth=1)
    axes.set(xlabel="actual value", ylabel="predicted value", aspect="equal")
    axes.grid(alpha=0.3)
    return figure
