"""Run one job of a sweep in a process of its own, as a cluster's engine starts it.

`python -m src.commands.job FOLDER ATTEMPT`.

The processes of a job's further devices are started the same way, with whatever Lightning adds to the command.
"""

from __future__ import annotations

import os
import signal
import sys
from importlib import import_module
from pathlib import Path

from src.commands import command
from src.config import recipes
from src.errors import Interrupted
from src.runtime import fast_imports
from src.runtime.signals import sigterm_raises
from src.sweeps.jobs import worker


def main() -> None:
    """Run the job, and end the process with the job's exit code."""
    worker.end_with(os.getppid(), signal.SIGKILL)  # what is begun in its place should not meet it
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)  # SLURM's notice, which is for the process that started this one
    folder, attempt = Path(sys.argv[1]), int(sys.argv[2])
    recipes.register()
    try:
        with sigterm_raises():
            with fast_imports.quickly():
                import_module("src.experiment.run")  # imports torch
                from src.runtime.compat.lightning import own_rank  # noqa: PLC0415 - imports torch, as the line above
            leads = own_rank() == 0
            sys.exit(worker.run_alone(folder, attempt, command("train").job, leads=leads))
    except Interrupted as stop:
        sys.exit(128 + stop.signum)


if __name__ == "__main__":
    main()
