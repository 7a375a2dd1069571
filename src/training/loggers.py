"""Loggers of a user's own beside MLflow's: they are given the same, and a run goes on without one that fails."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from functools import wraps
from itertools import groupby
from typing import Any, TypeVar

from pytorch_lightning.loggers.logger import Logger

from src.training.callbacks.recording import Point

GUARDED = ("log_metrics", "log_hyperparams", "log_graph", "save", "finalize", "after_save_checkpoint")

L = TypeVar("L", bound=Logger)


def guarded(logger: L, path: str) -> L:
    """Have a logger say in one line that it failed, the first time, and take nothing from then on.

    Args:
        path: where the logger stands in the configuration.
    """
    failed: list[Exception] = []

    def guard(method: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(method)
        def call(*arguments: Any, **options: Any) -> Any:  # noqa: ANN401 (as the logger's own)
            if failed:
                return None
            try:
                return method(*arguments, **options)
            except Exception as error:  # noqa: BLE001 (of another library, or of the user's)
                failed.append(error)
                text = " ".join(f"{type(error).__name__}: {error}".split())
                print(f"{path}: {text}; the run goes on without this logger", file=sys.stderr)
                return None

        return call

    for name in GUARDED:
        setattr(logger, name, guard(getattr(logger, name)))
    return logger


def log_points(loggers: Iterable[Logger], points: Sequence[Point]) -> None:
    """Hand points to loggers, all those of a step at once."""
    for step, group in groupby(points, key=lambda point: point[2]):
        values = {name: value for name, value, _ in group}
        for logger in loggers:
            logger.log_metrics(values, step)
