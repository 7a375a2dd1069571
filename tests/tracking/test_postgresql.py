"""Runs in a real PostgreSQL: sixteen jobs at once behind an MLflow server, and what every command says of its runs."""

from __future__ import annotations

import glob
import importlib.util
import os
import pwd
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import Lab
from tests.sweeps.test_sweeps import SMALL, Sweep
from tests.tracking.test_server import Server

JOBS = 16
USER = "nobody"  # PostgreSQL does not run as root


class PostgreSQL:
    """A database of its own on loopback."""

    def __init__(self, folder: Path, programs: Path) -> None:
        self.folder, self.programs = folder, programs
        with socket.socket() as found:
            found.bind(("127.0.0.1", 0))
            self.port = found.getsockname()[1]
        self.uri = f"postgresql+psycopg://labbook@127.0.0.1:{self.port}/postgres"

    def start(self) -> None:
        if os.geteuid() == 0:
            os.chown(self.folder, pwd.getpwnam(USER).pw_uid, -1)
        self._call("initdb", "--username=labbook", "--auth=trust", "--no-sync")
        options = f"-p {self.port} -c listen_addresses=127.0.0.1 -k {self.folder} -c fsync=off"
        self._call("pg_ctl", "start", "-w", "-o", options, "-l", str(self.folder / "log"))

    def stop(self) -> None:
        self._call("pg_ctl", "stop", "-m", "immediate")

    def _call(self, program: str, *arguments: str) -> None:
        command = [self.programs / program, "-D", self.folder / "data", *arguments]
        user = {"user": USER} if os.geteuid() == 0 else {}
        log = self.folder / f"{program}.out"
        with log.open("w") as output:  # not a pipe, which the server would keep open
            code = subprocess.run(command, stdout=output, stderr=output, cwd=self.folder, **user).returncode
        assert code == 0, log.read_text()


@pytest.fixture
def postgresql() -> Iterator[PostgreSQL]:
    found = shutil.which("initdb") or next(iter(sorted(glob.glob("/usr/lib/postgresql/*/bin/initdb"))), None)
    if found is None:
        pytest.skip("no PostgreSQL here: apt-get install postgresql")
    if importlib.util.find_spec("psycopg") is None:
        pytest.skip("psycopg is not installed: the extra test")
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="pg-") as folder:  # pytest's is closed to other users
        database = PostgreSQL(Path(folder), Path(found).resolve().parent)
        database.start()
        yield database
        database.stop()


@pytest.mark.slow
def test_sixteen_jobs_at_once_on_a_server_with_postgresql(lab: Lab, postgresql: PostgreSQL) -> None:
    server = Server(lab.folder, postgresql.uri)
    server.start()
    try:
        script = lab.folder / "here.py"  # the project's own mlruns/ stays as it is
        here = f"from src.tracking import store\nstore.PROJECT_ROOT = store.Path({str(lab.folder)!r})\n"
        script.write_text(f"{here}from src.train import main\nmain()\n")
        command = [sys.executable, str(script), "-m", *SMALL, f"seed=range(0,{JOBS})", f"n_jobs={JOBS}", "threads=1"]
        sweep = Sweep(lab)
        env = sweep.env | {"MLFLOW_TRACKING_URI": server.uri}
        done = subprocess.run(command, cwd=lab.folder, env=env, capture_output=True, text=True, timeout=500)
        assert done.returncode == 0, done.stderr
        lab.uri = server.uri
        assert sweep.counts() == {"finished": JOBS} and sweep.statuses() == {"FINISHED": JOBS}
        for run in lab.runs():
            points = lab.points(run.info.run_id)
            assert [len(points[key]) for key in ("train/loss", "val/loss", "test/loss", "test/accuracy")] == [1] * 4
    finally:
        server.stop()


@pytest.mark.slow
@pytest.mark.parametrize("behind_server", [False, True], ids=["directly", "behind a server"])
def test_every_command_works_on_runs_in_postgresql(lab: Lab, postgresql: PostgreSQL, behind_server: bool) -> None:
    server = Server(lab.folder, postgresql.uri)
    if behind_server:
        server.start()
    lab.uri = server.uri if behind_server else postgresql.uri
    lab.env |= {"MLFLOW_TRACKING_URI": lab.uri}
    script = lab.folder / "here.py"  # the project's own mlruns/ stays as it is
    here = (
        f"import importlib, sys\nfrom src.tracking import store\nstore.PROJECT_ROOT = store.Path({str(lab.folder)!r})\n"
    )
    script.write_text(f"{here}importlib.import_module('src.' + sys.argv.pop(1)).main()\n")

    def ran(entry: str, *arguments: str) -> str:
        command = [sys.executable, str(script), entry, *arguments]
        env = os.environ | lab.env | {"PYTHONPATH": str(Path(__file__).resolve().parents[2])}
        done = subprocess.run(command, cwd=lab.folder, env=env, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        return done.stdout

    try:
        for seed in (1, 2):
            ran("train", *SMALL, f"seed={seed}", "threads=1")
        first, second = sorted(lab.runs(), key=lambda run: run.data.params["seed"])
        assert "test/loss" in ran("compare", "metric=test/loss")
        assert "seed" in ran("compare", f"runs=[{first.info.run_id},{second.info.run_id}]")
        assert "identical" in ran("rerun", f"run={first.info.run_id}", "verify=true", "here=true")
        assert f"{first.data.metrics['test/loss']:.4f}" in ran("evaluate", f"run={first.info.run_id}", "resamples=0")
        ran("report", f"run={first.info.run_id[:10]}", "output=report.html")
        assert (lab.folder / "report.html").stat().st_size > 10_000
        assert "models:/" in ran("export", "run=best:val/loss", "format=mlflow")
        assert ran("runs", "list").lower().count("finished") >= 3
        ran("runs", "delete", f"run={second.info.run_id}")
        assert len(lab.runs()) == 2
        of_it = f"source_run_id = '{second.info.run_id}'"
        assert not lab.client.search_logged_models([second.info.experiment_id], of_it)
    finally:
        if behind_server:
            server.stop()
