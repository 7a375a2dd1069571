"""Hydra's launchers here: freeze all jobs, leave out those that have finished, and have an executor run the others."""

from __future__ import annotations

import itertools
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from hydra.core.override_parser.types import Override
from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.progress import track
from typing_extensions import override

from src import tracking
from src.runtime import invocation
from src.sweeps.data_requirements.jobs import StudyJobs
from src.sweeps.data_requirements.study import BUDGET, stretch_epochs, study_settings
from src.sweeps.jobs.freeze import add_names, freeze, job_return, replicates
from src.sweeps.jobs.ledger import JobSpec, Ledger, key_of
from src.sweeps.jobs.run import PendingJobs, run_ledger
from src.sweeps.jobs.trials import Trial
from src.sweeps.launchers.executor import Executor
from src.sweeps.views.mlflow_run import space
from src.tracking.redaction import redact


class LedgerLauncher(Launcher):
    """Base of the launchers: they differ in where the jobs run."""

    @override
    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.loader, self.task, self.config = hydra_context.config_loader, task_function, config

    @abstractmethod
    def threads(self, jobs: int, config: DictConfig) -> int:
        """Threads of a job whose configuration does not set them.

        Args:
            jobs: how many there are.
        """

    @abstractmethod
    def executor(self, ledger: Ledger, jobs: int, config: DictConfig, task: TaskFunction) -> Executor:
        """Make what runs so many jobs of the ledger.

        Args:
            config: how they are run: `n_jobs`, `on_error` and the like.
        """

    def living(self, ledger: Ledger) -> set[int]:
        """Numbers of the jobs that live on though their launcher is dead."""
        return set()

    @property
    def place(self) -> Path:
        """The folder of runs, where the ledgers lie too."""
        return tracking.place(self.config.tracking.get("uri"), enabled=self.config.tracking.get("enabled", True))

    def end_living(self, ledger: Ledger, config: DictConfig) -> bool:
        """End those jobs, each after a checkpoint; False where there are none.

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

    @override
    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Run a sweep whose trials are all known; returns the objective of each."""
        console = Console()
        shown = track(job_overrides, "composing", console=console, transient=True, disable=not console.is_terminal)
        asked = [list(self.freeze(overrides, trial)) for trial, overrides in enumerate(shown)]
        jobs = {job.hash: job for trial in asked for job in trial}  # what was asked for twice is done once
        specs = add_names(list(jobs.values()), BUDGET if self.config.get("study") else ())
        key = key_of(specs)
        ledger = None if self.config.force else Ledger.find_by_key(self.place, key)
        if ledger is None:
            ledger = self.ledger(key, specs, len(specs))
        ledger.set_study(study_settings(self.config))
        self.run(ledger, StudyJobs(ledger) if ledger.about["study"] else PendingJobs(ledger), console)
        done = dict(zip(jobs, ledger.jobs, strict=True))
        trials = (Trial(number, [done[job.hash] for job in trial]) for number, trial in enumerate(asked))
        return [job_return(trial) for trial in trials]

    def ledger(self, key: str, jobs: Sequence[JobSpec], count: int, search: Mapping[str, Any] | None = None) -> Ledger:
        """A new ledger of this command.

        Args:
            count: how many jobs there will be.
            search: by what further ones are found, as plain data.
        """
        command = [redact(word) for word in invocation.typed()]
        return Ledger.create(
            self.place,
            key,
            jobs,
            command,
            self.threads(count, self.config),
            launcher=cast("dict[str, Any]", OmegaConf.to_container(self.config.hydra.launcher, resolve=True)),
            space=space(self.config),
            search=search,
        )

    def run(self, ledger: Ledger, jobs: PendingJobs, console: Console) -> None:
        """Run what is missing."""
        self.resume(ledger, jobs, self.config, self.task, console)

    def resume(
        self, ledger: Ledger, jobs: PendingJobs, config: DictConfig, task: TaskFunction, console: Console
    ) -> None:
        """Run what is missing of a sweep that may have been begun elsewhere; `setup` need not have been called."""
        run_ledger(ledger, config, jobs, lambda count: self.executor(ledger, count, config, task), console, self.living)

    def freeze(self, overrides: Sequence[str], trial: int) -> Iterator[JobSpec]:
        """Freeze the jobs of one trial: `repeats` seeds from `seed` on, and in each all `folds`."""
        first = self.compose(overrides)
        if longer := stretch_epochs(first):
            overrides = [*overrides, *longer]
            first = self.compose(overrides)
        for further in replicates(first):
            yield freeze(self.compose([*overrides, *further]) if further else first, trial)

    def compose(self, overrides: Sequence[str]) -> DictConfig:
        """Compose and check the configuration of a job with these overrides."""
        return self.loader.load_sweep_config(self.config, list(overrides))


def grid_jobs(overrides: list[Override]) -> Sequence[Sequence[str]]:
    """The overrides of each combination of values."""
    values: dict[str, list[str]] = {}  # of a key that is given twice the last ones count, at its first place
    for one in overrides:
        swept, key = one.is_sweep_override(), one.get_key_element()
        given = one.sweep_string_iterator() if swept else [one.get_value_element_as_str()]
        values[key] = [f"{key}={value}" for value in given]
    return [list(job) for job in itertools.product(*values.values())]


def launcher_of(ledger: Ledger) -> LedgerLauncher:
    """Make the launcher that a sweep was begun with."""
    return instantiate(ledger.about["launcher"])
