"""Runs kept in order: listed, tagged, deleted for good, a moved store; with SQLite and on a real server."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from mlflow import MlflowClient

from src import tracking
from src.errors import UserError
from src.tracking import housekeeping, store
from tests.commands.test_compare import fill
from tests.conftest import Lab
from tests.tracking.test_server import Server


def ids(uri: str) -> set[str]:
    return set(tracking.table(uri).index)


def with_files(uri: str, run: str) -> Path:
    """Gives a run an artifact, and says in which folder it lies here."""
    info = tracking.find_run(run, uri=uri)
    info.directory.mkdir(parents=True, exist_ok=True)
    (info.directory / "weights.bin").write_bytes(bytes(100_000))
    return info.directory


@pytest.fixture(scope="module")
def filled(tmp_path_factory) -> Lab:
    """A store for commands that change nothing."""
    lab = Lab(tmp_path_factory.mktemp("filled"))
    fill(lab.uri, lab.folder)
    return lab


def test_runs_are_listed_shown_and_tagged(lab: Lab) -> None:
    found = fill(lab.uri, lab.folder)
    done = lab.run("runs", "rows=4")
    assert done.code == 0, done.err
    assert "and 6 more; rows=10 shows them" in done.out and "accuracy 0.76" in done.out and "FAILED" in done.out
    run = found["8", "0.01", 2]
    done = lab.run("runs", "tag", run[:12], "tags.purpose=baseline", "tags.note='two words'")
    assert done.code == 0, done.err
    done = lab.run("runs", "show", run[:12])
    assert f"run {run}" in done.out and "tags: note=two words, purpose=baseline" in done.out
    assert "test/accuracy" in done.out and "0.7500" in done.out
    assert lab.run("runs", "tag", run, "tags.note=null").code == 0
    assert "note" not in lab.client.get_run(run).data.tags
    assert lab.run("runs", "tag", "filter=tags.purpose = 'w64'", "tags.wide=yes").code == 0
    assert len(tracking.table(lab.uri, filter="tags.wide = 'yes'")) == 6


def test_deleting_frees_the_disk_and_keeps_registered_models(lab: Lab) -> None:
    found = fill(lab.uri, lab.folder)
    run, kept = found["8", "0.01", 1], found["8", "0.01", 2]
    folder = with_files(lab.uri, run)
    done = lab.run("runs", "delete", run)
    assert done.code == 0 and "0.1 MB freed" in done.out
    assert run not in ids(lab.uri) and not folder.parent.exists()
    with pytest.raises(Exception, match="not found"):
        lab.client.get_run(run)  # not even marked as deleted
    place = with_files(lab.uri, kept)
    client = MlflowClient(lab.uri, registry_uri=lab.uri)
    client.create_registered_model("reader")
    client.create_model_version("reader", str(place), kept)
    done = lab.run("runs", "delete", kept)
    assert done.code == 2
    assert done.err == (f"error: run {kept[:8]} is kept: registered model reader was made from it, delete that first\n")
    assert kept in ids(lab.uri) and place.exists()
    done = lab.run("runs", "delete", "filter=tags.purpose = 'w64'")
    assert done.code == 2 and "that would delete 6 runs and their files for good: force=true does" in done.err
    assert lab.run("runs", "delete", "filter=tags.purpose = 'w64'", "force=true").code == 0
    assert not ids(lab.uri) & {one for (width, *_), one in found.items() if width == "64"}


def test_a_run_s_model_is_known_by_its_figures_and_goes_with_it(lab: Lab) -> None:
    small = ["model=fnn", "data=iris", "trainer.max_epochs=2", "tracking.system_metrics=false"]
    assert lab.train(*small).code == 0
    (run,) = lab.runs()
    (model,) = lab.client.search_logged_models([run.info.experiment_id])
    assert [output.model_id for output in run.outputs.model_outputs] == [model.model_id]
    assert model.params["model.width"] == run.data.params["model.width"]
    data = run.inputs.dataset_inputs[0].dataset
    assert {(metric.dataset_name, metric.dataset_digest) for metric in model.metrics} == {(data.name, data.digest)}
    expected = {
        key: value for key, value in run.data.metrics.items() if key.startswith(("test/", "baseline/", "cost/"))
    }
    assert {metric.key: metric.value for metric in model.metrics} == expected
    assert len(lab.points(run.info.run_id)["test/loss"]) == 1 and len(lab.points(run.info.run_id)["val/loss"]) == 2
    assert lab.train("resume=last", "trainer.max_epochs=4").code == 0  # it trains on: the same model, newer figures
    (again,) = lab.client.search_logged_models([run.info.experiment_id])
    newest = max((m for m in again.metrics if m.key == "test/loss"), key=lambda metric: metric.timestamp)
    assert again.model_id == model.model_id
    assert newest.value == lab.runs()[0].data.metrics["test/loss"] != expected["test/loss"]
    assert lab.run("runs", "delete", "last").code == 0
    assert not lab.client.search_logged_models([run.info.experiment_id])


def test_a_run_s_page_says_how_to_get_it_again(lab: Lab) -> None:
    small = ["model=fnn", "data=iris", "trainer.max_epochs=1", "tracking.system_metrics=false"]
    assert lab.train(*small, "tags.api_key=geheim").code == 0
    (run,) = lab.runs()
    note = run.data.tags["mlflow.note.content"]
    assert "model=fnn data=iris trainer.max_epochs=1" in note and "geheim" not in note
    assert f"    python -m src.rerun run={run.info.run_id[:12]} verify=true\n" in note
    assert lab.train(*small, "seed=1", "tags={mlflow.note.content: mine}").code == 0
    assert lab.runs()[0].data.tags["mlflow.note.content"] == "mine"
    assert lab.train("-m", *small, "seed=2,3", "n_jobs=1").code == 0
    notes = [run.data.tags["mlflow.note.content"] for run in lab.runs()[:2]]
    for number, one in zip((3, 2), notes, strict=True):
        assert one.startswith("    python -m src.train ") and f"seed={number} " in one and "threads=" in one


def test_a_run_that_is_written_is_not_deleted(lab: Lab) -> None:
    run = tracking.start(config={}, overrides=[], uri=lab.uri, root=lab.folder, system_metrics=False)
    done = lab.run("runs", "delete", run.id)
    assert done.code == 2 and f"run {run.id[:8]} is still being written by process {os.getpid()}" in done.err
    run.finish("FINISHED")
    assert lab.run("runs", "delete", run.id).code == 0


def test_what_is_left_over_is_listed_and_then_removed(lab: Lab) -> None:
    found = fill(lab.uri, lab.folder)
    marked, alive = found["8", "0.01", 1], found["8", "0.01", 2]
    folders = [with_files(lab.uri, run) for run in (marked, alive)]
    lab.client.delete_run(marked)  # as the UI does
    orphan = folders[0].parent.parent / ("f" * 32) / "artifacts"
    orphan.mkdir(parents=True)
    done = lab.run("runs", "gc")
    assert "of a run marked as deleted" in done.out and "of no run in the store" in done.out
    assert "2 to be removed; force=true does" in done.out and folders[0].exists() and orphan.exists()
    done = lab.run("runs", "gc", "force=true")
    assert done.code == 0 and "0.1 MB freed" in done.out
    assert not folders[0].parent.exists() and not orphan.parent.exists() and folders[1].exists()
    assert "nothing is left over" in lab.run("runs", "gc").out


def test_a_store_that_was_moved_finds_its_files_again(lab: Lab) -> None:
    old = lab.folder / "old place"
    old.mkdir()
    before = Lab(old)
    assert before.train("model=fnn", "data=iris", "trainer.max_epochs=1", "tracking.system_metrics=false").code == 0
    done = before.run("runs", "relocate")
    assert done.code == 2 and "error: nothing to relocate: the files of" in done.err
    new = lab.folder / "new"
    shutil.move(old, new)
    after = Lab(new)
    assert after.run("evaluate", "run=last", "resamples=0").code == 2
    done = after.run("runs", "relocate")
    assert done.code == 0 and f"from {old} to {new}" in done.out.replace("\n", ""), done.out
    assert after.run("evaluate", "run=last", "resamples=0").code == 0
    assert after.train("model=fnn", "data=iris", "trainer.max_epochs=1", "tracking.system_metrics=false").code == 0
    assert after.artifacts(after.runs()[0].info.run_id).is_relative_to(new) and not old.exists()


def test_files_that_lie_in_the_new_place_stay_there(lab: Lab) -> None:
    folder = with_files(lab.uri, fill(lab.uri, lab.folder)["8", "0.01", 1])
    with pytest.raises(UserError, match=f"^path={lab.folder.parent}: no file of .* is said to lie there$"):
        housekeeping.relocate(str(lab.folder.parent), lab.uri)
    assert lab.run("runs", "show", "last").code == 0 and folder.is_dir()


def test_on_a_server_files_go_too(tmp_path: Path) -> None:
    server = Server(tmp_path)
    server.start()
    try:
        found = fill(server.uri, tmp_path)
        run = found["8", "0.01", 1]
        client = store.connect(store.resolve(server.uri))
        (tmp_path / "weights.bin").write_bytes(bytes(1000))
        client.log_artifact(run, str(tmp_path / "weights.bin"))
        assert len(list((tmp_path / "artifacts").rglob("weights.bin"))) == 1
        housekeeping.delete(tracking.find_run(run, uri=server.uri))
        assert not list((tmp_path / "artifacts").rglob("weights.bin")) and run not in ids(server.uri)
        with pytest.raises(UserError, match="is cleared by `mlflow gc` on its own machine"):
            housekeeping.leftovers(server.uri)
        with pytest.raises(UserError, match="only an SQLite store is relocated"):
            housekeeping.relocate(None, server.uri)
    finally:
        server.stop()


def test_an_old_folder_of_files_becomes_a_store(tmp_path: Path) -> None:
    environment = os.environ | {"MLFLOW_ALLOW_FILE_STORE": "true", "MLFLOW_TRACKING_URI": str(tmp_path / "mlruns")}
    script = "import mlflow\nwith mlflow.start_run(): mlflow.log_params({'seed': 1}); mlflow.log_metric('val/loss', .5)"
    subprocess.run([sys.executable, "-c", script], env=environment, cwd=tmp_path, check=True, capture_output=True)
    (tmp_path / "new").mkdir()
    uri = f"sqlite:///{tmp_path}/new/mlflow.db"
    command = [str(Path(sys.executable).parent / "mlflow"), "migrate-filestore", "--source", str(tmp_path / "mlruns")]
    done = subprocess.run([*command, "--target", uri], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert list(tracking.table(uri)["metrics.val/loss"]) == [0.5]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["delte", "last"], "action: delte is not known (did you mean delete?)"),
        (["delete"], "delete: say which, run=ID, sweep=ID or filter=..."),
        (["show"], "show: say which, run=ID (its beginning, last or best:METRIC)"),
        (["show", "zzz"], "run 'zzz' is not in"),
        (["tag", "last"], "tags: say which, such as tags.purpose=baseline"),
        (["tag", "last", "tags.mlflow.user=x"], "tags: those that begin with labbook. or mlflow. are not a person's"),
        (["list", "tags.x=y"], "tags: list changes none"),
        (["list", "filter=tags.x = 'no'"], "there are no such runs"),
    ],
)
def test_bookkeeping_that_cannot_be_is_one_line(filled: Lab, arguments, message) -> None:
    done = filled.run("runs", *arguments)
    assert done.code == 2 and done.err.startswith(f"error: {message}") and len(done.err.splitlines()) == 1, done.err
