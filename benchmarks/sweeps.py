"""Sweeps: 16 short jobs one at a time and two at a time, and a job of the warm pool beside a process of its own.

    python benchmarks/sweeps.py

All with one thread a job, tracked, tested, with pictures. The first table is of whole commands. In the second the cost
of a job is its time beyond `fit`: of the pool the time from the end of one job to that of the next, of a process its
time from start to exit.
"""

from __future__ import annotations

import argparse
import os
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from _rounds import PROJECT, Column, alternate, show

SCRATCH = Path(tempfile.mkdtemp(prefix="labbook-bench-"))
DATABASE = SCRATCH / "mlflow.db"
JOB = ("model=fnn", "data=digits", "threads=1", "tracking.system_metrics=false")
EPOCHS = 60  # of a short job: some seconds
JOBS = 16


def train(*overrides: str) -> float:
    """Wall seconds of a command."""
    began = time.monotonic()
    env = os.environ | {"MLFLOW_TRACKING_URI": f"sqlite:///{DATABASE}", "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, "-m", "src.train", *JOB, *overrides]
    done = subprocess.run(command, cwd=PROJECT, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {done.returncode}: {done.stderr}")
    return time.monotonic() - began


def fit_seconds(count: int) -> float:
    """Seconds of `fit` in the latest runs, on average."""
    query = (
        "SELECT value FROM latest_metrics JOIN runs USING (run_uuid) WHERE key = 'cost/seconds'"
        " ORDER BY start_time DESC LIMIT ?"
    )
    with sqlite3.connect(DATABASE) as connection:
        return statistics.fmean(value for (value,) in connection.execute(query, (count,)))


def sweep(at_a_time: int) -> dict[str, float]:
    wall = train("-m", f"trainer.max_epochs={EPOCHS}", f"seed=range({JOBS})", f"n_jobs={at_a_time}", "again=true")
    return {"wall": wall, "fit": fit_seconds(JOBS)}


def process() -> dict[str, float]:
    wall = train("trainer.max_epochs=5")
    fit = fit_seconds(1)
    return {"wall": wall, "fit": fit, "cost": wall - fit}


def pool() -> dict[str, float]:
    train("-m", "trainer.max_epochs=5", "seed=range(7)", "n_jobs=1", "again=true")
    newest = max(SCRATCH.glob("mlruns/sweeps/*"))
    ends = sorted(path.stat().st_mtime for path in newest.glob("jobs/*/state.json"))
    wall, fit = (ends[-1] - ends[0]) / (len(ends) - 1), fit_seconds(len(ends))
    return {"wall": wall, "fit": fit, "cost": wall - fit}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    note = f"{options.rounds} rounds"
    job, fit = Column("a job, s", ".2f"), Column("its fit, s", ".2f")
    one = {"a process a job": process, "the pool": pool}
    columns = {"cost": Column("cost, s", ".2f"), "wall": job, "fit": fit}
    show("a job beyond its training", alternate(one, options.rounds), columns, note)
    both = {"n_jobs=1": lambda: sweep(1), "n_jobs=2": lambda: sweep(2)}
    show(f"{JOBS} jobs", alternate(both, options.rounds), {"wall": Column("the sweep, s", ".1f"), "fit": fit}, note)


if __name__ == "__main__":
    main()
