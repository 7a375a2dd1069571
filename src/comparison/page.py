"""A comparison as one HTML file that needs nothing beside it: sortable table, curves, quality against cost."""

from __future__ import annotations

import html as markup
import io
import string
from collections.abc import Mapping
from importlib.resources import files

import pandas as pd
from matplotlib import rc_context
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from src.comparison import figures, writing
from src.comparison.leaderboard import Leaderboard


def html(board: Leaderboard, points: Mapping[str, pd.DataFrame], title: str) -> str:
    """The page.

    Args:
        points: by run, `step` and `value` of the metric whose course is shown.
        title: which runs are compared.
    """
    groups = [row.group for row in board.rows if row.group.runs]
    name = board.metric.removesuffix("_best")
    name = f"val/{name.rpartition('/')[2]}" if name.startswith("test/") else name
    pictures = {
        f"{name} by step: mean and range": figures.curves(groups, points, name),
        f"{board.metric} and what it costs": figures.pareto(board),
    }
    template = string.Template(files("src.comparison").joinpath("page.html").read_text(encoding="utf-8"))
    return template.substitute(
        title=markup.escape(f"{board.metric}: {title}"),
        head="".join(f"<th>{markup.escape(heading)}</th>" for heading in writing.header(board)),
        body="\n".join(_row(board, i) for i in range(len(board.rows))),
        remarks="".join(f"<p>{markup.escape(line)}</p>" for line in writing.remarks(board)),
        figures="\n".join(f"<h2>{markup.escape(what)}</h2>\n{svg(one)}" for what, one in pictures.items() if one),
    )


def _row(board: Leaderboard, number: int) -> str:
    row = board.rows[number]
    settings = len(board.settings) or 1
    values = [row.n, row.mean, row.interval.low if row.interval else None, row.p]
    values += [row.group.costs.get(name) for name in writing.COSTS]
    keys: list[object] = [None] * settings + values  # what a column is sorted by, where that is not its text
    cells = []
    for i, text in enumerate(writing.cells(board, row)):
        key = "" if i >= len(keys) or keys[i] is None else f' data-key="{keys[i]}"'
        cells.append(f"<td{key}>{markup.escape(text)}</td>")
    return f"<tr{'' if row.group.runs else ' class=baseline'}>{''.join(cells)}</tr>"


def svg(figure: Figure) -> str:
    """A figure as an element of a page; its letters stay text."""
    FigureCanvasSVG(figure)
    stream = io.StringIO()
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "labbook"}):
        figure.savefig(stream, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    text = stream.getvalue()
    return text[text.index("<svg") :]
