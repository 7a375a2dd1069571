"""Labbook: an experiment-tracking research harness for deep learning.

In Python: `from src.api import list_runs, load_run, train_run`.
"""

import warnings
from importlib import import_module

__all__ = ()
_FORMER = {"load_run": "load_run", "runs": "list_runs", "train": "train_run"}  # until the next release


def __getattr__(name: str) -> object:
    if name not in _FORMER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    today = _FORMER[name]
    warnings.warn(f"src.{name}: import {today} from src.api instead", DeprecationWarning, stacklevel=2)
    return getattr(import_module("src.api"), today)
