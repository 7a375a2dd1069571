"""Parts of all figures: saving, axes, short names."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure as Figure  # also for those that may not import matplotlib

from src.runtime.format import shorten

LONGEST_NAME = 24  # letters
INCHES_A_LETTER = 0.085


def save(path: Path, figure: Figure, tight: bool = False) -> Path:
    """Write a figure as a PNG file and return its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    FigureCanvasAgg(figure)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from")  # a text's own letters, drawn as boxes
        figure.savefig(path, dpi=120, bbox_inches="tight" if tight else None)
    return path


def new_axes(width: float = 5.0, height: float = 4.0) -> tuple[Figure, Any]:
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def short(name: str, longest: int = LONGEST_NAME) -> str:
    """A name as a label, cut where it is too long."""
    return shorten(name.replace("$", r"\$"), longest)  # no formula
