"""Extrapolation of learning curves: fits to shares up to one half, compared with the error of all rows.

    LABBOOK_DATA_ROOT=../shared/data python benchmarks/data_requirements.py [digits ...] [--splits 3]

Each problem is the study of data requirements with shares of 0.05 to 1; the curve of those up to 0.5 predicts the mean
of as many seeds on all rows, with a 95 % interval. Further splits of the data (`data.split_seed`) are further trials.
Where a dataset is not at hand, its row says so.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from _rounds import PROJECT, where
from rich.console import Console
from rich.table import Table

from src.sweeps.data_requirements.curves import Curve, curves_of, number
from src.sweeps.jobs.ledger import Ledger

PROBLEMS = {
    "digits": ("model=cnn", "data=digits"),
    "breast_cancer": ("model=fnn", "data=breast_cancer", "study.metric=auroc"),
    "diabetes": ("model=fnn", "data=diabetes", "study.metric=rmse"),
    "names": ("model=gru", "data=names", "trainer.max_epochs=6"),
    "topics": ("model=gpt", "data=topics", "model.num_layers=2", "model.width=64", "trainer.max_epochs=4"),
    "ett": ("experiment=series/ett",),
}
UPTO = 0.5
HEADINGS = ("problem", "split", "metric", "exponent", "from rows", "predicted of rows", "expected", "measured", "held")


def study(name: str, arguments: list[str], folder: Path) -> Ledger | str:
    """Train one problem; return its ledger, or why there is none."""
    uri = f"sqlite:///{folder / 'mlflow.db'}"
    command = [sys.executable, "-m", "src.train", "-m", "study=data_requirements", *PROBLEMS[name], *arguments]
    command += ["study.fractions=[0.05,0.1,0.2,0.3,0.5,1]", "threads=1", "tracking.system_metrics=false"]
    environment = os.environ | {"MLFLOW_TRACKING_URI": uri}
    done = subprocess.run(command, cwd=PROJECT, env=environment, capture_output=True, text=True)
    if done.returncode:
        return next((line for line in reversed(done.stderr.splitlines()) if line.strip()), "it failed")
    return Ledger.find_by_id(folder / "mlruns", "last")


def row(name: str, half: Curve, whole: Curve) -> tuple[list[str], bool | None]:
    """Cells of one curve, and whether its interval holds what was measured; None: no extrapolation."""
    rows, values = list(whole.values.items())[-1]
    deviation = f" ± {statistics.stdev(values):.2g}" if len(values) > 1 else ""
    measured = statistics.fmean(values)
    sizes = f"{min(half.values):,} to {max(half.values):,}"
    split = half.name.rpartition("=")[2] or "0"
    if half.fit is None:
        said = half.reason or "the curve is flat"
        return [name, split, whole.metric, "-", sizes, f"{rows:,}", said, f"{number(measured)}{deviation}", "-"], None
    value, low, high = half.ahead(rows / max(half.values))
    held = low <= measured <= high
    cells = [f"{half.fit.parameters[1]:.2f}", sizes, f"{rows:,}", f"{number(value)} [{number(low)}, {number(high)}]"]
    return [name, split, whole.metric, *cells, f"{number(measured)}{deviation}", "yes" if held else "no"], held


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("problems", nargs="*", default=["digits", "breast_cancer", "names"], help=", ".join(PROBLEMS))
    parser.add_argument("--splits", type=int, default=1, help="of the data, each a trial of its own")
    parser.add_argument("--repeats", type=int, default=3, help="seeds of each share")
    parser.add_argument("--budget", default="steps", choices=("steps", "epochs"))
    parser.add_argument("--jobs", type=int, default=1, help="at a time")
    options = parser.parse_args()
    table, held = Table(caption=where()), []
    for heading in HEADINGS:
        table.add_column(heading)
    for name in options.problems:
        arguments = [f"study.repeats={options.repeats}", f"study.budget={options.budget}", f"n_jobs={options.jobs}"]
        if options.splits > 1:
            arguments.append(f"data.split_seed={','.join(map(str, range(options.splits)))}")
        with tempfile.TemporaryDirectory() as folder:
            ledger = study(name, arguments, Path(folder))
            if isinstance(ledger, str):
                table.add_row(name, *["-"] * 5, ledger)
                continue
            for half, whole in zip(curves_of(ledger, UPTO), curves_of(ledger), strict=True):
                cells, holds = row(name, half, whole)
                table.add_row(*cells)
                held += [] if holds is None else [holds]
    Console(width=None if sys.stdout.isatty() else 160).print(table)
    print(f"{sum(held)} of {len(held)} intervals hold what was measured, 95 % are meant to")


if __name__ == "__main__":
    main()
