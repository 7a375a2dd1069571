"""Shared fixtures: a store of its own for each test, and the command line run in real processes."""

from __future__ import annotations

import gc
import os
import urllib.request
from pathlib import Path
from typing import Any

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch comes in
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")

from tests import process
from tests.own_package import mylab  # noqa: F401 (a fixture for all)

ROOT = Path(__file__).resolve().parent.parent


def pytest_collection_finish() -> None:
    """What is imported and collected by now stays to the end: searching it for garbage, again and again, takes time."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000)


def real_data() -> Path | None:
    """The folder of small real datasets, or None where this machine has none."""
    for folder in (os.environ.get("LABBOOK_DATA"), ROOT.parent / "shared" / "data"):
        if folder and Path(folder).is_dir():
            return Path(folder)
    return None


@pytest.fixture
def data_folder() -> Path:
    folder = real_data()
    if folder is None:
        pytest.skip("no real data: set LABBOOK_DATA")
    return folder


class Lab:
    """A scratch place with a store of its own, in which commands run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.uri = f"sqlite:///{folder}/mlflow.db"
        self.env = {"MLFLOW_TRACKING_URI": self.uri, "COLUMNS": "150"}

    def train(
        self,
        *arguments: str,
        kill: tuple[Any, ...] | None = None,
        env: dict[str, str] | None = None,
        files: str = "",
        timeout: float = 300,
    ) -> process.Result:
        """How the command ended; `files` keeps the outputs of commands that run at the same time apart."""
        return process.command(list(arguments), self.env | (env or {}), self.folder, kill, files, timeout)

    def run(self, entry: str, *arguments: str, env: dict[str, str] | None = None) -> process.Result:
        """How another command of the project ended."""
        return process.command(list(arguments), self.env | (env or {}), self.folder, entry=entry)

    @property
    def client(self):
        from mlflow import MlflowClient

        return MlflowClient(self.uri)

    def runs(self, kind: str | None = None) -> list:
        """All runs of trainings, or those of whole sweeps (`sweep`), the latest first."""
        client = self.client
        runs = client.search_runs([e.experiment_id for e in client.search_experiments()], order_by=["start_time DESC"])
        return [run for run in runs if run.data.tags.get("labbook.kind") == kind]

    def points(self, run_id: str, skip: tuple[str, ...] = ("cost/", "system/")) -> dict[str, list[tuple[int, float]]]:
        """Every metric point of a run as it stands in the store, `{key: [(step, value), ...]}` in order of step."""
        client = self.client
        keys = [key for key in client.get_run(run_id).data.metrics if not key.startswith(skip)]
        return {
            key: sorted((point.step, point.value) for point in client.get_metric_history(run_id, key)) for key in keys
        }

    def artifacts(self, run_id: str) -> Path:
        return Path(self.client.get_run(run_id).info.artifact_uri.removeprefix("file://"))


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(tmp_path)


@pytest.fixture
def no_network(monkeypatch):
    """Every request goes to a proxy that does not exist, also where the machine has one of its own."""
    for variable in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(variable, "http://127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "")
    # urllib keeps the proxies of its first request for the whole process: forgotten here and restored afterwards
    monkeypatch.setattr(urllib.request, "_opener", None)
