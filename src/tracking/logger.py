"""Lightning's logger interface over a tracked run."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping
from typing import Any

from pytorch_lightning.loggers import MLFlowLogger
from pytorch_lightning.loggers.logger import Logger, rank_zero_experiment
from pytorch_lightning.utilities.rank_zero import rank_zero_only
from typing_extensions import override

from src.runtime.lazy import Deferred
from src.tracking.run import Run, Untracked


class MLflowLogger(MLFlowLogger):
    """Hands Lightning's metrics to the run. It never ends the run: whoever started it knows how it went.

    To code that knows Lightning's own logger it is one: it has a `run_id`, and MLflow's client as its `experiment`.
    """

    def __init__(self, run: Run | Untracked) -> None:
        Logger.__init__(self)  # not that of Lightning's, which creates a run
        self.run = run

    @property
    def run_id(self) -> str:
        """The run's id."""
        return self.run.id

    @property
    def experiment_id(self) -> str:
        """The id of its experiment."""
        return self.run.experiment_id

    @property
    @override
    def name(self) -> str:
        """The same, under Lightning's name for it."""
        return self.run.experiment_id

    @property
    @override
    def version(self) -> str:
        """The run's id, under Lightning's name for it."""
        return self.run.id

    @property
    @override
    def save_dir(self) -> str:
        """The run's local folder."""
        return str(self.run.directory)

    @property
    @override
    def root_dir(self) -> str:
        """The same; Lightning asks for both."""
        return self.save_dir

    @property
    @override
    @rank_zero_experiment
    def experiment(self) -> Any:
        """MLflow's client for the run's store; on further ranks a dummy.

        Lightning asks for it at the start of each run, so that MLflow is imported when the client is first used.

        What it writes is in the store at once, while the run's own values come in batches. Without tracking its files
        go into the run's folder, and all else is dropped.
        """
        return Deferred(lambda: self.run.client)

    @override
    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Hand on values at a step; without one they are results of the whole run.

        Lightning adds the epoch, counted from 0, to whatever a module logs; a run's `epoch`, counted from 1, is
        recorded at the end of each epoch.
        """
        own = {name: value for name, value in metrics.items() if name != "epoch"}
        if own:
            self.run.log_metrics(own, step)

    @override
    @rank_zero_only
    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: object, **kwargs: object) -> None:
        """Hand on parameters, which are flattened."""
        self.run.log_params(vars(params) if isinstance(params, Namespace) else params)

    @override
    def finalize(self, status: str = "success") -> None:
        """Leave the run open: a test and the results are still to come."""

    @override
    def after_save_checkpoint(self, checkpoint_callback: object) -> None:
        """Do nothing: checkpoints are among the run's files."""
