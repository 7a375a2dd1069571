"""A folder for the files that tests of one process share, and what a tiny dataset is."""

from __future__ import annotations

import atexit
import operator
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from src.data.core.module import DataModule


@cache
def scratch() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="labbook-contracts-"))
    atexit.register(shutil.rmtree, folder)
    return folder


@dataclass(frozen=True)
class Tiny:
    """A dataset of conf/data with few rows.

    Attributes:
        options: makes its files and says which options it needs beside its name.
        fill: gives it its rows; of a download, rows of the same form.
    """

    options: Callable[[], list[str]] = list
    fill: Callable[[DataModule], None] = operator.methodcaller("prepare_data")


def at(path: Callable[[], str], *options: str) -> Tiny:
    """A dataset that reads the files at `data.path`."""
    return Tiny(lambda: [f"data.path={path()}", *options])
