"""An Optuna study behind a ledger: asks for a trial when there is a place for it, and reports what became of its jobs.

Akiba et al. 2019, arXiv:1907.10902. A trial of the study has the number of the trial in the ledger.
"""

from __future__ import annotations

import fcntl
import math
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path
from statistics import fmean
from types import ModuleType
from typing import IO, TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from typing_extensions import override

from src.errors import UserError
from src.runtime.compat.optuna import continued
from src.runtime.console import say
from src.runtime.format import significant as shown
from src.sweeps.data_requirements.jobs import StudyJobs
from src.sweeps.jobs.ledger import Job, Ledger, search_of
from src.sweeps.jobs.run import PendingJobs
from src.sweeps.search.space import Dimension, Space
from src.tracking.redaction import redact

if TYPE_CHECKING:
    import optuna

OWNER = "labbook"  # attribute of a study: the key and the id of the sweep that it is of


class Study(PendingJobs):
    """Jobs of a search; more are suggested as others finish.

    A trial ends when all its jobs have: COMPLETE with the mean of each objective over them, PRUNED where its job was,
    FAIL where a job failed or lacks a value. A trial that failed counts and is not tried again. One whose job was
    killed stays as it is, and is gone on with by the same command.

    Args:
        n_trials: that there should be in all; None: as many as before.
    """

    def __init__(self, ledger: Ledger, n_trials: int | None = None) -> None:
        super().__init__(ledger)
        self.settings: dict[str, Any] = ledger.search or {}
        self.space = Space.of(self.settings["space"])
        self.n_trials = n_trials or self.settings["n_trials"]
        self.jobs_of: defaultdict[int, list[Job]] = defaultdict(list)

    @cached_property
    def study(self) -> optuna.Study:
        """Study of Optuna, opened when it is first asked for."""
        return open_study(self.settings, self.ledger.folder)

    @override
    def begin(self) -> None:
        """Record a changed number of trials, and end those whose jobs had ended before."""
        if self.n_trials != self.settings["n_trials"]:
            self.ledger.update_search(n_trials=self.n_trials)
        for job in self.ledger.jobs:
            self.jobs_of[job.trial].append(job)
        known = len(self.study.get_trials(deepcopy=False))
        if known < len(self.jobs_of):
            raise UserError(
                f"sweep {self.ledger.id} has {len(self.jobs_of)} trials, its study {self.settings['study']} {known}:"
                " what is missing was deleted; force=true begins anew"
            )
        for number in list(self.jobs_of):
            self._finish_trial(number)

    def __iter__(self) -> Iterator[Job]:
        number = 0
        while number < max(self.n_trials, len(self.jobs_of)):
            if len(self.jobs_of[number]) < len(self.space.runs):
                self._start_trial(number)
            yield from (job for job in self.jobs_of[number] if not self.done(job))
            number += 1

    @override
    def done(self, job: Job) -> bool:
        return job.done or job.state.status == "failed"

    @override
    def record(self, job: Job) -> None:
        self._finish_trial(job.trial)

    def _start_trial(self, number: int) -> None:
        """Add the jobs of a trial, of which some may be there already, as may the trial itself."""
        # a seed for each trial: what is drawn does not depend on whether this process drew those before it
        self.study.sampler = sampler(self.settings, number)
        begun = number < len(self.study.get_trials(deepcopy=False))
        trial = continued(self.study, number) if begun else self.study.ask()
        values = {one.key: _suggest(trial, one) for one in self.space.dimensions}
        jobs = list(self.space.jobs(values, number))
        self.jobs_of[number] += [self.ledger.add(job) for job in jobs[len(self.jobs_of[number]) :]]

    def _finish_trial(self, number: int) -> None:
        """End the trial, if its jobs have ended."""
        from optuna.trial import TrialState

        jobs = self.jobs_of[number]
        open_ = not self.study.get_trials(deepcopy=False)[number].state.is_finished()
        if not open_ or len(jobs) < len(self.space.runs) or not all(map(self.done, jobs)):
            return
        if any(job.state.status == "failed" for job in jobs):
            self.study.tell(number, state=TrialState.FAIL)
            return
        objectives = self.settings["objectives"]
        if len(objectives) == 1:
            ((metric, mode),) = objectives.items()
            for job in jobs:
                value = _value(job, metric)
                job.update(objective=value if math.isfinite(value) else None, metric=metric, mode=mode)
        if any(job.state.pruned for job in jobs):
            self.study.tell(number, state=TrialState.PRUNED)
            return
        values = [fmean(_value(job, metric) for job in jobs) for metric in objectives]
        if all(map(math.isfinite, values)):
            self.study.tell(number, values)
        else:
            self.study.tell(number, state=TrialState.FAIL)

    def conclude(self, console: Console) -> None:
        """Print the best trial; of several objectives those than which no other is better in all of them."""
        trials = self.study.get_trials(deepcopy=False)
        states = [trial.state.name for trial in trials]
        counts = ", ".join(f"{states.count(name)} {name}" for name in dict.fromkeys(sorted(states)))
        lines = [f"trials: {counts or 'none yet'}"]
        objectives = self.settings["objectives"]
        best = self.study.best_trials if "COMPLETE" in states else []
        if best and len(objectives) == 1:
            (metric,) = objectives
            trial = self.study.best_trial
            several = f", mean of {len(self.space.runs)} runs" if len(self.space.runs) > 1 else ""
            lines.append(f"best, trial {trial.number}: {metric} {shown(trial.value)}{several}: {self._words(trial)}")
        for line in lines:
            say(console, line)
        if best and len(objectives) > 1:
            console.print(self._front(best))

    def _front(self, best: list[optuna.trial.FrozenTrial]) -> Table:
        objectives = self.settings["objectives"]
        found = Table(title="Pareto front", title_justify="left", title_style="italic")
        for heading in ("trial", *(f"{metric} ({mode})" for metric, mode in objectives.items())):
            found.add_column(heading, justify="right")
        found.add_column("values")
        for trial in sorted(best, key=lambda trial: trial.values):
            found.add_row(str(trial.number), *map(shown, trial.values), escape(self._words(trial)))
        return found

    def _words(self, trial: optuna.trial.FrozenTrial) -> str:
        return " ".join(one.short(trial.params[one.key]) for one in self.space.dimensions)


def pending(ledger: Ledger) -> PendingJobs:
    """Choose where the further jobs of a ledger come from that was begun by another command."""
    if ledger.search is not None:
        return Study(ledger)
    return StudyJobs(ledger) if ledger.about["study"] else PendingJobs(ledger)


def pruning_rule(job: Job) -> tuple[str, Callable[[int, float], bool]] | None:
    """Rule by which this process, which is the job, is pruned while it trains; None where nothing prunes it.

    Returns:
        The metric, and a function of (validations so far, its value) that says whether to give up.
    """
    settings = search_of(job.folder.parents[1])
    if settings is None or settings["pruner"] == "none":
        return None
    study = open_study(settings, job.folder.parents[1])
    study.pruner = pruner(settings)
    trial = continued(study, job.trial)

    def gives_up(step: int, value: float) -> bool:
        trial.report(value, step)
        return trial.should_prune()

    return next(iter(settings["objectives"])), gives_up


def open_study(settings: dict[str, Any], folder: Path) -> optuna.Study:
    """Open the study of a sweep by its folder, made if there is none."""
    optuna = import_optuna()
    study = optuna.create_study(
        study_name=settings["study"],
        storage=_storage(settings["storage"], folder),
        directions=["minimize" if mode == "min" else "maximize" for mode in settings["objectives"].values()],
        sampler=optuna.samplers.RandomSampler(),
        pruner=optuna.pruners.NopPruner(),
        load_if_exists=True,
    )
    owner = {"key": settings["key"], "sweep": folder.name}
    if not study.user_attrs:
        study.set_user_attr(OWNER, owner)
    study.pruner = pruner(settings)  # samplers look at it
    return study


def check_free(settings: dict[str, Any]) -> None:
    """Check that the study can be begun.

    Raises:
        UserError: its name is taken, or the storage cannot be reached.
    """
    if settings["storage"] is None:
        return
    optuna = import_optuna()
    where = f"study {settings['study']} in {redact(settings['storage'])}"
    storage = _storage(settings["storage"], Path())
    if settings["study"] not in optuna.get_all_study_names(storage):
        return
    owner = optuna.load_study(study_name=settings["study"], storage=storage).user_attrs.get(OWNER, {})
    same = owner.get("key") == settings["key"]
    what = f"is that of sweep {owner.get('sweep')}" if same else "has another search space or other settings"
    raise UserError(f"{where} {what}: begin one of another name with hydra.sweeper.study=NAME")


def import_optuna(sampler: str = "tpe") -> ModuleType:
    """Import Optuna, silent.

    Raises:
        UserError: it is not installed, or what the sampler needs.
    """
    try:
        import optuna

        if sampler == "cmaes":
            import cmaes  # noqa: F401
    except ModuleNotFoundError as error:
        raise UserError(
            f"hydra/sweeper=search needs {error.name}: install the extra `search`, pip install 'labbook[search]'"
        ) from error
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
    warnings.filterwarnings("ignore", module=r"optuna\.")
    return optuna


def sampler(settings: dict[str, Any], trial: int) -> optuna.samplers.BaseSampler:
    """Make the sampler of one trial."""
    import numpy as np
    from optuna import samplers

    seed = int(np.random.SeedSequence([settings["seed"], trial]).generate_state(1)[0])
    startup = settings["startup_trials"]
    match settings["sampler"]:
        case "tpe":
            return samplers.TPESampler(n_startup_trials=startup, seed=seed, constant_liar=True)
        case "cmaes":
            return samplers.CmaEsSampler(n_startup_trials=startup, seed=seed, warn_independent_sampling=False)
        case "gp":
            import torch

            torch.set_num_threads(1)  # threads of this process would be missing in the jobs that it forks, which hang
            return samplers.GPSampler(n_startup_trials=startup, seed=seed, warn_independent_sampling=False)
        case "nsga2":
            return samplers.NSGAIISampler(population_size=startup, seed=seed)
    return samplers.RandomSampler(seed=seed)


def pruner(settings: dict[str, Any]) -> optuna.pruners.BasePruner:
    """Make the pruner; its steps are validations, from 1 on, where Optuna counts from 0."""
    from optuna import pruners

    match settings["pruner"]:
        case "median":
            return pruners.MedianPruner(
                n_startup_trials=settings["startup_trials"], n_warmup_steps=settings["warmup"] + 1
            )
        case "hyperband":
            return pruners.HyperbandPruner(min_resource=settings["warmup"] + 1)
    return pruners.NopPruner()


def _suggest(trial: optuna.Trial, one: Dimension) -> str | float:
    """Suggest the value of a trial for one dimension, drawn where it has none yet."""
    if one.choices:
        return trial.suggest_categorical(one.key, one.choices)
    if one.integer:
        return trial.suggest_int(one.key, int(one.low), int(one.high), step=int(one.step or 1), log=one.log)
    return trial.suggest_float(one.key, one.low, one.high, step=one.step, log=one.log)


def _value(job: Job, metric: str) -> float:
    """Value that a job reached in a metric; NaN where that is not known."""
    state = job.state
    known = state.metrics.get(metric, state.objective if metric == state.metric else None)
    return math.nan if known is None else known


def _storage(url: str | None, folder: Path) -> optuna.storages.BaseStorage:
    """Optuna's storage: what the URL names, else a file in the sweep's folder.

    Raises:
        UserError: it cannot be reached.
    """
    from optuna import storages
    from optuna.storages.journal import JournalFileBackend

    if url is None:
        path = folder / "study.log"
        lock: Any = _Lock(path.with_suffix(".lock"))  # no subclass of Optuna's, which is not imported above
        return storages.JournalStorage(JournalFileBackend(str(path), lock_obj=lock))
    try:
        return storages.RDBStorage(url)
    except Exception as error:  # each database's driver has its own
        raise UserError(redact(f"hydra.sweeper.storage={url}: {str(error).strip().splitlines()[0]}")) from error


class _Lock:
    """One writer of a journal at a time. Optuna's own locks stay behind when their holder is killed."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: IO[str] | None = None

    def acquire(self) -> bool:
        self._file = open(self.path, "a")  # noqa: SIM115 (open as long as the lock is held)
        fcntl.flock(self._file, fcntl.LOCK_EX)
        return True

    def release(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None
