"""Private members of MLflow. Tested with mlflow >=3.17,<3.19; its tables are in `mlflow_schema.py`.

Importing this file imports MLflow, which takes two seconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import mlflow
from mlflow import MlflowClient
from mlflow.entities import Metric, Run
from mlflow.tracking import fluent

from src.errors import RunFailed
from src.runtime.compat.mlflow_schema import engine_is_known

TESTED = ">=3.17,<3.19"
HARD_DELETES = ("_hard_delete_run", "_hard_delete_logged_model")  # which `mlflow gc` calls


def retry_less(tries: int) -> None:
    """Have MLflow give up a database that does not answer after so many tries; its own ten take 100 s."""
    from mlflow.store.db import utils  # imports SQLAlchemy

    if hasattr(utils, "MAX_RETRY_COUNT"):
        utils.MAX_RETRY_COUNT = tries


def engine_of(client: MlflowClient) -> Any | None:
    """The SQLAlchemy engine of a client's database, for SQL on tables that were tested.

    None for a server, for tables of another revision, and where this version has no such member: then only the
    client's own calls are left.
    """
    engine = getattr(getattr(getattr(client, "_tracking_client", None), "store", None), "engine", None)
    return engine if engine is not None and engine_is_known(engine) else None


def latest_metrics(client: MlflowClient, run: Run) -> list[Metric]:
    """The last point of each metric of a run, with its step and time; read one by one where the run has only values."""
    found = getattr(run.data, "_metric_objs", None)
    if found is not None:
        return list(found)
    histories = (client.get_metric_history(run.info.run_id, key) for key in run.data.metrics)
    return [max(points, key=lambda point: (point.step, point.timestamp)) for points in histories if points]


def forget_active(run_id: str) -> None:
    """Have MLflow forget a run that a user's `mlflow.log_metric` entered: it would end it at the interpreter's exit.

    Where the stack of runs has another name, the run is ended now, with the status that it has.
    """
    if hasattr(fluent, "_active_run_stack"):
        for stack in fluent._active_run_stack.get_all_thread_values().values():
            stack[:] = [run for run in stack if run.info.run_id != run_id]
        return
    active = mlflow.active_run()
    if active is not None and active.info.run_id == run_id:
        mlflow.end_run(mlflow.get_run(run_id).info.status)


def open_database(uri: str, artifacts: str) -> Any:
    """MLflow's own store over a database, for what its client cannot do; a new database gets its tables."""
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore  # half a second, not needed for a server

    return SqlAlchemyStore(uri, artifacts)  # type: ignore[no-untyped-call, unused-ignore]


def delete_for_good(database: Any, run: str, models: Sequence[str]) -> None:
    """Take a run that is marked as deleted, and its models, out of a database that `open_database` opened.

    Clients have no call for it. `mlflow gc` has, but clears all deleted experiments with it.

    Raises:
        RunFailed: the store's calls have other names in this version; run and models stay marked as deleted.
    """
    lacking = [name for name in HARD_DELETES if not hasattr(database, name)]
    for model in models:
        (database.delete_logged_model if lacking else database._hard_delete_logged_model)(model)
    if lacking:
        raise RunFailed(
            f"mlflow {mlflow.__version__} has no {type(database).__name__}.{lacking[0]}: run {run} is only marked as "
            f"deleted, `mlflow gc --run-ids {run}` removes it"
        )
    database._hard_delete_run(run)
