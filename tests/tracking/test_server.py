"""Runs tracked on a real MLflow server: metrics, artifacts, resume, and a server that goes away."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import psutil
import pytest

from src import tracking
from src.errors import RunFailed, UserError

pytestmark = pytest.mark.usefixtures("warm_writers")


class Server:
    """`mlflow server` with one worker on loopback, which can be stopped and started again.

    Args:
        backend: address of its database; None: an SQLite file in the folder.
    """

    def __init__(self, folder: Path, backend: str | None = None) -> None:
        self.folder, self.backend = folder, backend or f"sqlite:///{folder}/server.db"
        with socket.socket() as found:
            found.bind(("127.0.0.1", 0))
            self.port = found.getsockname()[1]
        self.uri = f"http://127.0.0.1:{self.port}"
        self._worker: tuple[list[str], dict[str, str]] | None = None

    def start(self) -> None:
        """Starts it; for a second time the one process that serves, without the command that imports MLflow for it."""
        options = [
            "--workers",
            "1",
            "--port",
            str(self.port),
            "--backend-store-uri",
            self.backend,
        ]
        options += ["--artifacts-destination", str(self.folder / "artifacts")]
        env = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
        command, env = self._worker or ([sys.executable, "-m", "mlflow", "server", *options], env)
        log = self.folder / "server.log"
        with log.open("w") as output:
            self.process = subprocess.Popen(
                command,
                cwd=self.folder,
                env=env,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        end = time.monotonic() + 120  # twelve seconds alone
        while time.monotonic() < end:
            try:
                urllib.request.urlopen(f"{self.uri}/health", timeout=1).close()
                if self._worker is None:
                    for worker in psutil.Process(self.process.pid).children():
                        self._worker = worker.cmdline(), worker.environ()
                return
            except OSError as error:
                assert self.process.poll() is None, f"mlflow server did not start: {log.read_text()}"
                answer = error
                time.sleep(0.1)
        raise TimeoutError(f"{self.uri} does not answer: {answer}; the server said: {log.read_text()}")

    def stop(self) -> None:
        os.killpg(self.process.pid, 9)
        self.process.wait()


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    from src.tracking import sqlite

    folder = tmp_path_factory.mktemp("server")
    sqlite.ensure(folder / "server.db", folder / "unused")
    server = Server(folder)
    server.start()
    yield server
    server.stop()


@pytest.fixture
def client(server):
    from mlflow import MlflowClient

    return MlflowClient(server.uri)


def begin(server, root, **options):
    options = {"config": {"seed": 1}, "overrides": [], "system_metrics": False, "experiment": "remote"} | options
    return tracking.start(uri=server.uri, root=root, **options)


def test_a_run_on_a_server(server, client, tmp_path):
    run = begin(server, tmp_path, system_metrics=True)
    run.log_points([("loss", i / 7, i) for i in range(2500)])
    run.log_points([("odd", float("nan"), 0), ("odd", float("inf"), 1), ("top1@5", 1.0, 0)])
    run.log_dataset({"name": "digits", "sha256": "cd" * 32, "input_shape": [64]})
    run.artifact("checkpoints/last.ckpt").write_bytes(b"weights")
    run.artifact("checkpoints/.last.ckpt.tmp").write_bytes(b"half")
    run.finish("FINISHED")
    stored = client.get_run(run.id)
    history = client.get_metric_history(run.id, "loss")
    assert sorted((m.step, m.value) for m in history) == [(i, i / 7) for i in range(2500)]
    assert stored.info.status == "FINISHED" and stored.data.metrics["top1_5"] == 1.0
    assert len(client.get_metric_history(run.id, "odd")) == 2
    assert "system/process_memory_megabytes" in stored.data.metrics
    assert [f.path for f in client.list_artifacts(run.id, "checkpoints")] == ["checkpoints/last.ckpt"]
    assert {"config.yaml", "environment.txt"} <= {f.path for f in client.list_artifacts(run.id)}
    assert (
        run.ui_hint
        == f"{server.uri}/#/experiments/{stored.info.experiment_id}/runs/{run.id}?workflowType=machine_learning"
    )
    # elsewhere the file has to be fetched
    found = tracking.find_run(run.id[:10], uri=server.uri, root=tmp_path / "elsewhere")
    assert tracking.download(found, "checkpoints/last.ckpt").read_bytes() == b"weights"
    assert found.directory.is_relative_to(tmp_path / "elsewhere")


def test_resuming_on_a_server_drops_what_is_stored(server, client, tmp_path):
    first = begin(server, tmp_path)
    first.log_points([("loss", float(i), i) for i in range(1500)])
    first.finish("KILLED", "stopped")
    second = begin(server, tmp_path, resume=first.id)
    second.log_points([("loss", float(i), i) for i in range(1000, 2000)])
    second.finish("FINISHED")
    history = client.get_metric_history(first.id, "loss")
    assert sorted(m.step for m in history) == list(range(2000))
    assert client.get_run(first.id).info.status == "FINISHED"


def test_two_experiments_created_at_once(server, client, tmp_path):
    runs = [begin(server, tmp_path, experiment="raced") for _ in range(3)]
    assert len({run.id for run in runs}) == 3 and len({run.experiment_id for run in runs}) == 1
    for run in runs:
        run.finish("FINISHED")


def test_a_server_that_comes_back_gets_everything(server, client, tmp_path):
    run = begin(server, tmp_path, flush_seconds=0.1)
    run.log_points([("loss", 0.0, 0)])
    _ = run.id
    server.stop()
    try:
        run.log_points([("loss", float(i), i) for i in range(1, 1200)])  # if it waited for the server: for ever
        time.sleep(1.5)
    finally:
        server.start()
    run.finish("FINISHED")
    history = client.get_metric_history(run.id, "loss")
    assert sorted(m.step for m in history) == list(range(1200))
    assert client.get_run(run.id).info.status == "FINISHED"


@pytest.mark.slow
def test_a_server_that_stays_away_leaves_the_points_in_a_file(server, tmp_path):
    run = begin(server, tmp_path, flush_seconds=0.1, patience=2.0)
    run.log_points([("loss", 0.0, 0)])
    _ = run.id
    time.sleep(1.0)
    server.stop()
    try:
        run.log_points([("loss", float(i), i) for i in range(1, 300)])
        with pytest.raises(
            RunFailed, match="299 metric points could not be stored; they are in .*unsent.jsonl"
        ) as raised:
            run.finish("FINISHED")
        assert "\n" not in str(raised.value)
        assert (run.directory / "unsent.jsonl").read_text().count("loss") == 299
        began = time.monotonic()
        with pytest.raises(UserError, match="cannot be reached"):
            _ = begin(server, tmp_path).id
        assert time.monotonic() - began < 60  # MLflow itself tries for four minutes
    finally:
        server.start()
