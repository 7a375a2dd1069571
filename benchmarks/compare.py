"""Cost of a comparison of many runs: processor seconds of `python -m src.compare` on stores of synthetic runs.

    python benchmarks/compare.py

Each run has the parameters of a real configuration, 30 metrics and 25 tags; five seeds make a group. Held to: 1,000
runs in 2 s, 10,000 in 10 s.
"""

from __future__ import annotations

import os
import random
import resource
import sqlite3
import subprocess
import sys
import tempfile
from pathlib import Path

from _rounds import PROJECT, where
from omegaconf import OmegaConf
from rich.console import Console
from rich.table import Table

from src.config import compose
from src.tracking import provenance, sqlite

SEEDS = 5
METRICS = [f"{part}/{name}" for part in ("train", "val", "test") for name in ("loss", "accuracy", "f1", "auroc")]
METRICS += [f"{name}_best" for name in METRICS if name.startswith("val/")]
METRICS += [f"cost/{name}" for name in ("seconds", "flops", "parameters", "energy_joules")]
METRICS += [f"system/{i}" for i in range(9)] + ["baseline/accuracy"]
HELD = {1_000: 2.0, 10_000: 10.0}


def store(path: Path, runs: int) -> None:
    """A store of so many runs."""
    sqlite.ensure(path, path.parent)
    draw = random.Random(0)
    config = OmegaConf.to_container(compose(["model=fnn", "data=digits"]), resolve=True)
    plain = provenance.flatten(config)
    rows: dict[str, list[tuple]] = {"runs": [], "params": [], "tags": [], "latest_metrics": []}
    for number in range(runs):
        run, (group, seed) = f"{number:032x}", divmod(number, SEEDS)
        own = {"seed": seed, "optimizer.lr": 10 ** -(1 + group % 50 / 10), "model.width": 8 * (1 + group // 50)}
        rows["runs"].append((run, f"run{number}", "FINISHED", number, number + 1, "active", f"/none/{run}", 0))
        rows["params"] += [(key, str(own.get(key, value)), run) for key, value in plain.items()]
        tags = {f"labbook.tag{i}": str(draw.random()) for i in range(23)}
        tags |= {"labbook.monitor": "val/accuracy", "labbook.task": "classification"}
        rows["tags"] += [(key, value, run) for key, value in tags.items()]
        quality = draw.gauss(group / runs, 0.05)
        rows["latest_metrics"] += [(key, quality + draw.random() / 100, number, 9, 0, run) for key in METRICS]
    columns = {
        "runs": "run_uuid,name,status,start_time,end_time,lifecycle_stage,artifact_uri,experiment_id",
        "params": "key,value,run_uuid",
        "tags": "key,value,run_uuid",
        "latest_metrics": "key,value,timestamp,step,is_nan,run_uuid",
    }
    with sqlite3.connect(path) as connection:
        for table, values in rows.items():
            marks = ",".join("?" * len(values[0]))
            connection.executemany(f"INSERT INTO {table}({columns[table]}) VALUES ({marks})", values)


def seconds(path: Path) -> float:
    """Processor time of the command, by this process's children."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "-m", "src.compare"]
    environment = os.environ | {"MLFLOW_TRACKING_URI": f"sqlite:///{path}", "OMP_NUM_THREADS": "1"}
    subprocess.run(command, cwd=PROJECT, env=environment, stdout=subprocess.DEVNULL, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    table = Table("runs", "processor, s", "held to, s", "store, MB", title=f"a comparison of all runs; {where()}")
    with tempfile.TemporaryDirectory() as scratch:
        for runs, held in HELD.items():
            path = Path(scratch) / str(runs) / "mlflow.db"
            path.parent.mkdir()
            store(path, runs)
            taken = sorted(seconds(path) for _ in range(3))[1]
            table.add_row(f"{runs:,}", f"{taken:.2f}", f"{held:g}", f"{path.stat().st_size / 1e6:.0f}")
    Console().print(table)


if __name__ == "__main__":
    main()
