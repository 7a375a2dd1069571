"""A comparison as sections of a page: sortable table, curves, quality against cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

import numpy as np
import pandas as pd

from src.comparison import formats
from src.comparison.history import history_metric
from src.comparison.leaderboard import Leaderboard
from src.pages.document import Document, Picture, Table, Text
from src.plots import comparison, sweep
from src.plots.base import Figure


def add(document: Document, board: Leaderboard, points: Mapping[str, pd.DataFrame], heading: str = "") -> None:
    """Put a comparison into a document.

    Args:
        points: by run, `step` and `value` of the metric whose history is shown.
        heading: of its table.
    """
    cells = [formats.cells(board, row) for row in board.rows]
    table = Table(formats.header(board), cells, [_keys(board, number) for number in range(len(board.rows))])
    document.add(heading, table, *map(Text, formats.remarks(board)))
    groups = [row.group for row in board.rows if row.group.runs]
    lines = [(group.name, [points[run] for run in group.runs if run in points]) for group in groups]
    name = history_metric(board.metric)
    for what, figure in (
        (f"{name} by step: mean and range", comparison.curves(lines, name)),
        (f"{board.metric} and what it costs", _costs(board)),
        (f"{board.metric} by all settings", _parallel(board)),
    ):
        document.add(what, Picture(figure) if figure is not None else None)


def _costs(board: Leaderboard) -> Figure | None:
    """The metric against each cost."""
    rows = [row for row in board.rows if row.group.runs]
    return comparison.costs(
        [row.group.name for row in rows],
        np.array([row.mean for row in rows]),
        {label: np.array([row.group.costs.get(name, np.nan) for row in rows]) for name, label in formats.COSTS.items()},
        np.array([row.pareto for row in rows], dtype=bool),
        board.metric,
    )


def _parallel(board: Leaderboard) -> Figure | None:
    """A line a group through its settings to the metric; None where groups differ in one setting, or in none."""
    rows = [row for row in board.rows if row.group.runs and np.isfinite(row.mean)]
    if len(board.settings) < 2 or len(rows) < 2:
        return None
    columns = {name: _column([row.group.settings[name] for row in rows]) for name in board.settings[: sweep.AXES]}
    trials = sweep.Trials(
        numbers=range(len(rows)),
        parameters=columns,
        log={
            name
            for name, values in columns.items()
            if not isinstance(values[0], str) and sweep.logarithmic(cast("Sequence[float]", values))
        },
        objectives=[row.mean for row in rows],
        deviations=None,
        metric=board.metric,
        maximised=board.direction == "max",
    )
    return sweep.parallel_coordinates(trials, list(columns))


def _column(values: Sequence[str]) -> Sequence[float] | Sequence[str]:
    """Numbers, where all of them are."""
    try:
        numbers = [float(value) for value in values]
    except ValueError:
        return values
    return numbers if np.isfinite(numbers).all() else values


def _keys(board: Leaderboard, number: int) -> list[object]:
    """Keys that each column of a row is sorted by; None where that is its text."""
    row = board.rows[number]
    costs = [row.group.costs.get(name) for name, heading in formats.COSTS.items() if heading in formats.header(board)]
    low = row.interval.low if row.interval else None
    return [*[None] * (len(board.settings) or 1), row.n, row.mean, low, row.p, *costs]
