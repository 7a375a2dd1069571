"""Lightning's logger interface over a tracked run."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping
from typing import Any

from pytorch_lightning.loggers.logger import Logger
from pytorch_lightning.utilities.rank_zero import rank_zero_only

from src.tracking.run import Run, Untracked


class MLflowLogger(Logger):
    """Hands Lightning's metrics to the run. It never ends the run: whoever started it knows how it went."""

    def __init__(self, run: Run | Untracked) -> None:
        super().__init__()
        self.run = run

    @property
    def name(self) -> str:
        """The experiment's id."""
        return self.run.experiment_id

    @property
    def version(self) -> str:
        """The run's id."""
        return self.run.id

    @property
    def save_dir(self) -> str:
        """The run's local folder."""
        return str(self.run.directory)

    @property
    def root_dir(self) -> str:
        """The same; Lightning asks for both."""
        return self.save_dir

    @property
    def experiment(self) -> Run | Untracked:
        """The tracked run, under Lightning's name for it."""
        return self.run

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Hand on values at a step; without one they are results of the whole run.

        Lightning adds the epoch, counted from 0, to whatever a module logs; a run's `epoch`, counted from 1, is
        recorded at the end of each epoch.
        """
        own = {name: value for name, value in metrics.items() if name != "epoch"}
        if own:
            self.run.log_metrics(own, step)

    @rank_zero_only
    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: object, **kwargs: object) -> None:
        """Hand on parameters, which are flattened."""
        self.run.log_params(vars(params) if isinstance(params, Namespace) else params)
