"""Hydra's launcher here: freezes all jobs, leaves out those that have finished, and runs the others in a pool."""

from __future__ import annotations

import hashlib
import importlib
import json
import multiprocessing
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from types import ModuleType
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict
from rich.console import Console
from rich.progress import track

from src import imports, tracking
from src.errors import RunFailed, UserError
from src.sweeps.board import Board, table
from src.sweeps.ledger import Frozen, Job, Ledger
from src.sweeps.pool import Pool, places

PLUGINS = "hydra_plugins.labbook"
TERMS = ("n_jobs", "jobs_per_gpu", "on_error", "again", "traceback")  # how a sweep is run, not what it is
ORPHANS_SECONDS = 60.0  # that the jobs of a killed launcher may take to end


class Local(Launcher):
    """Processes on this machine: `hydra/launcher=local`.

    Args:
        preload: modules that are imported once, before jobs are forked.
    """

    def __init__(self, preload: Sequence[str] = ()) -> None:
        self.preload = preload

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.loader, self.task, self.config = hydra_context.config_loader, task_function, config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        console = Console()
        shown = track(job_overrides, "composing", console=console, transient=True, disable=not console.is_terminal)
        found = {job.hash: job for job in map(self._frozen, shown)}  # what was asked for twice is done once
        frozen = list(found.values())
        place = tracking.place(self.config.tracking.get("uri"), enabled=self.config.tracking.get("enabled", True))
        ledger = None if self.config.again else Ledger.find(place, frozen)
        if ledger is None:
            _, threads = _places(len(frozen), self.config)
            ledger = Ledger.create(place, frozen, [Path(sys.orig_argv[0]).name, *sys.orig_argv[1:]], threads)
        run_ledger(ledger, self.config, self.task, self.preload, console)
        return [_returned(job) for job in ledger.jobs]

    def _frozen(self, overrides: Sequence[str]) -> Frozen:
        config = self.loader.load_sweep_config(self.config, list(overrides))
        task = list(config.hydra.overrides.task)
        kept = {"mode": "RUN", "overrides": {"task": task}, "runtime": {"choices": config.hydra.runtime.choices}}
        kept |= {"job": {"name": config.hydra.job.name, "config_name": config.hydra.job.config_name}}
        HydraConfig.instance().cfg = config  # for values such as ${hydra:runtime.choices.model}
        plain = OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"])
        resolved = OmegaConf.to_container(plain, resolve=True, throw_on_missing=False)
        with open_dict(plain):
            plain.hydra = kept
        asked = {key: value for key, value in resolved.items() if key not in TERMS}  # type: ignore[union-attr]
        text = json.dumps(asked, sort_keys=True, default=str)
        return Frozen(task, OmegaConf.to_yaml(plain), hashlib.sha256(text.encode()).hexdigest())


class Grid(Sweeper):
    """All combinations of the values given, handed to the launcher at once: `hydra/sweeper=grid`.

    Args:
        params: further overrides, as a recipe names them.
    """

    def __init__(self, params: Mapping[str, str] | None = None) -> None:
        self.params = params or {}

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.loader = hydra_context.config_loader
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> Any:
        parser = OverridesParser.create(config_loader=self.loader)
        overrides = parser.parse_overrides([*(f"{key}={value}" for key, value in self.params.items()), *arguments])
        # not imported above: Hydra loads its own plugins anew when it looks for them
        from hydra._internal.core_plugins.basic_sweeper import BasicSweeper

        (jobs,) = BasicSweeper.split_arguments(overrides, None)
        return self.launcher.launch(jobs, initial_job_idx=0)


def run_ledger(
    ledger: Ledger,
    config: DictConfig,
    task: Callable[[DictConfig], Any],
    preload: Sequence[str],
    console: Console,
) -> None:
    """Runs what is missing of a sweep, and says how it went.

    Raises:
        UserError: another process runs it; or all jobs that failed were asked for something that cannot be.
        RunFailed: some jobs have not finished.
    """
    ledger.take(ORPHANS_SECONDS)
    try:
        _settle(ledger, config)
        todo = [job for job in ledger.jobs if job.state.status != "finished"]
        print_plan(console, ledger)
        if todo:
            with imports.quickly():
                for module in preload:
                    importlib.import_module(module)
            slots, _ = _places(len(todo), config)
            pool = Pool(task, slots=slots, threads=ledger.threads, on_error=config.on_error, sweep=ledger.id)
            with Board(ledger, console, len(todo), len(slots)) as board:
                pool.run(todo, board.ended, board.show)
    finally:
        ledger.release()
    console.print(table(ledger))
    console.print(
        f"sweep {ledger.id}; what each job printed is in {ledger.folder}/jobs", highlight=False, soft_wrap=True
    )
    missing = [job for job in ledger.jobs if job.state.status != "finished"]
    if missing:
        names = "; ".join(f"{job.name} ({job.state.error or job.state.status})" for job in missing)
        kind = UserError if all(job.state.code == 2 for job in missing) else RunFailed
        raise kind(f"{len(missing)} of the sweep's {len(ledger.jobs)} jobs did not finish: {names}")


def _places(count: int, config: DictConfig) -> tuple[list[dict[str, str]], int]:
    accelerator = str(config.get("trainer", {}).get("accelerator", "cpu"))
    return places(count, config.n_jobs, config.threads, config.jobs_per_gpu, accelerator)


def print_plan(console: Console, ledger: Ledger) -> None:
    """Such as `sweep ID: 12 finished, 1 to resume, 3 to run`."""
    finished = sum(job.state.status == "finished" for job in ledger.jobs)
    resumed = sum(job.resumes for job in ledger.jobs)
    counts = {"finished": finished, "to resume": resumed, "to run": len(ledger.jobs) - finished - resumed}
    text = ", ".join(f"{count} {what}" for what, count in counts.items() if count or what == "to run")
    if finished == len(ledger.jobs):
        text += "; again=true runs everything anew"
    console.print(f"sweep {ledger.id}: {text}", highlight=False, soft_wrap=True)


def _settle(ledger: Ledger, config: DictConfig) -> None:
    """Brings the ledger up to date with the store, where a kill came between the two."""
    begun = [job for job in ledger.jobs if job.state.attempts and job.state.status != "finished"]
    if not begun:
        return
    stored = {}
    if config.tracking.get("enabled", True):
        # in a process of its own: what opening a store leaves behind should not be forked
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("fork")) as other:
            stored = other.submit(tracking.sweep_runs, ledger.id, config.tracking.get("uri")).result()
    for job in begun:
        run, status = stored.get(job.number, (job.state.run, None))
        if status == "FINISHED":
            objective = job.state.best if job.state.objective is None else job.state.objective
            job.note(status="finished", run=run, error=None, objective=objective)
        elif job.state.status == "failed" or status == "FAILED":
            job.note(status="failed")
        else:
            job.note(status="killed", run=run)


def _returned(job: Job) -> JobReturn:
    result = JobReturn(overrides=job.overrides, status=JobStatus.COMPLETED)
    result.return_value = job.state.objective
    return result


def register() -> None:
    """Makes the plugins known to Hydra; again changes nothing.

    Hydra takes plugins from the package hydra_plugins only, which has to lie beside `src` and is lost in an editable
    installation. So the package is made here.
    """
    instance, module = Plugins.instance(), ModuleType(PLUGINS)
    for plugin in (Local, Grid):
        plugin.__module__ = PLUGINS
        setattr(module, plugin.__name__, plugin)
        instance.register(plugin)
    package, _, name = PLUGINS.partition(".")
    setattr(sys.modules.setdefault(package, ModuleType(package)), name, module)
    sys.modules[PLUGINS] = module
