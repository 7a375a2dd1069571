"""A dataset's description as an MLflow dataset input, which the UI shows beside the run."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from mlflow.entities import Dataset, DatasetInput, InputTag


def dataset_input(describe: Mapping[str, Any]) -> DatasetInput:
    """Takes name, sha256, source, input_shape and context; all other keys become the profile."""
    rest = dict(describe)
    name = str(rest.pop("name", "data"))
    digest = str(rest.pop("sha256", ""))[:36]  # MLflow's limit
    source = rest.pop("source", None) or name
    context = str(rest.pop("context", "training"))
    shape = rest.pop("input_shape", None)
    schema = rest.pop("schema", None) or _schema(shape, rest.get("feature_names"))
    if shape is not None:
        rest["input_shape"] = list(shape)
    dataset = Dataset(
        name=name[:500],
        digest=digest or "unknown",
        source_type="http" if str(source).startswith(("http://", "https://")) else "local",
        source=json.dumps(source if isinstance(source, Mapping) else {"uri": str(source)}, default=str),
        schema=json.dumps(schema, default=str) if schema else None,
        profile=json.dumps(rest, default=str),
    )
    return DatasetInput(dataset, tags=[InputTag("mlflow.data.context", context)])


def _schema(shape: Sequence[int] | None, features: Sequence[str] | None) -> dict[str, Any] | None:
    """Columns of a table, or the shape of a tensor, in the form that MLflow's UI reads."""
    if features:
        return {"mlflow_colspec": [{"name": str(name), "type": "double", "required": True} for name in features]}
    if shape is None:
        return None
    spec = [{"type": "tensor", "tensor-spec": {"dtype": "float32", "shape": [-1, *shape]}}]
    return {"mlflow_tensorspec": {"features": json.dumps(spec), "targets": None}}
