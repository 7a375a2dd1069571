"""A leaderboard as a person or a program reads it: rich table, Markdown, csv, JSON."""

from __future__ import annotations

import math

from rich.markup import escape
from rich.table import Table

from src.comparison.leaderboard import Leaderboard, Row
from src.runtime.format import number

COSTS = {"seconds": "seconds", "flops": "FLOPs", "parameters": "parameters", "energy_joules": "energy, J"}


WIDE = 110  # columns of a terminal from which on costs are shown


def header(board: Leaderboard) -> list[str]:
    """Headings of the columns of `cells`."""
    interval = f"{board.level:.0%} interval"
    costs = [heading for name, heading in COSTS.items() if any(name in row.group.costs for row in board.rows)]
    return [*(board.settings or ["group"]), "n", board.metric, interval, "p (best)", *costs]


def cells(board: Leaderboard, row: Row) -> list[str]:
    """One row; what cannot be told is `-`. A star marks what nothing else beats at the same or less cost."""
    if row.group.runs:
        settings = list(row.group.settings.values()) or [row.group.name]
    else:
        settings = [row.group.name, *["-"] * (len(board.settings) - 1)]
    mean = number(row.mean) if math.isnan(row.std) else f"{number(row.mean)} ± {row.std:.2g}"
    interval = f"{number(row.interval.low)} to {number(row.interval.high)}" if row.interval else "-"
    costs = [quantity(row.group.costs.get(name)) for name in COSTS if COSTS[name] in header(board)]
    return [*settings, str(row.n), f"{mean} *" if row.pareto else mean, interval, significance(row.p), *costs]


def table(board: Leaderboard, rows: int, width: int) -> Table:
    """Table for a terminal of this width: the best so many rows."""
    found = Table()
    settings = len(board.settings) or 1
    columns = len(header(board)) if width >= WIDE else settings + 4
    for i, heading in enumerate(header(board)[:columns]):
        found.add_column(escape(heading), justify="left" if i < settings else "right", overflow="fold")
    for row in board.rows[:rows]:
        found.add_row(*map(escape, cells(board, row)[:columns]), style=None if row.group.runs else "dim")
    if len(board.rows) > rows:
        found.caption = f"and {len(board.rows) - rows} more; rows={len(board.rows)} shows them"
    return found


def remarks(board: Leaderboard) -> list[str]:
    """Lines below the table."""
    lines = [board.advice] if board.advice else []
    if any(row.p < 1 for row in board.rows):
        lines.append("p: Student's paired test on the seeds that both have, corrected for all pairs (Holm)")
    if any(row.pareto for row in board.rows):
        lines.append("*: nothing is better and cheaper")
    if board.pooled:
        lines.append(f"runs within a row differ in {', '.join(board.pooled)}")
    if board.left_out:
        counts = ", ".join(f"{count} {status}" for status, count in board.left_out.items())
        lines.append(f"without {board.metric}, left out: {counts}")
    return lines


def text(board: Leaderboard, kind: str) -> str:
    """Format as csv, json or markdown."""
    if kind == "csv":
        return board.frame().to_csv(index=False).rstrip()
    if kind == "json":
        return board.frame().to_json(orient="records", indent=1)
    lines = [header(board), ["---"] * len(header(board)), *(cells(board, row) for row in board.rows)]
    rows = ["| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines]
    return "\n".join([*rows, "", *(f"{line}  " for line in remarks(board))]).rstrip()


def quantity(value: float | None) -> str:
    """`12.3`, `1,234` or `5.1e+09`."""
    if value is None or not math.isfinite(value):
        return "-"
    return f"{value:,.0f}" if 100 <= abs(value) < 1e7 else f"{value:.3g}"


def significance(p: float) -> str:
    if math.isnan(p):
        return "-"
    return f"{p:.3f}" if p >= 0.001 else "< 0.001"
