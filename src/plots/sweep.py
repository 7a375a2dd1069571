"""Pictures of a sweep: the objective in the order of the jobs, against each parameter, along all, and what matters."""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, MaxNLocator, NullLocator

from src.plots.base import save, short

Column = Sequence[float] | Sequence[str]

PANELS = 12  # parameters that have a slice
AXES = 10  # parameters of the parallel coordinates
CATEGORIES = 12  # that have a label
TICKS = 5  # of an axis of numbers
LONGEST = 16  # letters of a category
BEST, OTHERS = "tab:red", "tab:blue"


@dataclass(frozen=True)
class Trials:
    """Finished trials of a sweep in their order, column by column.

    Attributes:
        numbers: of the trials in the sweep.
        parameters: what varies: a number or a category of each trial, by name.
        log: parameters with a logarithmic axis.
        objectives: one a trial.
        deviations: standard deviation of each over seeds or folds; None where a trial is one job.
        metric: what the objective is.
        maximised: whether more is better.
    """

    numbers: Sequence[int]
    parameters: Mapping[str, Column]
    log: Collection[str]
    objectives: Sequence[float]
    deviations: Sequence[float] | None
    metric: str
    maximised: bool

    @property
    def best(self) -> int:
        """Place of the best one."""
        return self.objectives.index((max if self.maximised else min)(self.objectives))


def save_figures(folder: Path, trials: Trials, importance: Mapping[str, float]) -> list[Path]:
    """Draws what there is to draw and returns the files.

    Args:
        folder: where the PNG files go; made if it is not there.
        importance: each parameter's share of the objective's variance, the largest first.
    """
    figures: dict[str, Figure] = {}
    if len(trials.objectives) > 1:
        figures["history"] = _history(trials)
        first = [name for name in importance if name in trials.parameters]
        names = [*first, *(name for name in trials.parameters if name not in first)]
        if names:
            figures["slices"] = _slices(trials, names[:PANELS])
        if len(names) > 1:
            figures["parallel_coordinates"] = parallel_coordinates(trials, names[:AXES])
    if importance:
        figures["importance"] = _importance(importance)
    return [save(folder / f"{name}.png", figure) for name, figure in figures.items()]


def logarithmic(values: Sequence[float]) -> bool:
    """True if numbers lie more evenly by their logarithm than as they are, such as 1, 10, 100."""
    distinct = sorted(set(values))
    if len(distinct) < 3 or distinct[0] <= 0:
        return False
    return _widest([math.log(value) for value in distinct]) < _widest(distinct)


def _widest(ordered: Sequence[float]) -> float:
    """The widest gap between neighbours as a share of the whole range."""
    gaps = [right - left for left, right in itertools.pairwise(ordered)]
    return max(gaps) / (ordered[-1] - ordered[0])


def _figure(width: float, height: float) -> Figure:
    return Figure(figsize=(width, height), layout="constrained")


def _bare(axes: Axes) -> Axes:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.3)
    return axes


def _history(trials: Trials) -> Figure:
    figure = _figure(5.5, 4.0)
    axes = _bare(figure.add_subplot())
    best = list(itertools.accumulate(trials.objectives, max if trials.maximised else min))
    axes.errorbar(
        trials.numbers, trials.objectives, yerr=trials.deviations, fmt="o", markersize=4, linewidth=1, color=OTHERS,
        alpha=0.7, label="each" if trials.deviations is None else "mean \u00b1 standard deviation",
    )  # fmt: skip
    axes.step(trials.numbers, best, where="post", color=BEST, label="best so far")
    axes.set(xlabel="number in the sweep", ylabel=trials.metric)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(frameon=False)
    return figure


def _slices(trials: Trials, names: Sequence[str]) -> Figure:
    columns = min(4, len(names))
    rows = math.ceil(len(names) / columns)
    figure = _figure(max(4.4, 2.9 * columns), 3.1 * rows + 0.4)
    grid = figure.subplots(rows, columns, sharey=True, squeeze=False)
    for place, axes in enumerate(grid.flat):
        if place >= len(names):
            axes.remove()
            continue
        name = names[place]
        where, labels = _positions(trials.parameters[name])
        _bare(axes).scatter(where, trials.objectives, s=18, alpha=0.6, linewidths=0, color=OTHERS)
        axes.scatter(where[trials.best], trials.objectives[trials.best], s=36, color=BEST, label="best")
        log = name in trials.log
        axes.set_xscale("log" if log else "linear")
        ticks: Sequence[float] = range(len(labels))
        if labels:
            axes.set_xlim(-0.5, len(labels) - 0.5)
        elif log or len(set(where)) <= TICKS:
            ticks = _ticks(where, log)
            labels = [f"{tick:.2g}" if len(set(where)) > TICKS else f"{tick:g}" for tick in ticks]
        if labels:
            slant = {"rotation": 30, "ha": "right", "rotation_mode": "anchor"} if _crowded(labels) else {}
            axes.set_xticks(ticks, labels, **slant)
            axes.xaxis.set_minor_locator(NullLocator())
        axes.set_xlabel(short(name))
        if place % columns == 0:
            axes.set_ylabel(trials.metric)
    grid.flat[0].legend(frameon=False, handletextpad=0.1)
    return figure


def _positions(column: Column) -> tuple[list[float], list[str]]:
    """Positions of the values on an axis, and its labels if they are categories."""
    if not isinstance(column[0], str):
        return list(cast("Sequence[float]", column)), []
    distinct = list(dict.fromkeys(cast("Sequence[str]", column)))
    labels = [short(text, LONGEST) for text in distinct] if len(distinct) <= CATEGORIES else [""] * len(distinct)
    return [distinct.index(str(text)) for text in column], labels


def _crowded(labels: Sequence[str]) -> bool:
    return sum(map(len, labels)) > 22


def parallel_coordinates(trials: Trials, names: Sequence[str]) -> Figure:
    """A line a trial through these parameters to its objective, the best one marked."""
    columns = {name: trials.parameters[name] for name in names} | {trials.metric: trials.objectives}
    figure = _figure(max(5.5, 1.5 * len(columns) + 1.0), 4.2)
    axes = figure.add_subplot()
    heights = []
    for place, (name, column) in enumerate(columns.items()):
        height, ticks = _scaled(column, name in trials.log and place < len(names))
        heights.append(height)
        axes.axvline(place, color="0.4", linewidth=1)
        for at, text in ticks:
            axes.annotate(
                text, (place, at), xytext=(-3, 0), textcoords="offset points", ha="right", va="center", fontsize=8,
                bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.75, "pad": 0.5}, zorder=4,
            )  # fmt: skip
    goodness = heights[-1] if trials.maximised else [1 - height for height in heights[-1]]
    colours = colormaps["viridis"](goodness)
    for number in sorted(range(len(goodness)), key=goodness.__getitem__):  # the best on top
        best = number == trials.best
        look = {"color": BEST, "linewidth": 2.2} if best else {"color": colours[number], "alpha": 0.7, "linewidth": 1.0}
        axes.plot([height[number] for height in heights], **look)
    axes.set_xticks(range(len(columns)), [short(name) for name in columns], rotation=20, ha="right")
    axes.set(xlim=(-0.55, len(columns) - 0.9), ylim=(-0.04, 1.04))
    axes.yaxis.set_major_locator(FixedLocator([]))
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    return figure


def _scaled(column: Column, log: bool) -> tuple[list[float], list[tuple[float, str]]]:
    """Heights of the values between 0 and 1, and an axis' ticks as `(height, label)`."""
    where, labels = _positions(column)
    ticks = list(range(len(labels))) or _ticks(where, log)
    labels = labels or [f"{tick:.3g}" for tick in ticks]
    scale = math.log if log else float
    low, high = scale(min(where)), scale(max(where))

    def height(value: float) -> float:
        return (scale(value) - low) / (high - low) if high > low else 0.5

    return [height(value) for value in where], [(height(t), text) for t, text in zip(ticks, labels, strict=True)]


def _ticks(values: Sequence[float], log: bool) -> list[float]:
    """The values themselves where they are few, else some from the lowest to the highest."""
    distinct = sorted(set(values))
    if len(distinct) <= TICKS:
        return distinct
    low, high = distinct[0], distinct[-1]
    shares = [i / (TICKS - 1) for i in range(TICKS)]
    return [low * (high / low) ** share if log else low + (high - low) * share for share in shares]


def _importance(importance: Mapping[str, float]) -> Figure:
    names = list(importance)[:PANELS]
    figure = _figure(5.5, 1.2 + 0.35 * len(names))
    axes = _bare(figure.add_subplot())
    axes.grid(False, axis="y")
    shares = [importance[name] for name in names]
    bars = axes.barh(range(len(names)), shares, color=OTHERS)
    axes.bar_label(bars, [f"{share:.0%}" for share in shares], padding=3)
    axes.set_yticks(range(len(names)), [short(name) for name in names])
    axes.invert_yaxis()
    axes.set(xlabel="share of the objective's variance (fANOVA)", xlim=(0, max(shares) * 1.15))
    return figure
