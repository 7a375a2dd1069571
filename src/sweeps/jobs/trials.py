"""Trials of a sweep: the jobs of one differ in their seed or fold only, and their mean is its objective."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from src.sweeps.jobs.ledger import Job


@dataclass(frozen=True)
class Trial:
    """One trial with all its jobs."""

    number: int
    jobs: list[Job]

    @property
    def overrides(self) -> list[str]:
        """Overrides that all its jobs have."""
        return [text for text in self.jobs[0].overrides if all(text in job.overrides for job in self.jobs)]

    @property
    def name(self) -> str:
        """Name of the jobs without what differs between them, which stands at its end."""
        name, shared = self.jobs[0].name, self.overrides
        for text in reversed(self.jobs[0].overrides):
            if text not in shared:
                name = name.removesuffix(text).rstrip()
        return name or "the only trial"

    @property
    def finished(self) -> int:
        """Number of jobs that have finished."""
        return sum(job.state.status == "finished" for job in self.jobs)

    @property
    def values(self) -> list[float]:
        """Objectives of the finished jobs."""
        found = (job.state.objective for job in self.jobs if job.state.status == "finished")
        return [value for value in found if value is not None]

    @property
    def objective(self) -> float | None:
        """Their mean; None while any job is missing, or where jobs have none."""
        values = self.values
        return statistics.fmean(values) if len(values) == len(self.jobs) else None

    @property
    def deviation(self) -> float | None:
        """Standard deviation of the objectives, with n - 1; None of a single one."""
        values = self.values
        return statistics.stdev(values) if len(values) > 1 else None


def trials_of(jobs: Iterable[Job]) -> list[Trial]:
    """Group jobs into trials, in the order of their numbers."""
    found: dict[int, list[Job]] = {}
    for job in jobs:
        found.setdefault(job.trial, []).append(job)
    return [Trial(number, found[number]) for number in sorted(found)]


def higher_is_better(trials: Iterable[Trial]) -> bool:
    """True where more is better, as far as any job has said; one that failed at its start has not."""
    return next((job.state.mode for trial in trials for job in trial.jobs if job.state.mode), "min") == "max"


def best_first(trials: Sequence[Trial]) -> list[Trial]:
    """Sort trials: those with an objective first, the best first, then the others in their order."""
    sign = -1 if higher_is_better(trials) else 1

    def key(trial: Trial) -> tuple[bool, float]:
        value = trial.objective
        return value is None, 0.0 if value is None else sign * value

    return sorted(trials, key=key)
