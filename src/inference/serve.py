"""A trained model behind `mlflow models serve`: rows as a file of such data has them in, classes and probabilities out.

MLflow stores this file as the model's code, and beside it the exported program: nothing is unpickled.
"""

from __future__ import annotations

import json
import tempfile
import warnings
from importlib.metadata import version
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import torch
from mlflow.models import Model, ModelSignature
from mlflow.pyfunc import PythonModel, PythonModelContext
from mlflow.types import ColSpec, DataType, Schema, TensorSpec

from src.data.core.modality import modality_of
from src.spec import DataSpec
from src.tasks.registry import make_task, task_names
from src.tracking import RunInfo
from src.tracking.writer.model import NAME, find

BATCH = 1024  # rows at a time
PACKAGES = ("mlflow", "numpy", "pandas", "pyarrow", "torch", "torchmetrics", "tokenizers", "scikit-learn")


class Answers(PythonModel):
    """Model of MLflow's that answers as `python -m src.predict` does."""

    _skip_type_hint_validation = True  # MLflow would warn that `predict` has no hints, and take hints for a schema

    def load_context(self, context: PythonModelContext) -> None:
        """Read the description and the program; MLflow calls it once."""
        description = json.loads(Path(context.artifacts["description"]).read_text())
        self.spec = DataSpec.from_dict(description["spec"])
        self.task = make_task(self.spec, task_names(), name=description["task"])
        self.program = torch.export.load(context.artifacts["program"]).module()

    def predict(self, context, model_input, params=None):  # type: ignore[no-untyped-def]  # MLflow reads hints as a schema
        """Table of answers to rows: a DataFrame, or an array (N, ...) of raw values."""
        with tempfile.TemporaryDirectory(prefix="labbook-") as folder, torch.inference_mode():
            pieces = [
                self._answered(rows.input)
                for rows in modality_of(self.spec).from_memory(model_input, Path(folder)).batches(BATCH)
            ]
        return pd.concat(pieces, ignore_index=True)

    def _answered(self, rows: torch.Tensor) -> pd.DataFrame:
        count = len(rows)
        rows = modality_of(self.spec).padded(rows)
        if count == 1:  # the program takes two rows or more
            rows = rows.expand(2, *rows.shape[1:])
        return pd.DataFrame(self.task.columns(self.program(rows)[:count]))


def log(
    run: RunInfo,
    program: torch.export.ExportedProgram,
    description: dict[str, Any],
    name: str | None,
    alias: str | None,
) -> str:
    """Add the MLflow model to a run, and register it if it gets a name; return its URI.

    Args:
        description: of the spec and the task.
        name, alias: of the registered model and of this version of it.
    """
    spec = DataSpec.from_dict(description["spec"])
    previous = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(run.uri)
    client = mlflow.MlflowClient()
    try:
        model_id = find(client, client.get_run(run.id), without_files=True)
        with tempfile.TemporaryDirectory(prefix="labbook-") as folder, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that no example was given: the signature is
            files = {"program": Path(folder) / "model.pt2", "description": Path(folder) / "labbook.json"}
            torch.export.save(program, files["program"])
            files["description"].write_text(json.dumps(description))
            logged = Model.log(
                artifact_path=None,
                name=NAME,
                flavor=mlflow.pyfunc,
                run_id=None if model_id else run.id,  # the store refuses to tie a known model to its run again
                model_id=model_id,
                python_model=str(Path(__file__)),
                code_paths=[str(Path(__file__).parents[1])],
                artifacts={key: str(path) for key, path in files.items()},
                signature=ModelSignature(Schema(_inputs(spec))),
                pip_requirements=[f"{package}=={version(package)}" for package in PACKAGES],
            )
        if name is None:
            return logged.model_uri
        registered = mlflow.register_model(logged.model_uri, name)
        if alias is None:
            return logged.model_uri
        client.set_registered_model_alias(name, alias, registered.version)
        return f"models:/{name}@{alias}"
    finally:
        mlflow.set_tracking_uri(previous)


def _inputs(spec: DataSpec) -> list[ColSpec | TensorSpec]:
    """Signature: columns, or arrays (N, ...) of raw values."""
    fields = modality_of(spec).signature()
    if fields is None:
        return [TensorSpec(np.dtype(np.float32), (-1, *spec.input_shape))]
    return [
        ColSpec(DataType.double if field.numeric else DataType.string, field.name, required=field.required)
        for field in fields
    ]


mlflow.models.set_model(Answers())
