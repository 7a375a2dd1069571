"""The Pareto front of two metrics as a figure."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from src.comparison import formats
from src.comparison.pareto import LABELS, Front, Place, point_name

LONGEST = 40  # letters of a name


def figure(found: Front) -> Figure:
    """The metric, with its spread over the runs, against the cost; the front as a line."""
    figure = Figure(figsize=(7.0, 4.6), layout="constrained")
    axes = figure.add_subplot()
    best = found.best
    _points(axes, [place for place in found.places if place.beaten_by], "0.55", 4, "beaten")
    _points(axes, best, "tab:blue", 6, "front: nothing is better and cheaper")
    costs = [place.cost for place in found.places]
    axes.step([*(place.cost for place in best), max(costs)], [*(place.row.mean for place in best), best[-1].row.mean],
              where="post", color="tab:blue", lw=1.2, alpha=0.7)  # fmt: skip
    if min(costs) > 0 and max(costs) > 20 * min(costs):
        axes.set_xscale("log")
    middle = np.median(costs)
    for place in [*best, *(place for place in found.places if place.beaten_by)][:LABELS]:
        left = place.cost > middle
        text = axes.annotate(
            _short(point_name(place.row)), (place.cost, place.row.mean), xytext=(-6 if left else 6, 4),
            textcoords="offset points", ha="right" if left else "left", fontsize="x-small",
            color="black" if place.beaten_by is None else "0.45",
        )  # fmt: skip
        text.set_in_layout(False)
    axes.margins(x=0.15, y=0.12)
    axes.set(xlabel=formats.COSTS[found.name], ylabel=found.board.metric)
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize="small", loc="lower right" if found.board.direction == "max" else "upper right")
    return figure


def _points(axes, places: Sequence[Place], colour: str, size: int, label: str) -> None:
    if places:
        spread = [0.0 if math.isnan(place.row.std) else place.row.std for place in places]
        means = [place.row.mean for place in places]
        axes.errorbar([place.cost for place in places], means, yerr=spread, fmt="o", markersize=size, lw=1,
                      capsize=2, color=colour, label=label)  # fmt: skip


def _short(name: str) -> str:
    return name if len(name) <= LONGEST else f"{name[: LONGEST - 1]}\u2026"
