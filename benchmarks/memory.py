"""Peak memory of a training process: Labbook beside the plain loop of step.py.

    python benchmarks/memory.py

Each figure is the largest resident size of one fresh process that trains model=cnn on 8,000 MNIST images, or the
beginner's net; the tracker's process beside it is a row of its own.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from functools import partial

from _rounds import PROJECT, Column, alternate, show

PLAIN = """
import sys
sys.path.insert(0, "benchmarks")
from _problems import Problem, plain
plain(Problem(sys.argv[1]), fused=False)
"""
LABBOOK = """
import resource
import sys
sys.path.insert(0, "benchmarks")
from src import imports
with imports.quickly():
    import src.experiment
from _problems import Problem
import step
step.labbook(Problem(sys.argv[1]), tracked=sys.argv[2] == "tracked")
if sys.argv[2] == "tracked":
    print("writer", resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024)
"""


def peak(contestant: str, problem: str) -> dict[str, float]:
    code = PLAIN if contestant == "plain" else LABBOOK
    command = [sys.executable, "-c", code, problem, contestant]
    child = subprocess.Popen(command, cwd=PROJECT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    lines = [line.split() for line in child.stdout]
    _, status, usage = os.wait4(child.pid, 0)
    if status:
        raise SystemExit(f"{contestant} on {problem} ended with {status}")
    figures = {"peak": usage.ru_maxrss / 1024}
    return figures | {"writer": float(line[1]) for line in lines if line and line[0] == "writer"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    columns = {"peak": Column("peak, MiB", ".0f"), "writer": Column("tracker beside it, MiB", ".0f", ratio=False)}
    for problem in ("beginner", "mnist"):
        names = {"plain": "plain loop", "untracked": "Labbook, untracked", "tracked": "Labbook, tracked"}
        contestants = {names[one]: partial(peak, one, problem) for one in names}
        show(f"{problem}: peak memory", alternate(contestants, options.rounds), columns, f"{options.rounds} rounds")


if __name__ == "__main__":
    main()
