"""Lightning's logger interface over a tracked run."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
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
        return self.run.experiment_id

    @property
    def version(self) -> str:
        return self.run.id

    @property
    def save_dir(self) -> str:
        return str(self.run.directory)

    @property
    def root_dir(self) -> Path:
        return self.run.directory

    @property
    def experiment(self) -> Run | Untracked:
        return self.run

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        self.run.log_metrics(metrics, step)

    @rank_zero_only
    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        self.run.log_params(vars(params) if isinstance(params, Namespace) else params)
