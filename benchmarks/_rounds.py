"""Side by side: contestants run in turn, several rounds, and a table of medians and ratios says where and when."""

from __future__ import annotations

import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(PROJECT))  # the project is imported from its root

Figures = Mapping[str, float]  # what one contestant measured in one round, by column


@dataclass(frozen=True)
class Column:
    """A column of the table: its heading and its format."""

    heading: str
    form: str = ".1f"


def alternate(contestants: Mapping[str, Callable[[], Figures]], rounds: int) -> dict[str, dict[str, float]]:
    """Median figures by contestant. Every other round goes through them backwards; one more round first warms up."""
    figures: dict[str, list[Figures]] = {name: [] for name in contestants}
    for number in range(rounds + 1):
        for name in list(contestants) if number % 2 else reversed(list(contestants)):
            time.sleep(0.1)  # torch's idle threads spin on for a while: not to be billed to the one that comes next
            measured = contestants[name]()
            if number:
                figures[name].append(measured)
    return {
        name: {column: statistics.median(one[column] for one in measured) for column in measured[0]}
        for name, measured in figures.items()
    }


def show(title: str, medians: Mapping[str, Figures], columns: Mapping[str, Column], note: str = "") -> None:
    """Print the table; ratios are to the first contestant, as the quotient of the medians."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title, caption=f"{note}{'; ' if note else ''}{where()}", title_justify="left")
    table.add_column("", no_wrap=True)
    for column in columns.values():
        table.add_column(column.heading, justify="right")
        table.add_column("ratio", justify="right")
    first = next(iter(medians.values()))
    for name, figures in medians.items():
        cells = []
        for key, column in columns.items():
            cells += [f"{figures[key]:{column.form}}", f"{figures[key] / first[key]:.3f}"]
        table.add_row(name, *cells)
    Console(width=None if sys.stdout.isatty() else 140).print(table)


def where() -> str:
    """Processor, cores, Python, torch and commit, in one line."""
    import torch

    cpu = platform.processor() or platform.machine()
    for line in Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else ():
        if line.startswith("model name"):
            cpu = line.partition(":")[2].strip()
            break
    git = ["git", "-C", str(PROJECT), "describe", "--always", "--dirty", "--abbrev=7"]
    commit = subprocess.run(git, capture_output=True, text=True).stdout.strip() or "no commit"
    return f"{cpu}, {os.cpu_count()} cores, Python {platform.python_version()}, torch {torch.__version__}, {commit}"
