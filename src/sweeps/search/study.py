"""An Optuna study behind a ledger: asks for a trial when there is a place for it, and tells what became of its jobs.

Akiba et al. 2019, arXiv:1907.10902. A trial is a point of the search space, and has the number of that point.
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
from typing import IO, Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from src.errors import UserError
from src.runtime.compat.optuna import continued
from src.sweeps.data_requirements.jobs import Curves
from src.sweeps.jobs.ledger import Job, Ledger, search_of
from src.sweeps.jobs.run import Missing
from src.sweeps.search.space import Dimension, Space
from src.sweeps.views.terminal import number as shown
from src.tracking.redaction import redact

OWNER = "labbook"  # attribute of a study: the key and the id of the sweep that it is of


class Study(Missing):
    """The jobs of a search, some of which are still to be thought of.

    A trial ends when all its jobs have: COMPLETE with the mean of each objective over them, PRUNED where its job was,
    FAIL where a job failed or lacks a value. A trial that failed counts and is not tried again. One whose job was
    killed stays as it is, and is gone on with by the same command.

    Args:
        n_trials: that there should be in all; None: as many as before.
    """

    def __init__(self, ledger: Ledger, n_trials: int | None = None) -> None:
        super().__init__(ledger)
        self.terms: dict[str, Any] = ledger.search or {}
        self.space = Space.of(self.terms["space"])
        self.n_trials = n_trials or self.terms["n_trials"]
        self.points: defaultdict[int, list[Job]] = defaultdict(list)

    @cached_property
    def study(self) -> Any:
        return opened(self.terms, self.ledger.folder)

    def begin(self) -> None:
        if self.n_trials != self.terms["n_trials"]:
            self.ledger.amend(n_trials=self.n_trials)
        for job in self.ledger.jobs:
            self.points[job.point].append(job)
        known = len(self.study.get_trials(deepcopy=False))
        if known < len(self.points):
            raise UserError(
                f"sweep {self.ledger.id} has {len(self.points)} trials, its study {self.terms['study']} {known}: what"
                " is missing was deleted; again=true begins anew"
            )
        for point in list(self.points):
            self._tell(point)

    def __iter__(self) -> Iterator[Job]:
        point = 0
        while point < max(self.n_trials, len(self.points)):
            if len(self.points[point]) < len(self.space.runs):
                self._ask(point)
            yield from (job for job in self.points[point] if not self.done(job))
            point += 1

    def done(self, job: Job) -> bool:
        return job.done or job.state.status == "failed"

    def ended(self, job: Job) -> None:
        self._tell(job.point)

    def _ask(self, point: int) -> None:
        """Adds the jobs of a trial, of which some may be there already, as may the trial itself."""
        # a seed for each trial: what is drawn does not depend on whether this process drew those before it
        self.study.sampler = sampler(self.terms, point)
        begun = point < len(self.study.get_trials(deepcopy=False))
        trial = continued(self.study, point) if begun else self.study.ask()
        values = {one.key: _suggested(trial, one) for one in self.space.dimensions}
        jobs = list(self.space.jobs(values, point))
        self.points[point] += [self.ledger.add(job) for job in jobs[len(self.points[point]) :]]

    def _tell(self, point: int) -> None:
        """Ends the trial, if its jobs have ended."""
        from optuna.trial import TrialState

        jobs = self.points[point]
        open_ = not self.study.get_trials(deepcopy=False)[point].state.is_finished()
        if not open_ or len(jobs) < len(self.space.runs) or not all(map(self.done, jobs)):
            return
        if any(job.state.status == "failed" for job in jobs):
            self.study.tell(point, state=TrialState.FAIL)
            return
        objectives = self.terms["objectives"]
        if len(objectives) == 1:
            ((metric, mode),) = objectives.items()
            for job in jobs:
                value = _value(job, metric)
                job.note(objective=value if math.isfinite(value) else None, metric=metric, mode=mode)
        if any(job.state.pruned for job in jobs):
            self.study.tell(point, state=TrialState.PRUNED)
            return
        values = [fmean(_value(job, metric) for job in jobs) for metric in objectives]
        if all(map(math.isfinite, values)):
            self.study.tell(point, values)
        else:
            self.study.tell(point, state=TrialState.FAIL)

    def conclude(self, console: Console) -> None:
        """The best trial; of several objectives those than which no other is better in all of them."""
        trials = self.study.get_trials(deepcopy=False)
        states = [trial.state.name for trial in trials]
        counts = ", ".join(f"{states.count(name)} {name}" for name in dict.fromkeys(sorted(states)))
        lines = [f"trials: {counts or 'none yet'}"]
        objectives = self.terms["objectives"]
        best = self.study.best_trials if "COMPLETE" in states else []
        if best and len(objectives) == 1:
            (metric,) = objectives
            trial = self.study.best_trial
            several = f", mean of {len(self.space.runs)} runs" if len(self.space.runs) > 1 else ""
            lines.append(f"best, trial {trial.number}: {metric} {shown(trial.value)}{several}: {self._words(trial)}")
        for line in lines:
            console.print(line, highlight=False, soft_wrap=True, markup=False)
        if best and len(objectives) > 1:
            console.print(self._front(best))

    def _front(self, best: list[Any]) -> Table:
        objectives = self.terms["objectives"]
        found = Table(title="Pareto front", title_justify="left", title_style="italic")
        for heading in ("trial", *(f"{metric} ({mode})" for metric, mode in objectives.items())):
            found.add_column(heading, justify="right")
        found.add_column("values")
        for trial in sorted(best, key=lambda trial: trial.values):
            found.add_row(str(trial.number), *map(shown, trial.values), escape(self._words(trial)))
        return found

    def _words(self, trial: Any) -> str:
        return " ".join(one.short(trial.params[one.key]) for one in self.space.dimensions)


def supply(ledger: Ledger) -> Missing:
    """Where the jobs of a ledger come from that was begun by another command."""
    if ledger.search is not None:
        return Study(ledger)
    return Curves(ledger) if ledger.about["study"] else Missing(ledger)


def pruning_rule(job: Job) -> tuple[str, Callable[[int, float], bool]] | None:
    """What this process, which is the job, is judged by while it trains; None where nothing prunes it.

    Returns:
        The metric, and a function of (validations so far, its value) that says whether to give up.
    """
    terms = search_of(job.folder.parents[1])
    if terms is None or terms["pruner"] == "none":
        return None
    study = opened(terms, job.folder.parents[1])
    study.pruner = pruner(terms)
    trial = continued(study, job.point)

    def gives_up(step: int, value: float) -> bool:
        trial.report(value, step)
        return trial.should_prune()

    return next(iter(terms["objectives"])), gives_up


def opened(terms: dict[str, Any], folder: Path) -> Any:
    """The study of a sweep whose folder this is, made if there is none."""
    optuna = imported()
    study = optuna.create_study(
        study_name=terms["study"],
        storage=_storage(terms["storage"], folder),
        directions=["minimize" if mode == "min" else "maximize" for mode in terms["objectives"].values()],
        sampler=optuna.samplers.RandomSampler(),
        pruner=optuna.pruners.NopPruner(),
        load_if_exists=True,
    )
    owner = {"key": terms["key"], "sweep": folder.name}
    if not study.user_attrs:
        study.set_user_attr(OWNER, owner)
    study.pruner = pruner(terms)  # samplers look at it
    return study


def check_free(terms: dict[str, Any]) -> None:
    """Makes sure that the study can be begun.

    Raises:
        UserError: its name is taken, or the storage cannot be reached.
    """
    if terms["storage"] is None:
        return
    optuna = imported()
    where = f"study {terms['study']} in {redact(terms['storage'])}"
    storage = _storage(terms["storage"], Path())
    if terms["study"] not in optuna.get_all_study_names(storage):
        return
    owner = optuna.load_study(study_name=terms["study"], storage=storage).user_attrs.get(OWNER, {})
    same = owner.get("key") == terms["key"]
    what = f"is that of sweep {owner.get('sweep')}" if same else "has another search space or other settings"
    raise UserError(f"{where} {what}: begin one of another name with hydra.sweeper.study=NAME")


def imported(sampler: str = "tpe") -> ModuleType:
    """Optuna, silent.

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


def sampler(terms: dict[str, Any], trial: int) -> Any:
    """The sampler of one trial."""
    import numpy as np
    from optuna import samplers

    seed = int(np.random.SeedSequence([terms["seed"], trial]).generate_state(1)[0])
    startup = terms["startup_trials"]
    match terms["sampler"]:
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


def pruner(terms: dict[str, Any]) -> Any:
    """Its steps are validations, from 1 on; Optuna counts from 0."""
    from optuna import pruners

    match terms["pruner"]:
        case "median":
            return pruners.MedianPruner(n_startup_trials=terms["startup_trials"], n_warmup_steps=terms["warmup"] + 1)
        case "hyperband":
            return pruners.HyperbandPruner(min_resource=terms["warmup"] + 1)
    return pruners.NopPruner()


def _suggested(trial: Any, one: Dimension) -> Any:
    """The value of a trial for one dimension, drawn where it has none yet."""
    if one.choices:
        return trial.suggest_categorical(one.key, one.choices)
    if one.integer:
        return trial.suggest_int(one.key, one.low, one.high, step=one.step or 1, log=one.log)
    return trial.suggest_float(one.key, one.low, one.high, step=one.step, log=one.log)


def _value(job: Job, metric: str) -> float:
    """What a job reached in a metric; NaN where that is not known."""
    state = job.state
    known = state.metrics.get(metric, state.objective if metric == state.metric else None)
    return math.nan if known is None else known


def _storage(url: str | None, folder: Path) -> Any:
    """Optuna's storage: what the URL names, else a file in the sweep's folder.

    Raises:
        UserError: it cannot be reached.
    """
    from optuna import storages
    from optuna.storages.journal import JournalFileBackend

    if url is None:
        path = folder / "study.log"
        return storages.JournalStorage(JournalFileBackend(str(path), lock_obj=_Lock(path.with_suffix(".lock"))))
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
