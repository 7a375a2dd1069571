"""Tiny series."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from src.data.core.module import DataModule
from tests.scratch import Tiny, at, scratch


def time_table(time: str = "date", columns: tuple[str, ...] = ("load", "heat"), rows: int = 300) -> str:
    """Hourly waves of a day and a week."""
    path = scratch() / f"{time}-{'-'.join(columns)}-{rows}.csv"
    hours = np.arange(rows)
    times = np.datetime64("2020-01-01T00:00:00") + hours.astype("timedelta64[h]")
    waves = [5 + i + np.sin(hours * np.pi / 12 + i) + np.sin(hours * np.pi / 84) for i in range(len(columns))]
    lines = [f"{t},{','.join(f'{v:.4f}' for v in values)}" for t, *values in zip(times, *waves, strict=True)]
    path.write_text("\n".join([",".join([time, *columns]), *lines]))
    return str(path)


def filled(columns: tuple[str, ...] = ("a", "b"), rows: int = 300) -> Callable[[DataModule], None]:
    """Gives a download a table in its place."""

    def fill(data: DataModule) -> None:
        path = time_table(data.time, columns, rows)
        data.prepare_data = lambda: setattr(data, "path", Path(path))

    return fill


DATASETS = {
    "series": at(time_table),
    "ett": Tiny(fill=filled(rows=14_400)),
    "airline": Tiny(fill=filled()),
    "sp500": Tiny(fill=filled(("close",))),
}
