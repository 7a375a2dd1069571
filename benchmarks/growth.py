"""Growth of time and memory with rows, parameters, recorded metrics, epochs, and runs that are already in the store.

    python benchmarks/growth.py [rows parameters metrics epochs runs]

Each line is one run of a feed-forward net, in a process of its own that has warmed up on the smallest size; `slope` is
the exponent of its growth since the line before it (1 is linear, 0 is constant); one above 1.15 is marked as a knee.
"""

from __future__ import annotations

import argparse
import logging
import math
import os
import sqlite3
import tempfile
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

from _rounds import where

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")

import psutil
import torch
from rich.console import Console
from rich.table import Table

from src import tracking
from src.config import compose
from src.experiment.assemble import assemble
from src.experiment.run import quieten
from src.runtime.signals import Signals
from src.tracking import store
from src.tracking.logger import MLflowLogger

SCRATCH = Path(tempfile.mkdtemp(prefix="labbook-bench-"))
KNEE = 1.15


def fit(*overrides: str, tracked: bool = False) -> dict[str, float]:
    """Seconds to assemble and to fit, and the process's memory after it; if tracked, until all is stored."""
    began = time.perf_counter()
    options = ["model=fnn", "data=random_labels", "data.val_rows=1000", "scheduler=none", "trainer.accelerator=cpu"]
    parts = assemble(compose([*options, *overrides]), Signals())
    run = tracking.start(
        config=parts.model.config, overrides=[], enabled=tracked, root=SCRATCH, uri=None, system_metrics=False
    )
    parts.checkpoint.directory = run.directory / "checkpoints"
    parts.recorder.log_points = run.log_points
    parts.trainer.logger = MLflowLogger(run)
    assembled = time.perf_counter()
    parts.trainer.fit(parts.model, datamodule=parts.data)
    fitted = time.perf_counter()
    run.finish("FINISHED")
    stored = {"until stored, s": time.perf_counter() - assembled} if tracked else {"assemble, s": assembled - began}
    return stored | {"fit, s": fitted - assembled, "memory, MiB": psutil.Process().memory_info().rss / 2**20}


def rows(n: int) -> dict[str, float]:
    """One epoch over n rows of 20 columns in batches of 1,000."""
    return fit(f"data.rows={n}", "trainer.max_epochs=1", "data.batch_size=1000", "model.width=32")


def parameters(n: int) -> dict[str, float]:
    """100 steps of a net of about n parameters on batches of 32."""
    width = round((-22 + math.sqrt(22**2 + 4 * n)) / 2)  # of 20-w-w-1
    return fit("data.rows=3200", "data.batch_size=32", "trainer.max_epochs=1", f"model.width={max(1, width)}")


def metrics(n: int) -> dict[str, float]:
    """n metric points handed to the tracker at once, 40 steps a message as a run does, until all are stored."""
    run = tracking.start(config={}, overrides=[], root=SCRATCH, system_metrics=False)
    _ = run.id
    began = time.perf_counter()
    for first in range(0, n, 40):
        run.log_points([("loss", 0.1, step) for step in range(first, min(n, first + 40))])
    sent = time.perf_counter()
    run.finish("FINISHED")
    return {
        "send, s": sent - began,
        "until stored, s": time.perf_counter() - began,
        "memory, MiB": psutil.Process().memory_info().rss / 2**20,
    }


def epochs(n: int) -> dict[str, float]:
    """n epochs of 32 steps, tracked."""
    return fit(f"trainer.max_epochs={n}", "model.hidden_sizes=[64,32]", tracked=True)


def runs(n: int) -> dict[str, float]:
    """A short run in a store that holds n runs already, and a search in it."""
    place = store.resolve(root=Path(tempfile.mkdtemp(dir=SCRATCH)))
    client = store.connect(place)
    experiment = store.experiment_id(place, client, "labbook")
    ids = [f"{i:032x}" for i in range(n)]
    with sqlite3.connect(place.database) as connection:
        connection.executemany(
            "INSERT INTO runs(run_uuid,name,user_id,status,start_time,lifecycle_stage,artifact_uri,experiment_id)"
            " VALUES (?,'n','u','FINISHED',0,'active','a',?)",
            [(run, experiment) for run in ids],
        )
        connection.executemany("INSERT INTO tags VALUES (?,?,?)", [(f"t{k}", "v", r) for r in ids for k in range(25)])
        connection.executemany("INSERT INTO params VALUES (?,?,?)", [(f"p{k}", "v", r) for r in ids for k in range(60)])
        connection.executemany(
            "INSERT INTO latest_metrics(key,value,timestamp,step,is_nan,run_uuid) VALUES (?,?,0,0,0,?)",
            [(f"m{k}", float(i), r) for i, r in enumerate(ids) for k in range(20)],
        )
    began = time.perf_counter()
    run = tracking.start(config={"seed": 1}, overrides=[], root=place.root, system_metrics=False)
    _ = run.id
    started = time.perf_counter()
    run.log_points([("loss", 0.1, step) for step in range(1000)])
    run.finish("FINISHED")
    finished = time.perf_counter()
    client.search_runs(
        [experiment], "metrics.m3 >= 0 and params.p2 = 'v'", order_by=["metrics.m3 DESC"], max_results=50
    )
    return {
        "start, s": started - began,
        "1,000 points and finish, s": finished - started,
        "search, s": time.perf_counter() - finished,
    }


STUDIES: dict[str, tuple[Callable[[int], dict[str, float]], list[int]]] = {
    "rows": (rows, [10**3, 10**4, 10**5, 10**6, 10**7]),
    "parameters": (parameters, [10**3, 10**4, 10**5, 10**6, 10**7, 10**8]),
    "metrics": (metrics, [10**2, 10**3, 10**4, 10**5, 10**6]),
    "epochs": (epochs, [10, 100, 1000]),
    "runs": (runs, [1, 100, 1000, 10_000]),
}


def measure(name: str, size: int) -> dict[str, float]:
    quieten()
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    study, sizes = STUDIES[name]
    study(sizes[0])
    return study(size)


def table(name: str) -> Table:
    study, sizes = STUDIES[name]
    with ProcessPoolExecutor(1, get_context("spawn"), max_tasks_per_child=1) as pool:
        lines = [pool.submit(measure, name, size).result() for size in sizes]
    drawn = Table(title=f"{name}: {study.__doc__.splitlines()[0]}", caption=where(), title_justify="left")
    drawn.add_column(name, justify="right")
    for column in lines[0]:
        drawn.add_column(column, justify="right")
        drawn.add_column("slope", justify="right")
    for i, (size, line) in enumerate(zip(sizes, lines, strict=True)):
        cells = []
        for column, value in line.items():
            before = lines[i - 1][column] if i else None
            slope = math.log(value / before) / math.log(size / sizes[i - 1]) if before else None
            mark = " knee" if slope is not None and slope > KNEE else ""
            cells += [f"{value:.3g}", "-" if slope is None else f"{slope:.2f}{mark}"]
        drawn.add_row(f"{size:,}", *cells)
    return drawn


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("studies", nargs="*", choices=[*STUDIES, []], help="all of them if none is named")
    options = parser.parse_args()
    console = Console(width=140)
    for name in options.studies or STUDIES:
        console.print(table(name))


if __name__ == "__main__":
    main()
