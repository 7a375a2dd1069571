"""Peak memory of a training process: Labbook beside the plain loop of step.py.

    python benchmarks/memory.py

Each figure is the largest resident size of one fresh training process, on the beginner's net and with model=cnn on
4,000 MNIST images. The tracker's process beside it holds MLflow, whatever is trained, and is not counted.
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
import sys
sys.path.insert(0, "benchmarks")
from src import imports
with imports.quickly():
    import src.experiment
from _problems import Problem
import step
step.labbook(Problem(sys.argv[1]), tracked=sys.argv[2] == "tracked")
"""


def peak(contestant: str, problem: str) -> dict[str, float]:
    code = PLAIN if contestant == "plain" else LABBOOK
    command = [sys.executable, "-c", code, problem, contestant]
    child = subprocess.Popen(command, cwd=PROJECT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(child.pid, 0)
    if status:
        raise SystemExit(f"{contestant} on {problem} ended with {status}")
    return {"peak": usage.ru_maxrss / 1024}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    columns = {"peak": Column("peak, MiB", ".0f")}
    for problem in ("beginner", "mnist"):
        names = {"plain": "plain loop", "untracked": "Labbook, untracked", "tracked": "Labbook, tracked"}
        contestants = {names[one]: partial(peak, one, problem) for one in names}
        show(f"{problem}: peak memory", alternate(contestants, options.rounds), columns, f"{options.rounds} rounds")


if __name__ == "__main__":
    main()
