"""The Pareto front of two metrics as a figure."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from src.plots.base import short

LONGEST = 40  # letters of a name
LABELS = 24  # groups that are named


def front(
    names: Sequence[str],
    costs: np.ndarray,
    means: np.ndarray,
    deviations: np.ndarray,
    on_front: np.ndarray,
    *,
    cost: str,
    metric: str,
    maximised: bool,
) -> Figure:
    """The metric, with its spread over the runs, against the cost; the front as a line.

    Args:
        names: of the G groups, the cheapest first.
        costs, means, deviations: of each (G,); a deviation that is NaN is not drawn.
        on_front: bool (G,), groups that nothing else beats at the same or less cost.
        cost, metric: labels of the axes.
        maximised: whether more of the metric is better.
    """
    figure = Figure(figsize=(7.0, 4.6), layout="constrained")
    axes = figure.add_subplot()
    spread = np.nan_to_num(deviations)
    for rows, colour, size, label in (
        (~on_front, "0.55", 4, "beaten"),
        (on_front, "tab:blue", 6, "front: nothing is better and cheaper"),
    ):
        if rows.any():
            axes.errorbar(
                costs[rows], means[rows], yerr=spread[rows], fmt="o", markersize=size, lw=1, capsize=2, color=colour,
                label=label,
            )  # fmt: skip
    best = np.flatnonzero(on_front)
    axes.step([*costs[best], costs.max()], [*means[best], means[best[-1]]], where="post", color="tab:blue", lw=1.2,
              alpha=0.7)  # fmt: skip
    if costs.min() > 0 and costs.max() > 20 * costs.min():
        axes.set_xscale("log")
    middle = np.median(costs)
    for row in [*best, *np.flatnonzero(~on_front)][:LABELS]:
        left = costs[row] > middle
        text = axes.annotate(
            short(names[row], LONGEST), (costs[row], means[row]), xytext=(-6 if left else 6, 4),
            textcoords="offset points", ha="right" if left else "left", fontsize="x-small",
            color="black" if on_front[row] else "0.45",
        )  # fmt: skip
        text.set_in_layout(False)
    axes.margins(x=0.15, y=0.12)
    axes.set(xlabel=cost, ylabel=metric)
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize="small", loc="lower right" if maximised else "upper right")
    return figure
