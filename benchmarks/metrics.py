"""Cost of recording: 500 steps with 5 metrics each on SQLite, beside MLflow's own calls.

    python benchmarks/metrics.py

`in the step`: seconds of the training process for each step, until the values are safe from its crash. `whole`: until
all is stored and the run has ended, over the number of steps; the writer runs beside a training. Held to: 1 ms.
"""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path

from _rounds import alternate, where
from rich.console import Console
from rich.table import Table

os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"

from src import tracking
from src.tracking import sqlite

STEPS, METRICS, ROUNDS, HELD = 500, 5, 5, 1.0


def recorded(folder: Path) -> dict[str, float]:
    """Milliseconds a step by our tracker."""
    run = tracking.start(
        config={}, overrides=[], uri=f"sqlite:///{folder}/mlflow.db", root=folder, system_metrics=False
    )
    run.id  # noqa: B018  (waits until the run is there)
    start = time.perf_counter()
    for step in range(STEPS):
        run.log_points([(f"train/metric{i}", step * 0.1 + i, step) for i in range(METRICS)])
    stepped = time.perf_counter()
    run.finish("FINISHED")
    return _milliseconds(start, stepped)


def called(folder: Path) -> dict[str, float]:
    """Milliseconds a step by `mlflow.log_metrics` in each step."""
    import mlflow

    mlflow.set_tracking_uri(f"sqlite:///{folder}/mlflow.db")
    if mlflow.get_experiment_by_name("plain") is None:
        mlflow.create_experiment(
            "plain", artifact_location=f"{folder}/plain"
        )  # MLflow's own is below the working folder
    mlflow.set_experiment("plain")
    with mlflow.start_run():
        start = time.perf_counter()
        for step in range(STEPS):
            mlflow.log_metrics({f"train/metric{i}": step * 0.1 + i for i in range(METRICS)}, step=step)
        stepped = time.perf_counter()
    return _milliseconds(start, stepped)


def _milliseconds(start: float, stepped: float) -> dict[str, float]:
    return {"step": 1000 * (stepped - start) / STEPS, "whole": 1000 * (time.perf_counter() - start) / STEPS}


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="labbook-bench-") as name:
        folder = Path(name)
        sqlite.ensure(folder / "mlflow.db", folder / "mlruns")
        contestants = {"labbook": lambda: recorded(folder), "mlflow.log_metrics": lambda: called(folder)}
        figures = alternate(contestants, ROUNDS)
    table = Table("", "in the step, ms", "whole, ms a step", title=f"{STEPS} steps of {METRICS} metrics on SQLite")
    for contestant, values in figures.items():
        table.add_row(contestant, f"{values['step']:.3f}", f"{values['whole']:.3f}")
    console = Console()
    console.print(table)
    held = figures["labbook"]["step"]
    console.print(f"{held:.3f} ms a step, held to {HELD}: {'reached' if held <= HELD else 'MISSED'}; {where()}")


if __name__ == "__main__":
    main()
