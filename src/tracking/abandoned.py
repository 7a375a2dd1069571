"""Runs that are RUNNING in the store though no process writes them any more, such as after a power cut."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from src.tracking import store
from src.tracking.artifacts import local_directory
from src.tracking.locks import RunLock

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

LOCK_SECONDS = 15.0  # an old writer may still be storing the last points of a killed run
UNEXPLAINED = "process ended without a word (SIGKILL or out of memory?)"


def mark_abandoned(client: MlflowClient, database: store.Store, run: Run, patience: float = 0.0) -> None:
    """Marks a run that is RUNNING in the store as KILLED, unless a process writes it.

    Args:
        patience: seconds that such a process may take to end.
    """
    directory, _ = local_directory(database, run.info.artifact_uri, run.info.run_id)
    lock = RunLock(directory)
    if lock.path.exists() and not lock.take(os.getpid(), patience):
        return
    try:
        if client.get_run(run.info.run_id).info.status == "RUNNING":
            end = max(
                [
                    run.info.start_time,
                    *(metric.timestamp for metric in store.mlflow_members().latest_metrics(client, run)),
                ]
            )
            client.set_tag(run.info.run_id, "labbook.failure", UNEXPLAINED)
            client.set_terminated(run.info.run_id, "KILLED", end)
    finally:
        lock.release()
