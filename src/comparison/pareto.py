"""Costs of a better figure: the groups of a comparison against one cost, and the front that nothing else beats.

A group is on the front where none is at least as good and at least as cheap, and better or cheaper; both are the means
of its runs. The leaderboard's star asks the same of all costs together.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from rich.markup import escape
from rich.table import Table

from src import plots
from src.comparison import formats
from src.comparison.leaderboard import Leaderboard, Row
from src.errors import UserError, suggest

if TYPE_CHECKING:
    from src.plots.base import Figure


@dataclass(frozen=True)
class Place:
    """One group, and the cheapest of the front that is as good at no more cost; None: it is on the front itself."""

    row: Row
    cost: float
    beaten_by: Row | None


@dataclass(frozen=True)
class Front:
    """All groups with this cost, the cheapest first."""

    board: Leaderboard
    name: str
    places: list[Place]

    @property
    def best(self) -> list[Place]:
        """Groups on the front: ever dearer and ever better."""
        return [place for place in self.places if place.beaten_by is None]

    def frame(self) -> pd.DataFrame:
        """A row a group: settings, n, mean, std, the cost, whether it is on the front, what beats it."""
        return pd.DataFrame(
            [
                dict(zip(self.header[:-1], self._settings(place.row), strict=False))
                | {"n": place.row.n, "mean": place.row.mean, "std": place.row.std, self.name: place.cost}
                | {"front": place.beaten_by is None, "beaten_by": point_name(place.beaten_by)}
                for place in self.places
            ]
        )

    @property
    def header(self) -> list[str]:
        """Headings of the table, one for each of `cells`."""
        return [*(self.board.settings or ["group"]), "n", formats.COSTS[self.name], self.board.metric, "beaten by"]

    def cells(self, place: Place) -> list[str]:
        """Cells of a group's row, as a person reads them."""
        row = place.row
        mean = formats.number(row.mean) + ("" if math.isnan(row.std) else f" ± {row.std:.2g}")
        beaten = "- (front)" if place.beaten_by is None else point_name(place.beaten_by)
        return [*self._settings(row), str(row.n), formats.quantity(place.cost), mean, beaten]

    def _settings(self, row: Row) -> list[str]:
        return list(row.group.settings.values()) or [row.group.name]

    def table(self, rows: int) -> Table:
        """Table for the terminal: the cheapest so many; the front stands out."""
        found = Table()
        settings = len(self.board.settings) or 1
        for i, heading in enumerate(self.header):
            right = settings <= i < settings + 3
            found.add_column(escape(heading), justify="right" if right else "left", overflow="fold")
        for place in self.places[:rows]:
            found.add_row(*map(escape, self.cells(place)), style="dim" if place.beaten_by else "bold")
        if len(self.places) > rows:
            found.caption = f"and {len(self.places) - rows} more; rows={len(self.places)} shows them"
        return found

    def text(self, kind: str) -> str:
        """Format as csv, json or markdown."""
        if kind == "csv":
            return self.frame().to_csv(index=False).rstrip()
        if kind == "json":
            return self.frame().to_json(orient="records", indent=1)
        lines = [self.header, ["---"] * len(self.header), *map(self.cells, self.places)]
        return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)

    def figure(self) -> Figure:
        """The metric against the cost, the front as a line."""
        rows = [place.row for place in self.places]
        return plots.pareto.front(
            [point_name(row) for row in rows],
            np.array([place.cost for place in self.places]),
            np.array([row.mean for row in rows]),
            np.array([row.std for row in rows]),
            np.array([place.beaten_by is None for place in self.places]),
            cost=formats.COSTS[self.name],
            metric=self.board.metric,
            maximised=self.board.direction == "max",
        )

    def remark(self) -> str:
        """Describe the front in words."""
        steps = [f"{point_name(place.row)} ({formats.quantity(place.cost)})" for place in self.best]
        return f"front of {self.board.metric} by {formats.COSTS[self.name]}: {', then '.join(steps)}"


def front(board: Leaderboard, cost: str) -> Front:
    """The groups of a comparison by one cost.

    Args:
        cost: parameters, flops, seconds or energy_joules, with `cost/` before it or without.

    Raises:
        UserError: another cost, or one that no group has.
    """
    name = cost.removeprefix("cost/")
    if name not in formats.COSTS:
        raise UserError(f"pareto={cost}: no cost{suggest(name, formats.COSTS)}")
    rows = [row for row in board.rows if math.isfinite(row.group.costs.get(name, math.nan)) and math.isfinite(row.mean)]
    if not rows:
        raise UserError(f"pareto={cost}: none of the runs has cost/{name}")
    sign = -1 if board.direction == "max" else 1
    rows.sort(key=lambda row: (row.group.costs[name], sign * row.mean))
    places: list[Place] = []
    best: Row | None = None  # of the front so far
    for row in rows:
        on_front = best is None or sign * row.mean < sign * best.mean
        places.append(Place(row, row.group.costs[name], None if on_front else best))
        best = row if on_front else best
    return Front(board, name, places)


def point_name(row: Row | None) -> str:
    """A group's own name, without the keys where the values tell enough."""
    return "" if row is None else " ".join(row.group.settings.values()) or row.group.name
