"""Hydra's launchers here: freeze all jobs, leave out those that have finished, and have an executor run the others."""

from __future__ import annotations

import hashlib
import importlib
import json
import sys
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf, open_dict
from rich.console import Console
from rich.progress import track

from src import imports, tracking
from src.errors import UserError
from src.sweeps.curves import Curves
from src.sweeps.executor import Executor
from src.sweeps.ledger import Frozen, Ledger, key_of
from src.sweeps.points import Point
from src.sweeps.pool import Pool, places
from src.sweeps.requirements import BUDGET, DataRequirements, stretched, study_of, terms
from src.sweeps.running import Missing, run_ledger
from src.sweeps.summary import space
from src.tracking.redaction import redact

PLUGINS = "hydra_plugins.labbook"
# how a sweep is run, not what it is; repeats and folds are in its jobs
TERMS = ("n_jobs", "jobs_per_gpu", "on_error", "again", "traceback", "repeats", "folds", "study")


class LedgerLauncher(Launcher):
    """Base of the launchers: they differ in where the jobs run."""

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.loader, self.task, self.config = hydra_context.config_loader, task_function, config

    @abstractmethod
    def threads(self, jobs: int, config: DictConfig) -> int:
        """Threads of a job whose configuration does not say, where there are so many jobs."""

    @abstractmethod
    def executor(self, ledger: Ledger, jobs: int, config: DictConfig, task: TaskFunction) -> Executor:
        """What runs so many jobs of the ledger.

        Args:
            config: how they are run: `n_jobs`, `on_error` and the like.
        """

    def living(self, ledger: Ledger) -> set[int]:
        """Numbers of the jobs that live on though the launcher that began them is dead."""
        return set()

    @property
    def place(self) -> Path:
        """The folder of runs, where the ledgers lie too."""
        return tracking.place(self.config.tracking.get("uri"), enabled=self.config.tracking.get("enabled", True))

    def end_living(self, ledger: Ledger, config: DictConfig) -> bool:
        """Ends those jobs, each after a checkpoint; False where there are none.

        Args:
            config: of one of the sweep's jobs.
        """
        ledger.take()
        try:
            alive = self.living(ledger)
            if alive:
                executor = self.executor(ledger, len(alive), config, lambda config: None)
                executor.running = {job.number: job for job in ledger.jobs if job.number in alive}
                executor.stop(lambda job: None)
        finally:
            ledger.release()
        return bool(alive)

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Runs a sweep whose points are all known; returns the objective of each."""
        console = Console()
        shown = track(job_overrides, "composing", console=console, transient=True, disable=not console.is_terminal)
        asked = [list(self.frozen(overrides, point)) for point, overrides in enumerate(shown)]
        jobs = {job.hash: job for point in asked for job in point}  # what was asked for twice is done once
        frozen = _named(list(jobs.values()), BUDGET if self.config.get("study") else ())
        key = key_of(frozen)
        ledger = None if self.config.again else Ledger.find(self.place, key)
        if ledger is None:
            ledger = self.ledger(key, frozen, len(frozen))
        ledger.note_study(terms(self.config))
        self.run(ledger, Curves(ledger) if ledger.about["study"] else Missing(ledger), console)
        done = dict(zip(jobs, ledger.jobs, strict=True))
        points = (Point(number, [done[job.hash] for job in point]) for number, point in enumerate(asked))
        return [_returned(point) for point in points]

    def ledger(self, key: str, jobs: Sequence[Frozen], count: int, search: Mapping[str, Any] | None = None) -> Ledger:
        """A new ledger of this command.

        Args:
            count: how many jobs there will be.
            search: by what further ones are found, as plain data.
        """
        command = [Path(sys.orig_argv[0]).name, *map(redact, sys.orig_argv[1:])]
        return Ledger.create(
            self.place,
            key,
            jobs,
            command,
            self.threads(count, self.config),
            launcher=OmegaConf.to_container(self.config.hydra.launcher, resolve=True),
            space=space(self.config),
            search=search,
        )

    def run(self, ledger: Ledger, jobs: Missing, console: Console) -> None:
        """Runs what is missing."""
        self.go_on(ledger, jobs, self.config, self.task, console)

    def go_on(self, ledger: Ledger, jobs: Missing, config: DictConfig, task: TaskFunction, console: Console) -> None:
        """Runs what is missing of a sweep that may have been begun elsewhere; `setup` need not have been called."""
        run_ledger(ledger, config, jobs, lambda count: self.executor(ledger, count, config, task), console, self.living)

    def frozen(self, overrides: Sequence[str], point: int) -> Iterator[Frozen]:
        """The jobs of one point of the search space: `repeats` seeds from `seed` on, and in each all `folds`."""
        first = self.composed(overrides)
        if longer := stretched(first):
            overrides = [*overrides, *longer]
            first = self.composed(overrides)
        for further in children(first):
            yield freeze(self.composed([*overrides, *further]) if further else first, point)

    def composed(self, overrides: Sequence[str]) -> DictConfig:
        """The checked configuration of a job with these overrides."""
        return self.loader.load_sweep_config(self.config, list(overrides))


class Local(LedgerLauncher):
    """Processes on this machine: `hydra/launcher=local`.

    Args:
        preload: modules that are imported once, before jobs are forked.
    """

    def __init__(self, preload: Sequence[str] = ()) -> None:
        self.preload = preload

    def threads(self, jobs: int, config: DictConfig) -> int:
        return self._places(jobs, config)[1]

    def executor(self, ledger: Ledger, jobs: int, config: DictConfig, task: TaskFunction) -> Executor:
        with imports.quickly():
            for module in self.preload:
                importlib.import_module(module)
        slots, _ = self._places(jobs, config)
        return Pool(task, slots=slots, threads=ledger.threads, on_error=config.on_error, sweep=ledger.id)

    @staticmethod
    def _places(jobs: int, config: DictConfig) -> tuple[list[dict[str, str]], int]:
        accelerator = str(config.get("trainer", {}).get("accelerator", "cpu"))
        return places(jobs, config.n_jobs, config.threads, config.jobs_per_gpu, accelerator)


class Grid(Sweeper):
    """All combinations of the values given, handed to the launcher at once: `hydra/sweeper=grid`.

    Args:
        params: further overrides, as a recipe names them.
    """

    def __init__(self, params: Mapping[str, str] | None = None) -> None:
        self.params = params or {}

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.loader, self.config = hydra_context.config_loader, config
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> Any:
        parser = OverridesParser.create(config_loader=self.loader)
        overrides = parser.parse_overrides([*(f"{key}={value}" for key, value in self.params.items()), *arguments])
        for override in overrides:
            if override.is_interval_sweep():
                raise UserError(f"{override.input_line}: a grid has no intervals, hydra/sweeper=search draws from them")
        if self.config.get("study") is not None:
            self.launcher.composed(_jobs(overrides)[0])  # which checks the options of the study
            overrides += parser.parse_overrides(self._added(study_of(self.config), overrides))
        return self.launcher.launch(_jobs(overrides), initial_job_idx=0)

    def _added(self, study: DataRequirements, overrides: Sequence[Override]) -> list[str]:
        """What a study adds."""
        given = [override.get_key_element().lstrip("+") for override in overrides]
        varied = [key for key, override in zip(given, overrides, strict=True) if override.is_sweep_override()]
        return study.overrides(given, varied, self.config.repeats)


def _jobs(overrides: list[Override]) -> Sequence[Sequence[str]]:
    """The overrides of each combination of values."""
    # not imported above: Hydra loads its own plugins anew when it looks for them
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper

    (jobs,) = BasicSweeper.split_arguments(overrides, None)
    return jobs


def launcher_of(ledger: Ledger) -> LedgerLauncher:
    """The one that a sweep was begun with."""
    return instantiate(ledger.about["launcher"])


def children(config: DictConfig) -> list[list[str]]:
    """What sets the jobs of one point apart: `repeats` seeds from `seed` on, and in each all `folds`."""
    seeds = [[f"seed={config.seed + i}"] for i in range(config.repeats)] if config.repeats > 1 else [[]]
    folds = [[f"data.folds={config.folds}", f"data.fold={i}"] for i in range(config.folds or 0)] or [[]]
    return [seed + fold for seed in seeds for fold in folds]


def freeze(config: DictConfig, point: int) -> Frozen:
    """The job of a composed configuration."""
    task = _effective(config.hydra.overrides.task)
    kept = {"mode": "RUN", "overrides": {"task": task}, "run": {"dir": config.hydra.run.dir}}
    kept |= {"runtime": {"choices": config.hydra.runtime.choices, "cwd": config.hydra.runtime.cwd}}
    kept |= {"job": {"name": config.hydra.job.name, "config_name": config.hydra.job.config_name}}
    HydraConfig.instance().cfg = config  # for values such as ${hydra:runtime.choices.model}
    plain = OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"])
    resolved = OmegaConf.to_container(plain, resolve=True, throw_on_missing=False)
    with open_dict(plain):
        plain.update(hydra=kept, repeats=1, folds=None, study=None)
    asked = {key: value for key, value in resolved.items() if key not in TERMS}  # type: ignore[union-attr]
    text = json.dumps(asked, sort_keys=True, default=str)
    return Frozen(task, OmegaConf.to_yaml(plain), hashlib.sha256(text.encode()).hexdigest(), point=point)


def _effective(overrides: Sequence[str]) -> list[str]:
    """Those that a job has: of several values of a key the last one, and nothing that is the sweep's."""
    parser, found = OverridesParser.create(), dict[tuple[Any, ...], str]()
    for text in overrides:
        override = parser.parse_override(text)
        key = override.key_or_group, override.package, override.is_delete()
        if override.key_or_group.partition(".")[0] not in TERMS:
            found.pop(key, None)
            found[key] = text
    return list(found.values())


def _named(jobs: list[Frozen], follow: Sequence[str]) -> list[Frozen]:
    """Each with the overrides for its name that not all have.

    Args:
        follow: keys that follow from others, and tell nothing more.
    """
    common = set(jobs[0].overrides).intersection(*(job.overrides for job in jobs)) if len(jobs) > 1 else set()
    common |= {text for job in jobs for text in job.overrides if text.partition("=")[0] in follow}
    names = (" ".join(text for text in job.overrides if text not in common) for job in jobs)
    return [job._replace(name=name or job.name) for job, name in zip(jobs, names, strict=True)]


def _returned(point: Point) -> JobReturn:
    result = JobReturn(overrides=point.overrides, status=JobStatus.COMPLETED)
    result.return_value = point.objective
    return result


def register() -> None:
    """Makes the plugins known to Hydra; again changes nothing.

    Hydra takes plugins from the package hydra_plugins only, which has to lie beside `src` and is lost in an editable
    installation. So the package is made here.
    """
    from src.sweeps.ray import Ray
    from src.sweeps.search import Search  # these build on this module
    from src.sweeps.slurm import Slurm

    instance, module = Plugins.instance(), ModuleType(PLUGINS)
    for plugin in (Local, Ray, Slurm, Grid, Search):
        plugin.__module__ = PLUGINS
        setattr(module, plugin.__name__, plugin)
        instance.register(plugin)
    package, _, name = PLUGINS.partition(".")
    setattr(sys.modules.setdefault(package, ModuleType(package)), name, module)
    sys.modules[PLUGINS] = module
