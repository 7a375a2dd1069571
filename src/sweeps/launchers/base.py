"""Hydra's launchers here: freeze all jobs, leave out those that have finished, and have an executor run the others."""

from __future__ import annotations

import itertools
import sys
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra.core.override_parser.types import Override
from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.progress import track

from src import tracking
from src.sweeps.data_requirements.jobs import Curves
from src.sweeps.data_requirements.study import BUDGET, stretched, terms
from src.sweeps.jobs.freeze import children, freeze, named, returned
from src.sweeps.jobs.ledger import Frozen, Ledger, key_of
from src.sweeps.jobs.run import Missing, run_ledger
from src.sweeps.jobs.trials import Point
from src.sweeps.launchers.executor import Executor
from src.sweeps.views.mlflow_run import space
from src.tracking.redaction import redact


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
        frozen = named(list(jobs.values()), BUDGET if self.config.get("study") else ())
        key = key_of(frozen)
        ledger = None if self.config.again else Ledger.find(self.place, key)
        if ledger is None:
            ledger = self.ledger(key, frozen, len(frozen))
        ledger.note_study(terms(self.config))
        self.run(ledger, Curves(ledger) if ledger.about["study"] else Missing(ledger), console)
        done = dict(zip(jobs, ledger.jobs, strict=True))
        points = (Point(number, [done[job.hash] for job in point]) for number, point in enumerate(asked))
        return [returned(point) for point in points]

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


def grid_jobs(overrides: list[Override]) -> Sequence[Sequence[str]]:
    """The overrides of each combination of values."""
    values: dict[str, list[str]] = {}  # of a key that is given twice the last ones count, at its first place
    for override in overrides:
        swept, key = override.is_sweep_override(), override.get_key_element()
        given = override.sweep_string_iterator() if swept else [override.get_value_element_as_str()]
        values[key] = [f"{key}={value}" for value in given]
    return [list(job) for job in itertools.product(*values.values())]


def launcher_of(ledger: Ledger) -> LedgerLauncher:
    """The one that a sweep was begun with."""
    return instantiate(ledger.about["launcher"])
