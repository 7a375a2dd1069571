"""Labbook: an experiment-tracking research harness for deep learning.

In Python: `from src import load_run, runs, train` (src/api.py).
"""

from importlib import import_module
from typing import Any

__all__ = ["load_run", "runs", "train"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        return getattr(import_module("src.api"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
