"""Tracking: a process of its own writes each run to MLflow, so training neither waits for the store nor imports it.

run = tracking.start(config=config, overrides=overrides, name=None, tags={})
run.log_points([("train/loss", 0.3, 10)])
run.finish("FINISHED")
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from src.runtime import lazy

if TYPE_CHECKING:
    from src.tracking.lookup import (
        RunInfo,
        artifact_text,
        attach,
        download,
        end_abandoned,
        find_run,
        run_of_sweep,
        sweep_runs,
    )
    from src.tracking.provenance import config_hash, default_name
    from src.tracking.run import Run, Untracked, start
    from src.tracking.store import place, shared
    from src.tracking.tables import points, table
    from src.tracking.writer.client import keep_warm, prepare

__all__ = [
    "Run",
    "RunInfo",
    "Untracked",
    "artifact_text",
    "attach",
    "config_hash",
    "default_name",
    "download",
    "end_abandoned",
    "find_run",
    "keep_warm",
    "place",
    "points",
    "prepare",
    "run_of_sweep",
    "shared",
    "start",
    "sweep_runs",
    "table",
]

# imported when first asked for: `lookup` and `tables` bring pandas or MLflow, which a start need not wait for
_PLACES = {
    "lookup": (
        *("RunInfo", "artifact_text", "attach", "download"),
        *("end_abandoned", "find_run", "run_of_sweep", "sweep_runs"),
    ),
    "provenance": ("config_hash", "default_name"),
    "run": ("Run", "Untracked", "start"),
    "store": ("place", "shared"),
    "tables": ("points", "table"),
    "writer.client": ("keep_warm", "prepare"),
}
__getattr__ = lazy.names(
    __name__, {name: f"{__name__}.{module}" for module, names in _PLACES.items() for name in names}
)
