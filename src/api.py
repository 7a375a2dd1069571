"""Functions for notebooks: start a run, load a trained one and predict with it, list all runs as a table.

`from src.api import list_runs, load_run, train_run`.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from src import tracking
from src.config import compose
from src.data.core.modality import modality_of
from src.errors import UserError
from src.experiment import run as experiment
from src.inference.load import load
from src.models.base import Model
from src.runtime import invocation
from src.tracking import RunInfo

ROWS = 1024  # at a time


@dataclass(frozen=True)
class Run:
    """A tracked run with its best model, on the CPU in evaluation mode."""

    info: RunInfo
    model: Model

    @property
    def id(self) -> str:
        """Full id of the run."""
        return self.info.id

    @property
    def metrics(self) -> dict[str, float]:
        """Latest value of each metric, by name."""
        return dict(self.info.metrics)

    def history(self, metric: str) -> pd.DataFrame:
        """Table of all values of a metric, with columns `step` and `value`.

        Raises:
            UserError: the run has no such metric.
        """
        found = tracking.points(self.info.uri, [self.id], metric)
        if self.id not in found:
            raise UserError(f"run {self.id[:8]} has no metric {metric}")
        return found[self.id][["step", "value"]]

    def predict(self, rows: pd.DataFrame | np.ndarray | Sequence[str]) -> pd.DataFrame:
        """Predict as `python -m src.predict` writes them, in the order of the rows.

        Args:
            rows: a DataFrame with the columns of the table, an array (N, ...) of raw values such as pictures, or texts.

        Raises:
            UserError: rows that are not such data, or a model that gives no answer of one class, number or score a row.
        """
        if not self.model.task.answer_per_row:
            raise UserError(
                f"the task {self.model.task.name} answers from files: {invocation.command('predict')} run={self.id[:8]}"
            )
        model = self.model
        with tempfile.TemporaryDirectory(prefix="labbook-") as folder, torch.inference_mode():
            pieces = [
                pd.DataFrame(model.task.columns(model.predict_step({"input": piece.input}, 0)))
                for piece in modality_of(model.spec).from_memory(rows, Path(folder)).batches(ROWS)
            ]
        return pd.concat(pieces, ignore_index=True)


def train_run(*overrides: str) -> Run:
    """Train as `python -m src.train OVERRIDES` does.

    Raises:
        UserError: an override that does not fit.
        RunFailed: training failed; the run says why.
    """
    result = experiment.train(compose(overrides), overrides=list(overrides))
    return load_run(result.run)


def list_runs(filter: str | None = None, sweep: str | None = None, uri: str | None = None) -> pd.DataFrame:
    """List the tracked runs, the newest first, in a table of `name`, `status`, `params.KEY`, `metrics.KEY`, `tags.KEY`.

    Args:
        filter: in MLflow's words, such as `metrics.`val/accuracy` > 0.9`.
        sweep: the id of one.
        uri: of the store; None: MLFLOW_TRACKING_URI, else mlflow.db in the project.
    """
    return tracking.table(uri, filter=filter, sweep=sweep)


def load_run(reference: str, uri: str | None = None) -> Run:
    """Load the run that an id, a unique beginning of one, `last` or `best:METRIC` names.

    Raises:
        UserError: no such run, or one without a checkpoint.
    """
    trained = load(reference, uri=uri, device="cpu")
    if trained.run is None:
        raise UserError(f"{reference} is a checkpoint of no run: src.models.load.load_model loads it")
    return Run(trained.run, trained.model)
