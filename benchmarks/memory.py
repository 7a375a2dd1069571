"""A whole training process, as the command starts it: peak memory and time a step beside the plain loop of step.py.

    python benchmarks/memory.py

Each figure is of one fresh training process, on the beginner's net and with model=cnn on 4,000 MNIST images: its
largest resident size, and what a step costs (see step.py, which runs all in one process and so leaves out what
src/runtime/allocator.py does).  The tracker's process beside it holds MLflow, whatever is trained, and is not counted.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from functools import partial

from _rounds import PROJECT, Column, alternate, show

PLAIN = """
import json, sys
sys.path.insert(0, "benchmarks")
from _problems import Problem, plain
print(json.dumps(plain(Problem(sys.argv[1]), fused=False)))
"""
LABBOOK = """
import json, sys
sys.path.insert(0, "benchmarks")
from src.runtime import allocator, fast_imports
allocator.keep_freed()
with fast_imports.quickly():
    import src.experiment.run
from _problems import Problem
import step
print(json.dumps(step.labbook(Problem(sys.argv[1]), tracked=sys.argv[2] == "tracked")))
"""


def peak(contestant: str, problem: str) -> dict[str, float]:
    code = PLAIN if contestant == "plain" else LABBOOK
    command = [sys.executable, "-c", code, problem, contestant]
    child = subprocess.Popen(command, cwd=PROJECT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    printed = child.stdout.read()
    _, status, usage = os.wait4(child.pid, 0)
    if status:
        raise SystemExit(f"{contestant} on {problem} ended with {status}")
    return {"peak": usage.ru_maxrss / 1024, **json.loads(printed.splitlines()[-1])}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    columns = {
        "peak": Column("peak, MiB", ".0f"),
        "wall": Column("wall, µs a step", ",.0f"),
        "cpu": Column("CPU, µs a step", ",.0f"),
    }
    for problem in ("beginner", "mnist"):
        names = {"plain": "plain loop", "untracked": "Labbook, untracked", "tracked": "Labbook, tracked"}
        contestants = {names[one]: partial(peak, one, problem) for one in names}
        show(f"{problem}: a whole process", alternate(contestants, options.rounds), columns, f"{options.rounds} rounds")


if __name__ == "__main__":
    main()
