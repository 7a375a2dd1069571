"""The tracking store: addresses, SQLite made once by however many processes, and stores that cannot be used."""

from __future__ import annotations

import os
import socket
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest
from sqlalchemy import event

from src.errors import UserError
from src.tracking import sqlite, store
from src.tracking.redaction import HIDDEN, redact, redact_config, secrets_of
from tests import process

CODE = Path(__file__).resolve().parents[2]
FIRST_RUN = """
import sys
from pathlib import Path
from src import tracking
root, number = Path(sys.argv[1]), int(sys.argv[2])
run = tracking.start(config={"seed": number}, overrides=[f"seed={number}"], root=root, system_metrics=False)
run.log_points([("loss", number + step / 100, step) for step in range(100)])
run.id
run.finish("FINISHED")
"""


@pytest.fixture(autouse=True)
def no_outer_store(monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


def opened(root: Path):
    from mlflow import MlflowClient

    return MlflowClient(f"sqlite:///{root}/mlflow.db")


def test_the_default_is_mlflows_own_layout(tmp_path, monkeypatch):
    assert store.resolve().database == CODE / "mlflow.db"
    found = store.resolve(root=tmp_path)
    assert (found.uri, found.artifacts) == (f"sqlite:///{tmp_path}/mlflow.db", tmp_path / "mlruns")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://somewhere:5000/")
    assert store.resolve(root=tmp_path).uri == "http://somewhere:5000"
    other = tmp_path / "other"
    assert store.resolve(f"sqlite:///{other}/x.db", tmp_path).artifacts == other / "mlruns"
    monkeypatch.chdir(tmp_path)
    assert store.resolve("sqlite:///here.db").database == tmp_path / "here.db"


@pytest.mark.parametrize(
    "uri", ["./mlruns", "/tmp/mlruns", "file:///tmp/mlruns", "file:mlruns", "sqlite://", "sqlite:///:memory:"]
)
def test_an_address_without_a_database_is_refused(uri, tmp_path):
    with pytest.raises(UserError, match="sqlite:///"):
        store.resolve(uri, tmp_path)


def test_eight_first_runs_at_once(tmp_path):
    children = [process.program(FIRST_RUN, str(tmp_path), str(i), cwd=CODE) for i in range(8)]
    errors = [child.communicate(timeout=300)[1] for child in children]
    assert [child.returncode for child in children] == [0] * 8, errors
    client = opened(tmp_path)
    experiments = {e.name: e for e in client.search_experiments()}
    assert set(experiments) == {"Default", "labbook"}
    assert Path(experiments["Default"].artifact_location) == tmp_path / "mlruns" / "0"
    runs = client.search_runs([experiments["labbook"].experiment_id])
    assert sorted(run.data.params["seed"] for run in runs) == [str(i) for i in range(8)]
    assert len({run.info.artifact_uri for run in runs}) == 8
    for run in runs:
        number = int(run.data.params["seed"])
        history = client.get_metric_history(run.info.run_id, "loss")
        assert [(m.step, m.value) for m in history] == [(s, number + s / 100) for s in range(100)]
        assert run.info.status == "FINISHED"
    assert not list(tmp_path.glob("*.new-*"))


def test_a_new_store_has_statistics_and_a_write_ahead_log(tmp_path):
    sqlite.ensure(tmp_path / "mlflow.db", tmp_path / "mlruns")
    connection = sqlite3.connect(tmp_path / "mlflow.db")
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert connection.execute("SELECT count(*) FROM sqlite_stat1 WHERE tbl='latest_metrics'").fetchone()[0] > 0
    assert connection.execute("SELECT count(*) FROM runs").fetchone() == (0,)


def test_an_empty_file_is_filled_in_place(tmp_path, monkeypatch):
    monkeypatch.setattr(sqlite, "STILL_SECONDS", 0.0)
    database = tmp_path / "mlflow.db"
    database.touch()
    inode = database.stat().st_ino
    sqlite.ensure(database, tmp_path / "mlruns")
    assert database.stat().st_ino == inode  # a program that has it open goes on with it
    assert [e.name for e in opened(tmp_path).search_experiments()] == ["Default"]


def test_a_database_that_another_program_is_creating_is_waited_for(tmp_path):
    database = tmp_path / "mlflow.db"
    script = f"import mlflow; mlflow.MlflowClient('sqlite:///{database}').search_experiments()"
    other = process.program(script, cwd=tmp_path)
    while not database.exists():
        time.sleep(0.02)
    sqlite.ensure(database, tmp_path / "mlruns")
    assert other.wait(60) == 0
    assert [e.name for e in opened(tmp_path).search_experiments()] == ["Default"]


def test_databases_that_cannot_be_used_are_left_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(sqlite, "STILL_SECONDS", 0.0)
    broken = tmp_path / "broken.db"
    broken.write_bytes(b"these are notes, not a database" * 300)
    with pytest.raises(UserError, match="broken.db cannot be read as an SQLite database"):
        sqlite.ensure(broken, tmp_path)
    assert broken.read_bytes().startswith(b"these are notes")
    foreign = tmp_path / "foreign.db"
    with sqlite3.connect(foreign) as connection:
        connection.execute("CREATE TABLE mine (a)")
    with pytest.raises(UserError, match="no complete MLflow store"):
        sqlite.ensure(foreign, tmp_path)
    for revision, words in {"0584bdc529eb": "older MLflow.*mlflow db upgrade", "ffffffffffff": "newer MLflow"}.items():
        database = tmp_path / f"{revision}.db"
        sqlite.ensure(database, tmp_path)
        with sqlite3.connect(database) as connection:
            connection.execute("UPDATE alembic_version SET version_num = ?", (revision,))
        with pytest.raises(UserError, match=words):
            sqlite.ensure(database, tmp_path)


def test_a_deleted_experiment_is_named(tmp_path):
    place = store.resolve(root=tmp_path)
    client = store.connect(place)
    identifier = store.experiment_id(place, client, "gone")
    assert store.experiment_id(place, client, "gone") == identifier
    client.delete_experiment(identifier)
    with pytest.raises(UserError, match=f"mlflow experiments restore -x {identifier}"):
        store.experiment_id(place, client, "gone")


def test_a_server_that_is_not_there_or_silent_is_named_within_seconds(tmp_path):
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        silent = f"http://me:hidden-word@127.0.0.1:{listening.getsockname()[1]}"
        began = time.monotonic()
        with pytest.raises(UserError, match="cannot be reached") as raised:
            store.connect(store.resolve(silent, tmp_path))
        port = listening.getsockname()[1]
    assert "hidden-word" not in str(raised.value)
    for uri in (f"http://127.0.0.1:{port}", f"postgresql://me:hidden-word@127.0.0.1:{port}/runs"):
        with pytest.raises(UserError, match="cannot be reached") as raised:
            store.connect(store.resolve(uri, tmp_path))
        assert "hidden-word" not in str(raised.value) and "\n" not in str(raised.value)
    assert time.monotonic() - began < 60  # 2 s each; MLflow itself tries for four minutes, and for twenty if silent


def test_search_over_many_runs_takes_few_instructions(tmp_path):
    place = store.resolve(root=tmp_path)
    client = store.connect(place)
    experiment = store.experiment_id(place, client, "labbook")
    ids = [f"{i:032x}" for i in range(3000)]
    with sqlite3.connect(place.database) as connection:
        connection.executemany(
            "INSERT INTO runs(run_uuid,name,user_id,status,start_time,lifecycle_stage,artifact_uri,experiment_id)"
            " VALUES (?,'n','u','FINISHED',0,'active','a',?)",
            [(run, experiment) for run in ids],
        )
        connection.executemany("INSERT INTO tags VALUES (?,?,?)", [(f"t{k}", "v", r) for r in ids for k in range(20)])
        connection.executemany("INSERT INTO params VALUES (?,?,?)", [(f"p{k}", "v", r) for r in ids for k in range(30)])
        connection.executemany(
            "INSERT INTO latest_metrics(key,value,timestamp,step,is_nan,run_uuid) VALUES (?,?,0,0,0,?)",
            [(f"m{k}", float(i), r) for i, r in enumerate(ids) for k in range(10)],
        )
    ticks: list[int] = []
    engine = client._tracking_client.store.engine
    engine.dispose()
    event.listen(engine, "connect", lambda raw, _: raw.set_progress_handler(lambda: ticks.append(1), 1000))
    found = client.search_runs(
        [experiment], "metrics.m3 > 10 and params.p2 = 'v'", order_by=["metrics.m3 DESC"], max_results=50
    )
    assert found[0].data.metrics["m3"] == 2999.0
    # in SQLite's own instructions: 0.3 million with the planner's statistics, 36 million without them
    assert 0 < len(ticks) * 1000 < 3_000_000


def test_passwords_are_hidden():
    uri = "postgresql+psycopg://me:p%40ss-word@host:5432/runs"
    assert store.resolve(uri).shown == f"postgresql+psycopg://me:{HIDDEN}@host:5432/runs"
    assert redact("at http://a:b@h/x and http://c:d@g/y") == f"at http://a:{HIDDEN}@h/x and http://c:{HIDDEN}@g/y"
    assert redact("p@ss-word wrong", secrets_of(uri, {})) == f"{HIDDEN} wrong"
    assert redact("see http://host:5000/a@b") == "see http://host:5000/a@b"
    secrets = secrets_of(None, {"HF_TOKEN": "hf_abcdefgh", "HOME": "/root", "SSH_KEY_TOKEN": "/a/path"})
    assert secrets == ("hf_abcdefgh",)
    config = {"db": {"password": "x", "uri": uri}, "pad_token": "<pad>", "list": ["hf_abcdefgh", 3], "api_key": None}
    assert redact_config(config, (*secrets, "p%40ss-word")) == {
        "db": {"password": HIDDEN, "uri": f"postgresql+psycopg://me:{HIDDEN}@host:5432/runs"},
        "pad_token": "<pad>",
        "list": [HIDDEN, 3],
        "api_key": None,
    }


def test_importing_the_layer_is_light():
    script = "import sys, src.tracking; print([m for m in ('mlflow', 'torch', 'numpy', 'yaml') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], cwd=CODE, capture_output=True, text=True, env=os.environ)
    assert done.stdout.strip() == "[]", done.stderr
