"""A comparison as sections of a page: sortable table, curves, quality against cost."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from src.comparison import formats
from src.comparison.leaderboard import Leaderboard
from src.pages.document import Document, Picture, Table, Text
from src.plots import comparison


def add(document: Document, board: Leaderboard, points: Mapping[str, pd.DataFrame], heading: str = "") -> None:
    """Puts a comparison into a document.

    Args:
        points: by run, `step` and `value` of the metric whose course is shown.
        heading: of its table.
    """
    cells = [formats.cells(board, row) for row in board.rows]
    table = Table(formats.header(board), cells, [_keys(board, number) for number in range(len(board.rows))])
    document.add(heading, table, *map(Text, formats.remarks(board)))
    groups, name = [row.group for row in board.rows if row.group.runs], course(board.metric)
    for what, figure in (
        (f"{name} by step: mean and range", comparison.curves(groups, points, name)),
        (f"{board.metric} and what it costs", comparison.pareto(board)),
        (f"{board.metric} by all settings", comparison.parallel(board)),
    ):
        document.add(what, Picture(figure) if figure is not None else None)


def course(metric: str) -> str:
    """The metric that shows how another one came about: of a test its validation."""
    name = metric.removesuffix("_best")
    return f"val/{name.rpartition('/')[2]}" if name.startswith("test/") else name


def _keys(board: Leaderboard, number: int) -> list[object]:
    """What each column of a row is sorted by; None where that is its text."""
    row = board.rows[number]
    costs = [row.group.costs.get(name) for name, heading in formats.COSTS.items() if heading in formats.header(board)]
    low = row.interval.low if row.interval else None
    return [*[None] * (len(board.settings) or 1), row.n, row.mean, low, row.p, *costs]
