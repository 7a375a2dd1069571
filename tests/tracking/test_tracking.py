"""Runs and their writer: what is stored, in which status a run ends, and that no way of ending loses a point."""

from __future__ import annotations

import base64
import json
import math
import os
import signal
import subprocess
import sys
import time
import zlib
from pathlib import Path

import psutil
import pytest

from src import tracking
from src.errors import RunFailed, UserError
from src.tasks.registry import built_in, task_class
from src.tracking import ui_views
from src.tracking.locks import RunLock
from tests import process as processes

pytestmark = pytest.mark.usefixtures("warm_writers")
CODE = Path(__file__).resolve().parents[2]
CONFIG = {
    "seed": 3,
    "model": {"_target_": "src.models.CNN", "depth": 2, "widths": [8, 16], "act@tion": "relu", "none": None},
    "long": "x" * 10_000,
    "tracking": {"uri": "postgresql://me:hidden-word@host/runs"},
}


@pytest.fixture(autouse=True)
def no_outer_store(monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return tmp_path_factory.mktemp("project")


@pytest.fixture(scope="module")
def client(root):
    from mlflow import MlflowClient

    from src.tracking import store

    store.connect(store.resolve(f"sqlite:///{root}/mlflow.db"))
    return MlflowClient(f"sqlite:///{root}/mlflow.db")


def begin(root, **options):
    options = {"config": CONFIG, "overrides": [], "system_metrics": False} | options
    return tracking.start(root=root, **options)


def training(root: Path, body: str, **options) -> str:
    """The program of a training process that prints its run id, then does what the body says."""
    return f"""
import os, signal, sys, time
from pathlib import Path
from src import tracking
run = tracking.start(config={{"seed": 1}}, overrides=[], root=Path({str(root)!r}), system_metrics=False, **{options!r})
print(run.id, flush=True)
{body}
"""


def child(root: Path, body: str, **options) -> processes.Started:
    """Such a process, and its writer, forked from others that have imported everything."""
    return processes.program(training(root, body, **options), cwd=CODE)


def ended(client, run_id: str, seconds: float = 30.0):
    """The run once its writer has left."""
    deadline = time.monotonic() + seconds
    directory = Path(client.get_run(run_id).info.artifact_uri)
    while True:
        with RunLock(directory).tried() as free:
            if free and client.get_run(run_id).info.status != "RUNNING":
                return client.get_run(run_id)
        assert time.monotonic() < deadline, "the run is still RUNNING or being written"
        time.sleep(0.1)


def points(client, run_id: str, key: str) -> list[tuple[int, float]]:
    return sorted((m.step, m.value) for m in client.get_metric_history(run_id, key))


@pytest.fixture(scope="module")
def finished(root, client):
    """One run with everything in it, finished."""
    os.environ["LAB_API_KEY"] = "from-the-environment"
    run = begin(
        root,
        overrides=["model.depth=2", "+optimizer.lr=0.1", "tracking.uri=postgresql://me:hidden-word@host/runs"],
        config=CONFIG | {"resolved": "from-the-environment"},
        tags={"labbook.rerun_of": "abc"},
        system_metrics=True,
    )
    run.log_metrics({"train/loss": 0.1 + 0.2, "top1@5": 0.5, "top1_5": 0.25}, step=1)
    run.log_points([("odd", math.inf, 0), ("odd", -math.inf, 1), ("odd", math.nan, 2), ("big", 1e300, 2**40)])
    run.log_params({"cost": {"parameters": 17}, "seed": 99})
    run.set_tags({"labbook.note": "ü" * 9000})
    run.log_dataset(
        {"name": "digits", "sha256": "ab" * 32, "source": "sklearn", "input_shape": [1, 8, 8], "rows": 1797}
    )
    run.artifact("figures/curve.txt").write_text("curve")
    del os.environ["LAB_API_KEY"]
    run.finish("FINISHED")
    run.finish("FAILED", "a second call does nothing")
    return run


def test_start_returns_at_once_and_imports_no_mlflow(root):
    script = f"""
import sys, time
from pathlib import Path
from src import tracking
began = time.perf_counter()
run = tracking.start(config={{}}, overrides=[], root=Path({str(root)!r}), system_metrics=False)
run.log_points([("a", 1.0, 1)])
took = time.perf_counter() - began
run.id  # waits for the writer, which imports MLflow
whole = time.perf_counter() - began
run.finish("FINISHED")
print(took / whole, [m for m in ("mlflow", "torch", "numpy") if m in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=CODE, capture_output=True, text=True, check=True)
    share, modules = done.stdout.split(maxsplit=1)
    assert float(share) < 0.5 and modules.strip() == "[]" and done.stderr == ""


def test_values_are_stored_exactly(finished, client):
    assert points(client, finished.id, "train/loss") == [(1, 0.1 + 0.2)]
    assert points(client, finished.id, "big") == [(2**40, 1e300)]
    odd = dict(points(client, finished.id, "odd"))
    assert odd[0] > 1.7e308 and odd[1] < -1.7e308 and math.isnan(odd[2])  # MLflow's databases cap infinity


def test_two_metrics_never_share_a_name(finished, client):
    metrics = client.get_run(finished.id).data.metrics
    assert metrics["top1_5"] == 0.5
    (other,) = (v for k, v in metrics.items() if k.startswith("top1_5_"))
    assert other == 0.25
    assert any("'top1@5' is stored as 'top1_5'" in note for note in finished.notes)


def test_parameters_are_flat_and_whole(finished, client):
    params = client.get_run(finished.id).data.params
    assert params["model.depth"] == "2" and params["model.widths"] == "[8, 16]" and params["cost.parameters"] == "17"
    assert params["model.act_tion"] == "relu" and params["model.none"] == "None"
    assert params["seed"] == "3"  # the first value stays
    assert len(params["long"]) == 6000 and params["long"].endswith("config.yaml)")


def test_provenance(finished, client):
    import yaml

    tags = client.get_run(finished.id).data.tags
    assert tags["mlflow.runName"] == "depth=2,lr=0.1"
    assert tags["labbook.config_hash"] == tracking.config_hash(CONFIG | {"resolved": "from-the-environment"})
    assert tags["labbook.seed"] == "3" and tags["labbook.pid"] == str(os.getpid()) and tags["labbook.rerun_of"] == "abc"
    assert tags["labbook.data_sha256"] == "ab" * 32
    assert {"labbook.host", "labbook.cpu", "labbook.cores", "labbook.memory_gb", "labbook.torch"} <= set(tags)
    config = yaml.safe_load((finished.directory / "config.yaml").read_text())
    assert config["model"] == CONFIG["model"] and config["long"] == CONFIG["long"]
    assert yaml.safe_load((finished.directory / "overrides.yaml").read_text())[0] == "model.depth=2"
    assert "mlflow==" in (finished.directory / "environment.txt").read_text()
    (dataset,) = client.get_run(finished.id).inputs.dataset_inputs
    assert (dataset.dataset.name, dataset.dataset.digest) == ("digits", ("ab" * 32)[:36])
    assert json.loads(dataset.dataset.profile) == {"rows": 1797, "input_shape": [1, 8, 8]}


def test_no_secret_is_stored(finished, client):
    run = client.get_run(finished.id)
    texts = [path.read_text() for path in finished.directory.rglob("*") if path.is_file()]
    texts += [*run.data.tags.values(), *run.data.params.values()]
    assert not [text for text in texts if "hidden-word" in text or "from-the-environment" in text]


def test_a_short_run_has_system_metrics(finished, client):
    metrics = client.get_run(finished.id).data.metrics
    assert metrics["system/process_memory_megabytes"] > 1
    assert "system/cpu_utilization_percentage" in metrics


def test_the_first_system_sample_counts_too_and_no_other_store_is_made(root, client, tmp_path, monkeypatch):
    from src.tracking.writer.system_metrics import SystemMetrics

    monkeypatch.chdir(tmp_path)  # MLflow's default store lies in the working directory
    points = []
    system = SystemMetrics(f"sqlite:///{root}/mlflow.db", "0" * 32, os.getpid(), 0.3, 0, points.extend)
    system.start()
    deadline = time.monotonic() + 30
    while sum(key == "system/cpu_utilization_percentage" for key, _, _ in points) < 2:
        assert time.monotonic() < deadline
    system.finish()
    assert all(value > 0 for key, value, _ in points if key == "system/cpu_utilization_percentage")
    assert not list(tmp_path.iterdir())


def test_the_plain_mlflow_layout(finished, root, client):
    info = client.get_run(finished.id).info
    assert info.status == "FINISHED" and info.end_time >= info.start_time
    assert Path(info.artifact_uri) == root / "mlruns" / info.experiment_id / info.run_id / "artifacts"
    assert finished.directory == Path(info.artifact_uri)
    assert [f.path for f in client.list_artifacts(info.run_id, "figures")] == ["figures/curve.txt"]
    assert finished.ui_hint.endswith(
        f"/#/experiments/{info.experiment_id}/runs/{info.run_id}?workflowType=machine_learning"
    )
    with pytest.raises(ValueError, match="leads out"):
        finished.artifact("../../elsewhere")


def test_the_experiment_has_a_view_with_the_metrics_that_matter(finished, client):
    experiment = client.get_experiment(finished.experiment_id)
    packed = json.loads(experiment.tags[ui_views.TAG])["state"].removeprefix("deflate;")
    state = json.loads(zlib.decompress(base64.b64decode(packed)))
    assert len(experiment.tags[ui_views.TAG]) <= 5000  # MLflow's limit
    assert [section["name"] for section in state["compareRunSections"]][:3] == ["val", "train", "test"]
    tasks = [task_class(name) for name in built_in()]
    assert {*ui_views.METRICS} == {name for task in tasks for name in task.metric_modes}
    for task in tasks:
        assert f"metrics.`val/{task.monitor}_best`" in state["selectedColumns"], task
    client.set_experiment_tag(experiment.experiment_id, ui_views.TAG, "changed by the user")
    ui_views.save(client, client.get_experiment(experiment.experiment_id))
    assert client.get_experiment(experiment.experiment_id).tags[ui_views.TAG] == "changed by the user"


def test_finding_a_run(finished, root):
    assert tracking.find_run(finished.id, root=root).id == finished.id
    found = tracking.find_run(finished.id[:12], root=root)
    assert (found.id, found.status, found.directory) == (finished.id, "FINISHED", finished.directory)
    assert tracking.find_run("last", root=root).id
    assert tracking.download(found, "figures/curve.txt").read_text() == "curve"
    with pytest.raises(UserError, match=r"no artifact figures/none.txt \(it has figures/curve.txt\)"):
        tracking.download(found, "figures/none.txt")
    for reference in ("ffffffff0000", "%", "../x", "' or 1=1"):
        with pytest.raises(UserError, match="there are: "):
            tracking.find_run(reference, root=root)


def test_an_ambiguous_beginning_names_the_candidates(finished, root, client):
    first = {}
    while True:  # 17 runs share a first letter for certain
        run = client.create_run(finished.experiment_id, run_name="twin")
        client.set_terminated(run.info.run_id)
        letter = run.info.run_id[0]
        if letter in first:
            break
        first[letter] = run.info.run_id
    with pytest.raises(UserError, match="is ambiguous") as raised:
        tracking.find_run(letter, root=root)
    assert run.info.run_id[:8] in str(raised.value) or "twin" in str(raised.value)


def test_no_store_means_no_runs_and_makes_none(tmp_path):
    with pytest.raises(UserError, match="no runs yet"):
        tracking.find_run("last", root=tmp_path)
    assert not list(tmp_path.iterdir())


def test_untracked_runs_have_a_directory_and_nothing_else(tmp_path):
    run = begin(tmp_path, enabled=False)
    run.log_points([("a", 1.0, 1)])
    run.artifact("checkpoints/last.ckpt").write_text("x")
    run.finish("FINISHED")
    assert run.directory == tmp_path / "mlruns" / "untracked" / run.id / "artifacts"
    assert not (tmp_path / "mlflow.db").exists()


@pytest.mark.parametrize(
    ("body", "status", "failure"),
    [
        ("os.kill(os.getpid(), signal.SIGKILL)", "KILLED", "SIGKILL or out of memory"),
        ("raise SystemExit(3)", "FAILED", "before the run was finished"),
        ("run.finish('KILLED', 'stopped by SIGTERM')", "KILLED", "stopped by SIGTERM"),
        # a forked child that outlives the run holds the pipe open
        ("os.fork() or (time.sleep(20), os._exit(0))\nos.kill(os.getpid(), signal.SIGKILL)", "KILLED", "SIGKILL"),
    ],
    ids=["sigkill", "exit", "finish", "orphan"],
)
def test_every_end_keeps_all_points_and_the_true_status(root, client, body, status, failure):
    send = "for i in range(3000): run.log_points([('a', i / 7, i), ('b', -i / 7, i)])\n"
    process = child(root, send + body, flush_seconds=60.0)
    run_id = process.readline().strip()
    process.wait(60)
    run = ended(client, run_id)
    assert (run.info.status, failure in run.data.tags["labbook.failure"]) == (status, True)
    assert points(client, run_id, "a") == [(i, i / 7) for i in range(3000)]
    assert points(client, run_id, "b") == [(i, -i / 7) for i in range(3000)]


def test_signals_to_the_whole_group_do_not_reach_the_writer(root, client):
    """Of a process and a writer that start from nothing."""
    script = training(root, "run.log_points([('a', 1.0, 1)]); print('sent', flush=True); time.sleep(60)")
    process = subprocess.Popen([sys.executable, "-c", script], cwd=CODE, stdout=subprocess.PIPE, text=True)
    run_id = process.stdout.readline().strip()
    process.stdout.readline()
    (writer,) = psutil.Process(process.pid).children()
    writer.send_signal(signal.SIGINT)
    writer.send_signal(signal.SIGTERM)
    process.kill()
    process.wait()
    run = ended(client, run_id)
    assert run.info.status == "KILLED" and points(client, run_id, "a") == [(1, 1.0)]


def test_a_killed_writer_is_replaced_and_nothing_is_lost_or_doubled(root, client):
    run = begin(root, flush_seconds=0.05)
    for i in range(6000):
        run.log_points([("a", i / 3, i), ("b", i / 5, i)])
        if i in (3000, 4500):
            _ = run.id
            time.sleep(0.3)  # some are stored, some are not
            while not run._channel.writer_pid:
                time.sleep(0.01)
            psutil.Process(run._channel.writer_pid).kill()
    run.finish("FINISHED")
    assert client.get_run(run.id).info.status == "FINISHED"
    assert points(client, run.id, "a") == [(i, i / 3) for i in range(6000)]
    assert points(client, run.id, "b") == [(i, i / 5) for i in range(6000)]


def test_writers_that_keep_dying_leave_the_points_in_a_file(root, client, cold_writers):
    run = begin(root, flush_seconds=60.0)
    _ = run.id
    deadline = time.monotonic() + 60
    step = 0
    while not run._channel.dead:
        run.log_points([("a", float(step), step)])
        step += 1
        psutil.Process(run._channel.writer_pid).kill()
        time.sleep(0.2)
        assert time.monotonic() < deadline
    run.log_points([("a", float(step), step)])
    with pytest.raises(RunFailed, match="unsent.jsonl"):
        run.finish("FINISHED")
    kept = [json.loads(line) for line in (run.directory / "unsent.jsonl").read_text().splitlines()]
    assert [p for entry in kept if entry["op"] == "points" for p in entry["points"]] == [
        ["a", float(i), i] for i in range(step + 1)
    ]
    # a later run of this machine finds that nobody carries it on
    other = begin(root)
    _ = other.id
    assert client.get_run(run.id).info.status == "RUNNING"  # this very process is alive
    other.finish("FINISHED")
    client.set_terminated(run.id, "FAILED")


def test_a_run_that_nobody_carries_on_is_ended_by_the_next(root, client):
    process = child(
        root,
        "run.log_points([('a', 1.0, 1)]); time.sleep(0.5); print(run._channel.writer_pid, flush=True); time.sleep(60)",
        flush_seconds=0.1,
    )
    run_id = process.readline().strip()
    writer = psutil.Process(int(process.readline()))
    process.send_signal(signal.SIGSTOP)  # as in a power cut, neither can react to the other's death
    writer.kill()
    process.kill()
    process.wait()
    assert client.get_run(run_id).info.status == "RUNNING"
    begin(root).finish("FINISHED")
    run = client.get_run(run_id)
    assert run.info.status == "KILLED" and "without a word" in run.data.tags["labbook.failure"]
    assert run.info.end_time >= run.info.start_time


def test_resuming_drops_what_is_already_stored(root, client):
    first = begin(root, tags={"labbook.x": "1"})
    first.log_points([("loss", i / 9, i) for i in range(50)])
    first.log_points([("only before", 1.0, 0)])
    first.log_metrics({"test/loss": 0.5}, step=None)
    first.finish("KILLED", "stopped")
    second = begin(root, resume=first.id, config=CONFIG | {"extra": 1}, tags={"labbook.resumed_from": "epoch 1"})
    assert (second.id, second.directory) == (first.id, first.directory)
    running = client.get_run(first.id)
    assert running.info.status == "RUNNING" and running.info.end_time is None
    second.log_points([("loss", i / 9, i) for i in range(30, 80)])
    second.log_points([("new", 2.0, 30)])
    second.log_metrics({"test/loss": 0.25}, step=None)
    second.finish("FINISHED")
    run = client.get_run(first.id)
    assert points(client, first.id, "test/loss") == [(0, 0.25), (0, 0.5)] and run.data.metrics["test/loss"] == 0.25
    assert points(client, first.id, "loss") == [(i, i / 9) for i in range(80)]
    assert run.data.metrics["new"] == 2.0
    assert run.info.status == "FINISHED" and "labbook.failure" not in run.data.tags
    assert (run.data.tags["labbook.resumes"], run.data.tags["labbook.resumed_from"]) == ("1", "epoch 1")
    assert run.data.tags["labbook.x"] == "1" and run.data.params["extra"] == "1"
    assert (first.directory / "resumed-1" / "config.yaml").exists()


def test_only_one_process_writes_a_run(root):
    run = begin(root)
    _ = run.id
    second = begin(root, resume=run.id, patience=1.0)
    with pytest.raises(UserError, match=f"run {run.id} is still being written by process {os.getpid()}"):
        _ = second.id
    run.finish("FINISHED")
    with pytest.raises(UserError, match="is not in sqlite"):
        _ = begin(root, resume="0123456789abcdef0123456789abcdef").id


def test_a_locked_database_only_delays(root, client):
    import sqlite3

    run = begin(root, flush_seconds=0.1)
    _ = run.id
    time.sleep(0.5)
    connection = sqlite3.connect(root / "mlflow.db", isolation_level=None, timeout=30)
    connection.execute("BEGIN EXCLUSIVE")
    run.log_points([("a", float(i), i) for i in range(2000)])  # if it waited for the store, it would do so for ever
    time.sleep(1.0)
    connection.execute("ROLLBACK")
    run.finish("FINISHED")
    assert len(points(client, run.id, "a")) == 2000


def test_a_deleted_run_fails_with_its_points_kept(root, client):
    run = begin(root, flush_seconds=0.1)
    client.delete_run(run.id)
    run.log_points([("a", 1.0, 1)])
    with pytest.raises(RunFailed, match="the run was deleted.*unsent.jsonl"):
        run.finish("FINISHED")
    assert '"a", 1.0, 1' in (run.directory / "unsent.jsonl").read_text()


def test_a_users_own_mlflow_calls_join_the_run(root, client):
    body = """
import mlflow
assert os.environ["MLFLOW_RUN_ID"] == run.id
run.log_points([("ours", 1.0, 1)])
mlflow.log_metric("theirs", 2.0, step=1)
mlflow.log_text("hello", "note.txt")
run.finish("FAILED", "a reason")
assert "MLFLOW_RUN_ID" not in os.environ and "MLFLOW_TRACKING_URI" not in os.environ
print(len(mlflow.MlflowClient(run.store.uri).search_runs([run.experiment_id], max_results=1000)))
"""
    before = len(client.search_runs([e.experiment_id for e in client.search_experiments()], max_results=1000))
    process = child(root, body)
    run_id, count = process.communicate(timeout=60)[0].split()
    assert process.returncode == 0
    run = client.get_run(run_id)
    assert run.info.status == "FAILED"  # MLflow's own exit handler would have said FINISHED
    assert (run.data.metrics["ours"], run.data.metrics["theirs"]) == (1.0, 2.0)
    assert (Path(run.info.artifact_uri) / "note.txt").read_text() == "hello"
    assert int(count) == before + 1


def test_a_users_mlflow_call_cannot_hide_an_early_exit(root, client):
    process = child(root, "import mlflow; mlflow.log_metric('theirs', 2.0); raise SystemExit(1)")
    run_id = process.communicate(timeout=60)[0].strip()
    assert ended(client, run_id).info.status == "FAILED"


def test_an_interruption_in_the_middle_of_sending_breaks_nothing(root, client):
    body = """
class Stop(BaseException): pass
def stop(*_): raise Stop
signal.signal(signal.SIGALRM, stop)
for i in range(400):
    try:  # the timer runs in here only: a slow machine may take longer than it from one line to the next
        signal.setitimer(signal.ITIMER_REAL, 0.0005)
        for j in range(200): run.log_points([("k" * 200, 1.0, i * 200 + j)])
        signal.setitimer(signal.ITIMER_REAL, 0)
    except Stop: pass
run.log_points([("last", 1.0, 0)])
run.finish("FINISHED")
"""
    process = child(root, body)
    run_id = process.communicate(timeout=90)[0].strip()
    run = client.get_run(run_id)
    assert process.returncode == 0 and run.info.status == "FINISHED" and run.data.metrics["last"] == 1.0
    steps = [step for step, _ in points(client, run_id, "k" * 200)]
    assert len(steps) == len(set(steps)) > 0
