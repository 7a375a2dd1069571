"""Pictures of a comparison: curves of the best groups with their band, and quality against cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from src.comparison.formats import COSTS
from src.comparison.groups import Group
from src.comparison.leaderboard import Leaderboard
from src.plots import sweep

LINES = 8  # groups that are told apart by colour
LONGEST = 40  # letters of a group's name


def curves(groups: Sequence[Group], points: Mapping[str, pd.DataFrame], metric: str) -> Figure | None:
    """The mean over the runs of each group by step, and the band from the least to the greatest of them.

    Args:
        groups: the best first; no more than eight are drawn.
        points: by run, `step` and `value`.

    Returns:
        None where no run has more than one value.
    """
    figure, axes = _axes()
    for group in groups[:LINES]:
        runs = [
            points[run].drop_duplicates("step", keep="last").set_index("step")["value"]
            for run in group.runs
            if run in points
        ]
        if not runs or max(map(len, runs)) < 2:
            continue
        values = pd.concat(runs, axis=1).sort_index().interpolate("index", limit_area="inside")
        (line,) = axes.plot(values.index, values.mean(axis=1), label=_short(group.name))
        if len(runs) > 1:
            axes.fill_between(
                values.index, values.min(axis=1), values.max(axis=1), color=line.get_color(), alpha=0.15, lw=0
            )
    if not axes.lines:
        return None
    axes.set(xlabel="step", ylabel=metric)
    axes.legend(frameon=False, fontsize="small")
    return figure


def pareto(board: Leaderboard) -> Figure | None:
    """The metric against each cost; what nothing else beats at the same or less cost is named.

    Returns:
        None where fewer than two groups have costs.
    """
    rows = [row for row in board.rows if row.group.runs]
    names = [name for name in COSTS if sum(np.isfinite(row.group.costs.get(name, np.nan)) for row in rows) > 1]
    if not names:
        return None
    figure = Figure(figsize=(4.2 * len(names), 3.8), layout="constrained")
    for i, name in enumerate(names):
        axes = figure.add_subplot(1, len(names), i + 1)
        cost = np.array([row.group.costs.get(name, np.nan) for row in rows])
        mean = np.array([row.mean for row in rows])
        best = np.array([row.pareto for row in rows])
        axes.scatter(cost[~best], mean[~best], s=14, color="0.6")
        axes.scatter(cost[best], mean[best], s=24)
        middle = (np.nanmin(cost) + np.nanmax(cost)) / 2
        for row in [row for row in rows if row.pareto and name in row.group.costs][:LINES]:
            x, left = row.group.costs[name], row.group.costs[name] > middle
            text = axes.annotate(
                _short(row.group.name),
                (x, row.mean),
                xytext=(-4 if left else 4, 4),
                textcoords="offset points",
                ha="right" if left else "left",
                fontsize="x-small",
            )
            text.set_in_layout(False)
        if np.nanmin(cost) > 0 and np.nanmax(cost) > 20 * np.nanmin(cost):
            axes.set_xscale("log")
        axes.margins(x=0.15)
        axes.set(xlabel=COSTS[name], ylabel=board.metric if i == 0 else "")
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def parallel(board: Leaderboard) -> Figure | None:
    """A line a group through its settings to the metric.

    Returns:
        None where groups differ in one setting, or in none.
    """
    rows = [row for row in board.rows if row.group.runs and np.isfinite(row.mean)]
    if len(board.settings) < 2 or len(rows) < 2:
        return None
    columns = {name: _column([row.group.settings[name] for row in rows]) for name in board.settings[: sweep.AXES]}
    points = sweep.Points(
        numbers=range(len(rows)),
        parameters=columns,
        log={name for name, values in columns.items() if not isinstance(values[0], str) and sweep.logarithmic(values)},
        objectives=[row.mean for row in rows],
        deviations=None,
        metric=board.metric,
        maximised=board.direction == "max",
    )
    return sweep.parallel_coordinates(points, list(columns))


def _column(values: Sequence[str]) -> Sequence[float] | Sequence[str]:
    """Numbers, where all of them are."""
    try:
        numbers = [float(value) for value in values]
    except ValueError:
        return values
    return numbers if np.isfinite(numbers).all() else values


def _axes() -> tuple[Figure, object]:
    figure = Figure(figsize=(8, 4.2), layout="constrained")
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.3)
    return figure, axes


def _short(name: str) -> str:
    return name if len(name) <= LONGEST else f"{name[: LONGEST - 1]}…"
