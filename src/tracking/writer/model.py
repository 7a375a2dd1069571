"""A run's best model as the LoggedModel of MLflow 3, whose page shows what it was judged by; imports MLflow.

It has no files of its own, `external` as MLflow calls it: the weights lie in the run, as checkpoints/best.ckpt. An
export as an MLflow model puts its files there.
"""

from __future__ import annotations

from collections.abc import Mapping

from mlflow import MlflowClient
from mlflow.entities import LoggedModelOutput, Run
from mlflow.utils.mlflow_tags import MLFLOW_MODEL_IS_EXTERNAL

NAME = "best"


def announce(client: MlflowClient, run_id: str, options: Mapping[str, str]) -> None:
    """Makes the run's model known, unless it is; options are shown as its parameters."""
    run = client.get_run(run_id)
    if find(client, run) is not None:
        return
    tags = {MLFLOW_MODEL_IS_EXTERNAL: "true", "labbook.checkpoint": "checkpoints/best.ckpt"}
    place = {"experiment_id": run.info.experiment_id, "source_run_id": run_id}
    model_id = client.create_logged_model(name=NAME, tags=tags, params=dict(options), **place).model_id
    client.finalize_logged_model(model_id, "READY")
    client.log_outputs(run_id, [LoggedModelOutput(model_id, step=0)])


def find(client: MlflowClient, run: Run, *, without_files: bool = False) -> str | None:
    """The id of the run's model.

    Args:
        without_files: none that was exported, since what is registered from its files must stay as it is.
    """
    found = [client.get_logged_model(output.model_id) for output in (run.outputs.model_outputs if run.outputs else [])]
    kept = [one for one in found if one.name == NAME]
    if without_files:
        kept = [one for one in kept if one.tags.get(MLFLOW_MODEL_IS_EXTERNAL) == "true"]
    return kept[0].model_id if kept else None


def links(client: MlflowClient, run_id: str) -> dict[str, str]:
    """Arguments of MLflow's Metric that make a metric one of the run's model on the run's dataset."""
    run = client.get_run(run_id)
    model_id = find(client, run)
    if model_id is None:
        return {}
    data = [entry.dataset for entry in (run.inputs.dataset_inputs if run.inputs else [])][:1]
    about = {"dataset_name": data[0].name, "dataset_digest": data[0].digest} if data else {}
    return {"model_id": model_id, "run_id": run_id} | about
