"""Pictures of a comparison: curves of the best groups with their band, and quality against cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from src.plots.base import short

LINES = 8  # groups that are told apart by colour
LONGEST = 40  # letters of a group's name


def curves(groups: Sequence[tuple[str, Sequence[pd.DataFrame]]], metric: str) -> Figure | None:
    """The mean over the runs of each group by step, and the band from the least to the greatest of them.

    Args:
        groups: name, and of each run `step` and `value`; the best first, no more than eight are drawn.

    Returns:
        None where no run has more than one value.
    """
    figure, axes = _axes()
    for name, points in groups[:LINES]:
        runs = [one.drop_duplicates("step", keep="last").set_index("step")["value"] for one in points]
        if not runs or max(map(len, runs)) < 2:
            continue
        values = pd.concat(runs, axis=1).sort_index().interpolate("index", limit_area="inside")
        (line,) = axes.plot(values.index, values.mean(axis=1), label=short(name, LONGEST))
        if len(runs) > 1:
            axes.fill_between(
                values.index, values.min(axis=1), values.max(axis=1), color=line.get_color(), alpha=0.15, lw=0
            )
    if not axes.lines:
        return None
    axes.set(xlabel="step", ylabel=metric)
    axes.legend(frameon=False, fontsize="small")
    return figure


def costs(
    names: Sequence[str], means: np.ndarray, by_cost: Mapping[str, np.ndarray], front: np.ndarray, metric: str
) -> Figure | None:
    """The metric against each cost; the groups on the front are named.

    Args:
        names: of the G groups, the best first.
        means: of the metric (G,).
        by_cost: values (G,) by the cost's label, NaN where a group has none.
        front: bool (G,), groups that nothing else beats at the same or less cost.

    Returns:
        None where fewer than two groups have any cost.
    """
    shown = {label: cost for label, cost in by_cost.items() if np.isfinite(cost).sum() > 1}
    if not shown:
        return None
    figure = Figure(figsize=(4.2 * len(shown), 3.8), layout="constrained")
    for i, (label, cost) in enumerate(shown.items()):
        axes = figure.add_subplot(1, len(shown), i + 1)
        axes.scatter(cost[~front], means[~front], s=14, color="0.6")
        axes.scatter(cost[front], means[front], s=24)
        middle = (np.nanmin(cost) + np.nanmax(cost)) / 2
        for row in [row for row in np.flatnonzero(front) if not np.isnan(cost[row])][:LINES]:
            left = cost[row] > middle
            text = axes.annotate(
                short(names[int(row)], LONGEST),
                (cost[row], means[row]),
                xytext=(-4 if left else 4, 4),
                textcoords="offset points",
                ha="right" if left else "left",
                fontsize="x-small",
            )
            text.set_in_layout(False)
        if np.nanmin(cost) > 0 and np.nanmax(cost) > 20 * np.nanmin(cost):
            axes.set_xscale("log")
        axes.margins(x=0.15)
        axes.set(xlabel=label, ylabel=metric if i == 0 else "")
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def _axes() -> tuple[Figure, Axes]:
    figure = Figure(figsize=(8, 4.2), layout="constrained")
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.3)
    return figure, axes
