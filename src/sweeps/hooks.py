"""A job of a sweep as its run sees it: callbacks that report its progress and prune it, and notes into the ledger."""

from __future__ import annotations

import pytorch_lightning as pl

from src.sweeps.jobs.ledger import Job
from src.sweeps.search.study import pruning_rule
from src.training.callbacks.progress import ProgressReporter
from src.training.callbacks.pruning import Pruning


class Hooks:
    """See `experiment.job.JobHooks`."""

    def __init__(self, job: Job) -> None:
        self.job = job

    @property
    def overrides(self) -> list[str]:
        """Overrides that tell the job from the sweep's others."""
        return self.job.name.split()

    @property
    def pruned(self) -> int:
        """Epoch after which the sweep gave the run up; 0: it did not."""
        return self.job.state.pruned

    def callbacks(self) -> list[pl.Callback]:
        """List the callbacks that report the job's progress and, in a search with a pruner, end it early."""
        found: list[pl.Callback] = [ProgressReporter(self.job.update)]
        if judged := pruning_rule(self.job):
            found.append(Pruning(*judged, self.job.update, self.job.state.pruned))
        return found

    def update(self, **changes: object) -> None:
        """Record values of the job's state in the ledger."""
        self.job.update(**changes)
