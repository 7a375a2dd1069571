"""Looks at a sweep, goes on with it, or ends it: `python -m src.sweep status|resume|cancel SWEEP`."""

from __future__ import annotations

import os
import signal
import sys
import time

from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.live import Live

from src import tracking
from src.config import Command, entry
from src.errors import UserError
from src.sweeps.jobs.ledger import Ledger
from src.sweeps.launchers.base import launcher_of
from src.sweeps.search.study import pending
from src.sweeps.views.terminal import results, table

ACTIONS = ("status", "resume", "cancel")


@entry("sweep")
def sweep(config: DictConfig) -> None:
    """Carries out the action on the sweep that is named."""
    ledger = Ledger.find_by_id(tracking.place(config.tracking.get("uri")), config.sweep)
    console = Console()
    if config.action == "resume":
        resume(ledger, config, console)
        return
    if config.action == "cancel":
        cancel(ledger, console)
    elif ledger.launcher is not None and console.is_terminal:
        watch(ledger, console)
    ledger.read()
    console.print(table(ledger) if ledger.launcher else results(ledger))
    pending(ledger).conclude(console)
    command = " ".join(ledger.about["command"])
    console.print(f"of: {command}\nwhat each job printed is in {ledger.folder}/jobs", highlight=False, soft_wrap=True)


def resume(ledger: Ledger, config: DictConfig, console: Console) -> None:
    """Runs what is missing, with the configurations as they were frozen."""
    from src.train import main

    first = ledger.search["space"]["templates"][0] if ledger.search else ledger.jobs[0].config.read_text()
    settings = OmegaConf.create(first)
    for name in ("n_jobs", "jobs_per_gpu", "on_error"):
        if config[name] is not None:
            settings[name] = config[name]
    os.chdir(ledger.about["cwd"])
    launcher_of(ledger).resume(ledger, pending(ledger), settings, Command("train", main.__wrapped__).job, console)


def cancel(ledger: Ledger, console: Console) -> None:
    """Asks the launcher to end, and waits until it and its jobs have; ends jobs that live on without one.

    Raises:
        UserError: no process runs the sweep.
    """
    launcher = ledger.launcher
    if launcher is None:
        if not launcher_of(ledger).end_living(ledger, OmegaConf.load(ledger.jobs[0].config)):
            raise UserError(f"sweep {ledger.id} is not running: nothing to cancel")
        return
    os.kill(launcher, signal.SIGTERM)
    with console.status(f"process {launcher} ends its jobs"):
        while ledger.launcher is not None:
            time.sleep(0.1)


def watch(ledger: Ledger, console: Console) -> None:
    """A live table until the sweep ends, or Ctrl-C, which leaves the sweep alone."""
    with Live(console=console, auto_refresh=False, transient=True) as live:
        while ledger.launcher is not None:
            live.update(table(ledger.read()), refresh=True)
            time.sleep(0.5)


def main() -> None:
    """`status last` and the like are written without keys."""
    words = [word for word in sys.argv[1:] if "=" not in word and not word.startswith("-")]
    others = [word for word in sys.argv[1:] if word not in words]
    named = [f"{key}={word}" for key, word in zip(("action", "sweep"), words, strict=False)]
    sys.argv[1:] = [*named, *words[2:], *others]
    sweep()


if __name__ == "__main__":
    main()
