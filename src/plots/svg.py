"""Figures as elements of a page."""

from __future__ import annotations

import io

from matplotlib import rc_context
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure


def svg(figure: Figure) -> str:
    """Write a figure as an element of a page; its letters stay text."""
    FigureCanvasSVG(figure)
    stream = io.StringIO()
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "labbook"}):
        figure.savefig(stream, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    text = stream.getvalue()
    return text[text.index("<svg") :]
