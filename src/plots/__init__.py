"""Figures: arrays in, a matplotlib Figure out.

The modules are attributes of the package and are imported when they are first asked for (PEP 562): matplotlib takes a
third of a second, which a run has to spare at its end and not at its start. `from src import plots` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from src.plots import attribution as attribution
    from src.plots import base as base
    from src.plots import curves as curves
    from src.plots import detections as detections
    from src.plots import embeddings as embeddings
    from src.plots import episodes as episodes
    from src.plots import error_rates as error_rates
    from src.plots import examples as examples
    from src.plots import grid as grid
    from src.plots import samples as samples
    from src.plots import spectrograms as spectrograms


def __getattr__(name: str) -> ModuleType:
    if (Path(__file__).parent / f"{name}.py").is_file():
        return import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
