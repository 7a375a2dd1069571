"""Histories of a comparison's runs: how the metric went from step to step."""

from __future__ import annotations

import pandas as pd

from src import tracking
from src.comparison.leaderboard import Leaderboard


def history_metric(metric: str) -> str:
    """The metric that shows how another one came about: of a test its validation."""
    name = metric.removesuffix("_best")
    return f"val/{name.rpartition('/')[2]}" if name.startswith("test/") else name


def histories(board: Leaderboard, uri: str | None) -> dict[str, pd.DataFrame]:
    """`step` and `value` of the compared metric by run; of a test metric those of its validation."""
    return tracking.points(uri, [run for row in board.rows for run in row.group.runs], history_metric(board.metric))
