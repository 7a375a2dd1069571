"""Lets a user's plain `mlflow.log_metric()` land in the active run, without letting MLflow decide how that run ends."""

from __future__ import annotations

import os
import sys

NAMES = ("MLFLOW_RUN_ID", "MLFLOW_TRACKING_URI", "MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING")

_active: dict[str, str] = {}  # run id -> tracking URI, the latest last
_outside: dict[str, str | None] = {}  # what the variables were before the first run


def enter(run_id: str, uri: str) -> None:
    """Makes this the run that MLflow's own functions write to."""
    if run_id in _active:
        return
    if not _active:
        _outside.update({name: os.environ.get(name) for name in NAMES})
    _active[run_id] = uri
    _show_latest()


def leave(run_id: str) -> None:
    """Gives way to the run that is still active, or to what was there before all of them."""
    if _active.pop(run_id, None) is None:
        return
    if _active:
        _show_latest()
    else:
        for name, value in _outside.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
    # MLflow holds a run that a user's call entered as its own, and would mark it FINISHED when the interpreter exits.
    if "mlflow.tracking.fluent" in sys.modules:
        from src.runtime.compat.mlflow import forget_active  # noqa: PLC0415 (not before it is needed: MLflow takes two seconds)

        forget_active(run_id)


def _show_latest() -> None:
    run_id, uri = next(reversed(_active.items()))
    os.environ["MLFLOW_RUN_ID"] = run_id
    os.environ["MLFLOW_TRACKING_URI"] = uri
    os.environ["MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING"] = "false"  # the writer measures already
