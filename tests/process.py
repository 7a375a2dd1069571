"""Runs the command line in a process of its own, forked from a server that imported torch once; can really kill it,
and limits what a process may allocate.
"""

from __future__ import annotations

import importlib
import multiprocessing
import os
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["src.experiment.run", "src.models.cnn", "src.models.fnn", "sklearn.datasets"])


@dataclass
class Result:
    code: int  # as a shell sees it; -9 where the process was killed
    out: str
    err: str


def command(
    arguments: list[str],
    env: dict[str, str],
    cwd: Path,
    kill: tuple[Any, ...] | None = None,
    files: str = "",
    timeout: float = 300,  # seconds
    entry: str = "train",
) -> Result:
    """`python -m src.ENTRY ARGUMENTS` in `cwd`; `kill` is (place, count[, signum]): a signal at that passing."""
    out, err = (cwd / f".{name}-{os.getpid()}{files}" for name in ("out", "err"))
    process = CONTEXT.Process(target=_child, args=(entry, arguments, env, str(cwd), str(out), str(err), kill))
    process.start()
    process.join(timeout)
    if process.is_alive():
        process.kill()
        process.join()
        raise TimeoutError(f"{arguments} took over {timeout} s; stderr: {err.read_text()[-2000:]}")
    return Result(process.exitcode, out.read_text(), err.read_text())


def limit_memory(more: int) -> None:
    """Lets this process (of Linux) allocate so many MiB beyond what it has; what would take more fails."""
    import resource

    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    limit = (int(status["VmData"].split()[0]) << 10) + (more << 20)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))


def _child(entry, arguments, env, cwd, out, err, kill) -> None:
    for path, number in ((out, 1), (err, 2)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    os.environ.update(env)
    os.chdir(cwd)
    sys.argv = [f"labbook-{entry}", *arguments]
    if kill is not None:
        _arm(*kill)
    importlib.import_module(f"src.{entry}").main()


def _arm(place: str, count: int, signum: int = signal.SIGKILL) -> None:
    """Makes the process send itself a signal, without any warning to it, at the count-th passing of a place."""
    import pytorch_lightning as pl

    import src.training.callbacks.checkpoint as checkpoint
    from src.experiment import artifacts
    from src.tracking.run import Run
    from src.training.callbacks.progress import ProgressBar
    from src.training.callbacks.recording import Recorder

    places = {
        "start": (Run, "_wait"),  # the store is being opened
        "test": (pl.Trainer, "test"),
        "report": (artifacts, "report"),
        "step": (Recorder, "on_train_batch_end"),  # before anything else happens at the end of a step
        "step_end": (ProgressBar, "on_train_batch_end"),
        "validation": (checkpoint.Checkpoint, "on_validation_end"),
        "epoch": (checkpoint.Checkpoint, "on_train_epoch_end"),
        "rename": (os, "replace"),  # a checkpoint is written and not yet in its place
        "save": (checkpoint.Checkpoint, "save"),
    }
    owner, name = places[place]
    original = getattr(owner, name)
    passed = 0

    def deadly(*args, **kwargs):
        nonlocal passed
        passed += 1
        if passed == count:
            os.kill(os.getpid(), signum)
        return original(*args, **kwargs)

    setattr(owner, name, deadly)
