"""Tiny ratings."""

from __future__ import annotations

from pathlib import Path

from src.data.core.module import DataModule
from tests.scratch import Tiny, at, scratch


def rating_table() -> str:
    """Twenty users who like every second item."""
    path = scratch() / "ratings.csv"
    rows = [f"{u},{(7 * u + 3 * i) % 15},{4 if (u + i) % 2 else 2},{i}" for u in range(20) for i in range(8)]
    path.write_text("\n".join(["userId,itemId,rating,timestamp", *rows]))
    return str(path)


def fill(data: DataModule) -> None:
    data.chosen, data.path = "file", Path(rating_table())


DATASETS = {"ratings": at(rating_table), "movielens": Tiny(fill=fill)}
