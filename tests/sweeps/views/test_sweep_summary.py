"""What a sweep says of itself: points of several jobs, and its own run in MLflow with tables and figures."""

from __future__ import annotations

import csv
import io
import itertools
import os
import signal
import time
from pathlib import Path

import psutil
import pytest
from omegaconf import OmegaConf
from rich.console import Console

from src import tracking
from src.errors import RunFailed, UserError
from src.plots.sweep import Trials, logarithmic, save_figures
from src.sweeps.jobs.ledger import JobSpec, Ledger, current
from src.sweeps.jobs.run import PendingJobs, run_ledger
from src.sweeps.jobs.trials import best_first, higher_is_better, trials_of
from src.sweeps.launchers.pool import Pool
from src.sweeps.search import importance
from src.sweeps.views.terminal import results
from src.tracking.locks import identity
from src.tracking.writer import prefork
from tests.conftest import Lab
from tests.sweeps.test_sweeps import SMALL, Sweep

SPACE = {"model.width": "4,16", "optimizer.lr": "0.001,0.01", "optimizer": "adam,sgd"}


def made(tmp_path, *jobs: tuple[str, int, float | None], mode: str = "max") -> Ledger:
    """A ledger of jobs with overrides, point and objective; those without one have failed."""
    frozen = [JobSpec(text.split(), "a: 1", text, text, point) for text, point, _ in jobs]
    ledger = Ledger.create(tmp_path, "key", frozen, ["python", "-m", "src.train"], 1)
    for job, (_, _, value) in zip(ledger.jobs, jobs, strict=True):
        known = {"status": "failed"} if value is None else {"status": "finished", "objective": value}
        job.update(**known, mode=mode, metric="val/f1", seconds=10.0)
    return ledger


# points --------------------------------------------------------------------------------------------------------------


def test_the_objective_of_a_point_is_the_mean_of_its_jobs_and_none_while_one_is_missing(tmp_path) -> None:
    jobs = [("lr=1 fold=0", 0, 0.1), ("lr=1 fold=1", 0, 0.3), ("lr=10 fold=0", 1, 0.9), ("lr=10 fold=1", 1, None)]
    ledger = made(tmp_path, *jobs, ("lr=2 fold=0", 2, 0.3), ("lr=2 fold=1", 2, 0.5))
    one, missing, other = trials_of(ledger.jobs)
    assert (one.name, missing.name, other.name) == ("lr=1", "lr=10", "lr=2")
    assert (one.objective, missing.objective) == (pytest.approx(0.2), None)
    assert one.deviation == pytest.approx(0.1414, abs=1e-4) and missing.deviation is None
    assert [point.number for point in best_first([missing, one, other])] == [2, 0, 1]
    for job in ledger.jobs:
        job.update(mode="min")
    assert [point.number for point in best_first([missing, one, other])] == [0, 2, 1]
    ledger.jobs[0].update(mode=None)  # failed before it knew
    assert not higher_is_better(trials_of(ledger.jobs))
    ledger.jobs[1].update(mode="max")
    assert higher_is_better(trials_of(ledger.jobs))
    ledger.jobs[1].update(mode="min")
    table = results(ledger)
    assert [list(column.cells) for column in table.columns] == [
        ["lr=1", "lr=2", "lr=10"],
        ["2/2", "2/2", "1/2"],
        ["0.2 ± 0.14 (2)", "0.4 ± 0.14 (2)", "0.9 (1)"],
        ["20 s", "20 s", "20 s"],
    ]


# the sweep's own run -------------------------------------------------------------------------------------------------


def trained(config) -> float:
    """Stands for a training: a wide net with a high rate is the best, and `broken` says which job fails."""
    current().update(metric="val/f1", mode="max", run=f"run{config.n}")
    if Path(config.broken).exists() and config.n == 1:
        raise UserError("one is not allowed")
    return config.width * config.lr + (config.optimizer == "sgd") * 0.01


def swept(lab: Lab) -> Ledger:
    """A ledger of eight such jobs."""
    jobs = []
    grid = itertools.product((4, 16), (0.001, 0.01), ("adam", "sgd"))
    for n, (width, lr, optimizer) in enumerate(grid):
        values = {"n": n, "width": width, "lr": lr, "optimizer": optimizer, "broken": str(lab.folder / "broken")}
        values |= {"threads": None, "choice": "${hydra:job.name}", "api_key": "confidential"}
        config = OmegaConf.to_yaml({**values, "hydra": {"job": {"name": "train"}, "overrides": {"task": []}}})
        overrides = ["data=iris", f"model.width={width}", f"optimizer.lr={lr}", f"optimizer={optimizer}"]
        jobs.append(JobSpec(overrides, config, str(n), " ".join(overrides[1:]), n))
    return Ledger.create(lab.folder / "mlruns", "key", jobs, ["python", "-m", "src.train", "-m"], 3, space=SPACE)


def run(ledger: Ledger, lab: Lab, **options) -> str:
    """Runs what is missing; what a person sees."""
    target = {"_target_": "src.tracking.start", "_partial_": True, "uri": lab.uri}
    config = OmegaConf.create({"tracking": target | options})
    seen = io.StringIO()

    def pool(_: int) -> Pool:
        return Pool(trained, slots=[{}] * 2, threads=3, on_error="continue", sweep=ledger.id)

    try:
        run_ledger(ledger, config, PendingJobs(ledger), pool, Console(file=seen, width=200))
    except RunFailed as error:
        return str(error)
    return seen.getvalue()


def test_a_sweep_has_a_run_of_its_own_that_the_same_command_goes_on_with(lab: Lab, monkeypatch) -> None:
    ledger = swept(lab)
    (lab.folder / "broken").touch()
    with pytest.raises(UserError, match="1 of the sweep's 8 jobs did not finish"):
        run(ledger, lab)
    (own,) = lab.runs("sweep")
    assert own.info.status == "FAILED" and own.info.run_name == f"sweep {ledger.id}"
    assert own.data.tags["labbook.failure"] == "1 of the sweep's 8 jobs did not finish"
    assert own.data.params["space.optimizer.lr"] == "0.001,0.01"
    assert own.data.metrics["sweep/finished"] == 7 and own.data.metrics["sweep/failed"] == 1
    assert own.data.metrics["sweep/objective_best"] == pytest.approx(0.17)
    assert "MLFLOW_RUN_ID" not in os.environ  # a plain mlflow.log_metric() of a job is not the sweep's

    (lab.folder / "broken").unlink()
    assert f"its run {own.info.run_id}" in run(ledger, lab)
    (again,) = lab.runs("sweep")
    assert again.info.run_id == own.info.run_id and again.info.status == "FINISHED"
    assert "labbook.failure" not in again.data.tags and again.data.metrics["sweep/finished"] == 8
    assert again.data.metrics["sweep/failed"] == 0
    assert {step for step, _ in lab.points(own.info.run_id)["sweep/objective"]} == set(range(8))
    assert "its run" not in run(ledger, lab)  # nothing was left to run, nothing is told anew
    assert lab.runs("sweep")[0].info.end_time == again.info.end_time

    note = again.data.tags["mlflow.note.content"]
    assert "8 finished" in note and "| `optimizer.lr` | `0.001,0.01` |" in note
    best = "python -m src.train data=iris model.width=16 optimizer.lr=0.01 optimizer=sgd threads=3"
    assert best in note and f"runs/{ledger.jobs[7].state.run}" in note
    folder = lab.artifacts(own.info.run_id)
    config = OmegaConf.load(folder / "best_config.yaml")
    assert (config.width, config.lr, config.threads, config.choice, config.api_key) == (16, 0.01, 3, "train", "***")
    rows = list(csv.DictReader((folder / "jobs.csv").open()))
    assert [row["optimizer.lr"] for row in rows[:4]] == ["0.001", "0.001", "0.01", "0.01"]
    assert "data" not in rows[0] and float(rows[7]["val/f1"]) == pytest.approx(0.17)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", lab.uri)  # which load_table asks, not its client
    table = lab.client.load_table(own.info.experiment_id, "jobs.json", [own.info.run_id], ["run_id"])
    assert list(table["model.width"]) == [4] * 4 + [16] * 4 and set(table["status"]) == {"finished"}
    pictures = {path.name for path in (folder / "figures").iterdir()}
    assert pictures == {f"{name}.png" for name in ("history", "slices", "parallel_coordinates", "importance")}


def test_the_run_of_a_sweep_is_taken_for_no_training(lab: Lab) -> None:
    ledger = swept(lab)
    run(ledger, lab)
    (own,) = lab.runs("sweep")
    with pytest.raises(UserError, match="no runs yet in"):
        tracking.find_run("last", lab.uri)
    training = tracking.start(config={}, overrides=["lr=1"], uri=lab.uri, system_metrics=False)
    training.log_metrics({"val/accuracy": 0.5}, step=1)
    training.finish("FINISHED")
    assert tracking.find_run("last", lab.uri).id == training.id
    lab.client.set_tag(training.id, "labbook.sweep_id", ledger.id)
    lab.client.set_tag(training.id, "labbook.sweep_job", "3")
    assert tracking.sweep_runs(ledger.id, lab.uri) == {3: (training.id, "FINISHED")}
    lab.client.log_metric(own.info.run_id, "val/accuracy", 0.9)
    assert tracking.find_run("best:val/accuracy", lab.uri).id == training.id
    with pytest.raises(UserError, match=f"is that of a whole sweep.* status {ledger.id}"):
        tracking.find_run(own.info.run_id[:8], lab.uri)
    # one that somebody has deleted is begun anew
    lab.client.delete_run(own.info.run_id)
    ledger.jobs[2].update(status="pending")
    run(ledger, lab)
    (new,) = lab.runs("sweep")
    assert new.info.run_id != own.info.run_id and new.info.status == "FINISHED"


def test_without_tracking_or_without_a_store_there_is_none(lab: Lab) -> None:
    ledger = swept(lab)
    run(ledger, lab, enabled=False)
    assert ledger.counts() == {"finished": 8} and ledger.own_run == (None, None)
    assert not (lab.folder / "mlflow.db").exists()
    other = swept(lab)
    with pytest.raises(UserError, match="cannot be reached"):
        run(other, lab, uri="http://127.0.0.1:9")
    assert other.counts() == {"pending": 8}


def test_a_launcher_that_is_killed_leaves_no_sweep_running(lab: Lab) -> None:
    sweep = Sweep(lab)
    command = ["-m", *SMALL, "model._target_=trouble.Trouble", "seed=1,2", "n_jobs=1", "test=false"]
    process = sweep.start(*command, "tracking.nested=true", STEP_SECONDS="0.5")
    sweep.until(process, lambda counts: any(job.state.run for job in sweep.jobs()))
    assert [run.info.status for run in lab.runs("sweep")] == ["RUNNING"]
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    end = time.monotonic() + 60
    while lab.runs("sweep")[0].info.status == "RUNNING":
        assert time.monotonic() < end
        time.sleep(0.1)
    (own,) = lab.runs("sweep")
    assert own.info.status == "KILLED"
    code, _, err = sweep.run("resume", "last", entry="sweep")
    assert code == 0, err
    (again,) = lab.runs("sweep")
    assert again.info.run_id == own.info.run_id and again.info.status == "FINISHED"
    jobs = lab.runs()
    assert sorted(job.info.run_name for job in jobs) == ["seed=1", "seed=2"]  # what differs, and no more
    assert {job.data.tags["mlflow.parentRunId"] for job in jobs} == {own.info.run_id}


def test_runs_are_written_whether_or_not_a_warm_process_is_there_to_fork_their_writers(lab: Lab) -> None:
    def written() -> int:
        """A run from its beginning to its end; the process that its writer was forked from."""
        run = tracking.start(config={}, overrides=[], uri=lab.uri, system_metrics=False)
        run.log_metrics({"a": 1.0}, step=0)
        assert run.id
        parent = psutil.Process(run._channel.writer_pid).ppid()
        run.finish("FINISHED")
        stored = lab.client.get_run(run.id)
        assert stored.info.status == "FINISHED" and stored.data.metrics == {"a": 1.0}
        assert not identity(run._channel.writer_pid)
        return parent

    tracking.keep_warm()
    server = prefork.server()
    assert written() == server
    os.kill(server, signal.SIGSTOP)  # it takes a request and dies of it
    run = tracking.start(config={}, overrides=[], uri=lab.uri, system_metrics=False)
    os.kill(server, signal.SIGKILL)
    assert run.id
    run.finish("FINISHED")
    assert written() == os.getpid()
    tracking.keep_warm()
    assert prefork.server() != server and written() == prefork.server()


# pictures ------------------------------------------------------------------------------------------------------------


def shown(folder: Path, parameters: dict, objectives: list[float]) -> list[str]:
    points = Trials(range(len(objectives)), parameters, {"lr"}, objectives, None, "val/loss", False)
    return sorted(path.stem for path in save_figures(folder, points, {}))


def test_a_picture_that_would_show_nothing_is_left_out(tmp_path) -> None:
    two = {"lr": [0.1, 1.0], "name": ["a", "b"]}
    assert shown(tmp_path, two, [1.0, 2.0]) == ["history", "parallel_coordinates", "slices"]
    assert shown(tmp_path, {"lr": [0.1, 1.0]}, [1.0, 2.0]) == ["history", "slices"]
    assert shown(tmp_path, {}, [1.0, 2.0]) == ["history"] and shown(tmp_path, {}, [1.0]) == []
    assert shown(tmp_path, {"lr": [0.1] * 3, "name": ["a"] * 3}, [1.0] * 3)  # nothing varies: no division by nothing
    assert not importance.enough({"lr": [0.1, 1.0]}, [1.0, 2.0])
    assert not importance.enough({"lr": [0.1] * 8, "width": [1.0] * 8}, [2.0] * 8)


def test_numbers_that_grow_by_factors_have_a_logarithmic_axis() -> None:
    assert logarithmic([1, 10, 100]) and logarithmic([64, 16, 32, 8]) and logarithmic([1e-5, 3e-4, 0.1, 2e-3])
    assert not logarithmic([1, 2, 3, 4]) and not logarithmic([0, 0.1, 0.2]) and not logarithmic([1, 1000])
    assert not logarithmic([-1, -10, -100])


def test_importance_finds_what_matters() -> None:
    pytest.importorskip("optuna")
    rates, names = [10.0**-i for i in range(4)] * 4, [name for name in "abcd" for _ in range(4)]
    objectives = [float(-len(str(rate))) + 0.01 * names[i].count("a") for i, rate in enumerate(rates)]
    found = importance.shares({"name": names, "lr": rates}, {"lr"}, objectives)
    assert list(found) == ["lr", "name"] and found["lr"] > 0.9 and sum(found.values()) == pytest.approx(1)
