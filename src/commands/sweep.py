"""Show a sweep, go on with it, or end it."""

from __future__ import annotations

import os
import signal
import time

from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.live import Live

from src import tracking
from src.commands import command
from src.errors import UserError
from src.runtime import project
from src.runtime.console import say
from src.sweeps import plugins
from src.sweeps.jobs.ledger import Ledger
from src.sweeps.launchers.base import launcher_of
from src.sweeps.search.study import pending
from src.sweeps.views.terminal import results, table


def sweep(config: DictConfig) -> None:
    """Carry out the action on the sweep that is named.

    Raises:
        UserError: there is no such sweep, or the action is not for what it does now.
    """
    plugins.register()  # which the ledger names its launcher by
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
    typed = " ".join(ledger.about["command"])
    say(console, f"of: {typed}\nwhat each job printed is in {ledger.folder}/jobs")


def resume(ledger: Ledger, config: DictConfig, console: Console) -> None:
    """Run the jobs that are missing, with the configurations as they were frozen.

    Raises:
        UserError: the sweep was begun in another project.
    """
    where = ledger.about.get("project", str(project.OWN or ""))  # of an earlier release
    if where != str(project.OWN or ""):
        advice = f"in the project {where}: go on with it there" if where else "outside of a project: go on with it so"
        raise UserError(f"sweep {ledger.id} was begun {advice}, or with {project.VARIABLE}={where}")
    first = ledger.search["space"]["templates"][0] if ledger.search else ledger.jobs[0].config.read_text()
    settings: DictConfig = OmegaConf.create(first)  # type: ignore[assignment]
    for name in ("n_jobs", "jobs_per_gpu", "on_error"):
        if config[name] is not None:
            settings[name] = config[name]
    os.chdir(ledger.about["cwd"])
    launcher_of(ledger).resume(ledger, pending(ledger), settings, command("train").job, console)


def cancel(ledger: Ledger, console: Console) -> None:
    """Ask the launcher to end, and wait until it and its jobs have; end jobs that live on without one.

    Raises:
        UserError: no process runs the sweep.
    """
    launcher = ledger.launcher
    if launcher is None:
        settings: DictConfig = OmegaConf.load(ledger.jobs[0].config)  # type: ignore[assignment]
        if not launcher_of(ledger).end_living(ledger, settings):
            raise UserError(f"sweep {ledger.id} is not running: nothing to cancel")
        return
    os.kill(launcher, signal.SIGTERM)
    with console.status(f"process {launcher} ends its jobs"):
        while ledger.launcher is not None:
            time.sleep(0.1)


def watch(ledger: Ledger, console: Console) -> None:
    """Show a live table until the sweep ends, or Ctrl-C, which leaves the sweep alone."""
    with Live(console=console, auto_refresh=False, transient=True) as live:
        while ledger.launcher is not None:
            live.update(table(ledger.read()), refresh=True)
            time.sleep(0.5)
