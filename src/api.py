"""Functions for notebooks and programs: train, sweep, load a run and predict with it, list all runs, any other command.

`from src.api import list_runs, load_run, run_command, sweep_runs, train_run`. Models and data may be objects in memory.
"""

from __future__ import annotations

import copy
import inspect
import pkgutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import nn

from src import commands, sweeps, tracking
from src.config import compose
from src.data.core.modality import modality_of
from src.errors import UserError
from src.experiment import run as experiment
from src.inference.load import load
from src.models.base import Model
from src.runtime import in_memory, invocation, trust
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


def train_run(*overrides: str, model: object = None, data: object = None) -> Run:
    """Train as `python -m src.train OVERRIDES` does.

    Args:
        model: an `nn.Module` or LightningModule, of which each run trains a copy (`run.model.net`); a class or a
            function that makes one; or a name of conf/model.
        data: pairs of arrays or lists (X, y), a Dataset, a LightningDataModule, or one of them for each split in a
            dict; a class or a function that makes one; or a name of conf/data.

    Raises:
        UserError: an override that does not fit.
        RunFailed: training failed; the run says why.
    """
    given = _arguments(overrides, model, data)
    result = experiment.train(compose(given), overrides=given)
    return load_run(result.run, uri=_value(given, "tracking.uri"))


def sweep_runs(*overrides: str, model: object = None, data: object = None) -> pd.DataFrame:
    """Run a sweep as `python -m src.train -m OVERRIDES` does; the same again runs only what is missing.

    Args:
        model, data: as of `train_run`.

    Returns:
        Table of its runs, as of `list_runs`.

    Raises:
        UserError: an override that does not fit.
        RunFailed: some jobs have not finished.
    """
    given = _arguments(overrides, model, data)
    commands.command("train").call(["-m", *given])
    return list_runs(sweep=sweeps.latest(), uri=_value(given, "tracking.uri"))


def run_command(name: str, *arguments: str) -> None:
    """Run another command in this process, where objects in memory are known: `run_command("evaluate", "run=last")`.

    Raises:
        UserError: arguments that do not fit.
        RunFailed: it failed.
    """
    made, given = commands.prepared(name, arguments)
    made.call(given)


def list_runs(filter: str | None = None, sweep: str | None = None, uri: str | None = None) -> pd.DataFrame:
    """List the tracked runs, the newest first, in a table of `name`, `status`, `params.KEY`, `metrics.KEY`, `tags.KEY`.

    Args:
        filter: in MLflow's words, such as `metrics.`val/accuracy` > 0.9`.
        sweep: the id of one.
        uri: of the store; None: MLFLOW_TRACKING_URI, else mlflow.db in the project.
    """
    return tracking.table(uri, filter=filter, sweep=sweep)


def load_run(reference: str, uri: str | None = None, model: object = None) -> Run:
    """Load the run that an id, a unique beginning of one, `last` or `best:METRIC` names.

    Args:
        model: for a run of another program whose model was an object in memory: the same again, or what makes it.

    Raises:
        UserError: no such run, or one without a checkpoint.
    """
    if model is not None:
        in_memory.stand_in(pkgutil.resolve_name(_target("model", model)))
    trained = load(reference, uri=uri, device="cpu")
    if trained.run is None:
        raise UserError(f"{reference} is a checkpoint of no run: src.models.load.load_model loads it")
    return Run(trained.run, trained.model)


def _arguments(overrides: Sequence[str], model: object, data: object) -> list[str]:
    """Overrides, and those that name the model and the data, which come first."""
    named = []
    for group, thing in {"model": model, "data": data}.items():
        if isinstance(thing, str):
            named.append(f"{group}={thing}")
        elif thing is not None:
            named.append(f"{group}._target_={_target(group, thing)}")
    if _value(overrides, "resume") is not None:  # which has its own; they are known again by now
        named = []
    return [*named, *overrides]


def _value(overrides: Sequence[str], key: str) -> str | None:
    values = [text.partition("=")[2] for text in overrides if text.partition("=")[0].lstrip("+") == key]
    return values[-1] if values else None


def _target(group: str, thing: object) -> str:
    """Dotted name of an object; its code is trusted, as the program has handed it over.

    Raises:
        UserError: a model that is none.
    """
    if isinstance(thing, nn.Module):
        content = type(thing), repr(thing), {name: value.detach() for name, value in thing.state_dict().items()}
        return in_memory.add(_copies(thing), content, type(thing).__name__)
    if isinstance(thing, type) or inspect.isfunction(thing):
        if _importable(thing):
            trust.allow(thing.__module__.partition(".")[0])
            return f"{thing.__module__}.{thing.__qualname__}"
        return in_memory.add(thing, thing, thing.__name__)
    if group == "model":
        raise UserError(f"model={thing!r}: a module, a class or function that makes one, or the name of one is needed")
    title = "data" if type(thing).__module__ == "builtins" else type(thing).__name__
    return in_memory.add(lambda: thing, thing, title)


def _copies(module: nn.Module) -> Callable[[], nn.Module]:
    """A function that makes copies of a module, which itself stays as it is."""

    def copied() -> nn.Module:
        return copy.deepcopy(module)

    copied.__annotations__["return"] = type(module)
    return copied


def _importable(thing: type | Callable[..., object]) -> bool:
    """True if another process finds it by its name."""
    try:
        return thing.__module__ != "__main__" and vars(import_module(thing.__module__))[thing.__qualname__] is thing
    except (ImportError, KeyError):
        return False
