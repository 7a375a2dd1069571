"""Figures: arrays in, a matplotlib Figure out.

The lazy boundary of the package, the only one that imports matplotlib: after `from src import plots`, `plots.curves` is
imported when it is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from src.runtime import lazy

if TYPE_CHECKING:
    from src.plots import (
        attribution,
        base,
        calibration,
        comparison,
        curves,
        detections,
        embeddings,
        episodes,
        error_rates,
        examples,
        grid,
        learning_curve,
        pareto,
        samples,
        spectrograms,
        svg,
        sweep,
    )

__all__ = [
    "attribution",
    "base",
    "calibration",
    "comparison",
    "curves",
    "detections",
    "embeddings",
    "episodes",
    "error_rates",
    "examples",
    "grid",
    "learning_curve",
    "pareto",
    "samples",
    "spectrograms",
    "svg",
    "sweep",
]

__getattr__ = lazy.modules(__name__, __all__)
