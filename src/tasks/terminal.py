"""Tables on the terminal: what a task's view gives of some rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from rich.console import Console
from rich.markup import escape
from rich.table import Table as RichTable


class Table(NamedTuple):
    """Table of some rows, as it is printed.

    Attributes:
        caption: the line above it.
        headings: of the columns.
        rows: their cells, a text for each heading; one may have several lines.
        flush_left: so many columns begin at the left, the others are numbers and end at the right; None: all.
    """

    caption: str
    headings: Sequence[str]
    rows: Sequence[Sequence[str]]
    flush_left: int | None = None


def print_table(console: Console, table: Table) -> None:
    """Print a table under its caption; the caption alone where there are no columns."""
    console.print(table.caption, style="italic", highlight=False)
    if not table.headings:
        return
    printed = RichTable()
    for place, heading in enumerate(table.headings):
        right = table.flush_left is not None and place >= table.flush_left
        printed.add_column(escape(heading), justify="right" if right else "left")
    for cells in table.rows:
        printed.add_row(*map(escape, cells))
    console.print(printed)
