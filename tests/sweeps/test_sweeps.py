"""Sweeps: jobs that really die, launchers that really are killed, and the same command again."""

from __future__ import annotations

import importlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from src.errors import Interrupted, UserError
from src.sweeps.jobs.ledger import Job, JobSpec, Ledger, current, key_of
from src.sweeps.launchers.executor import OnError
from src.sweeps.launchers.pool import Pool, places
from src.sweeps.launchers.remote import WorkerMonitor
from src.sweeps.views.terminal import duration, rank
from tests.conftest import Lab
from tests.sweeping import SMALL, Sweep


@pytest.fixture
def sweep(lab: Lab) -> Sweep:
    return Sweep(lab)


# jobs that die -------------------------------------------------------------------------------------------------------


def test_three_of_twenty_jobs_die_alone_and_only_they_are_run_again(sweep: Sweep) -> None:
    command = ["-m", *SMALL, "model._target_=trouble.Trouble", "model.width=range(1,21)", "trainer.limit_val_batches=1"]
    code, out, err = sweep.run(*command, "test=false")
    assert code == 1, err
    assert sweep.counts() == {"finished": 17, "failed": 2, "killed": 1}
    assert sweep.statuses() == {"FINISHED": 17, "FAILED": 2, "KILLED": 1}
    (line,) = [line for line in err.splitlines() if line.startswith("error: 3 of the sweep's 20 jobs did not finish")]
    assert "model.width=3 (ValueError: a width of three [" in line
    assert "model.width=7 (MemoryError" in line and "model.width=11 (killed by SIGKILL" in line
    before = {run.info.run_id: run.info.end_time for run in sweep.lab.runs() if run.info.status == "FINISHED"}

    (sweep.lab.folder / "repaired").touch()
    code, out, err = sweep.run(*command, "test=false")
    assert code == 0, err
    assert "17 finished, 1 to resume, 2 to run" in out
    assert sweep.counts() == {"finished": 20}
    attempts = {job.number + 1: job.state.attempts for job in sweep.jobs()}
    assert {width for width, count in attempts.items() if count == 2} == {3, 7, 11} and set(attempts.values()) == {1, 2}
    runs = {run.info.run_id: run for run in sweep.lab.runs()}
    assert len(runs) == 22  # the two that failed are kept, the one that was killed was gone on with
    assert all(runs[run].info.end_time == end for run, end in before.items())
    assert sweep.statuses() == {"FINISHED": 20, "FAILED": 2}


def test_a_job_that_asks_for_what_cannot_be_is_named_with_its_line(sweep: Sweep) -> None:
    code, out, err = sweep.run("-m", *SMALL, "data=iris,digits", "optimizer.lr=-1,0.01", "threads=1", "n_jobs=2")
    assert code == 2
    told = "did not finish: data=iris optimizer.lr=-1 (optimizer: Invalid learning"
    assert f"error: 2 of the sweep's 4 jobs {told}" in err
    assert sweep.counts() == {"finished": 2, "failed": 2} and sweep.statuses() == {"FINISHED": 2}
    (first, *_) = sweep.jobs()
    assert first.output.read_text().startswith("error: optimizer: Invalid learning rate")
    code, out, err = sweep.run("-m", *SMALL, "model.dept=1,2")  # before anything is begun
    assert code == 2 and err == "error: model.dept: FNN has no such option (did you mean depth?)\n" and out == ""
    assert len(sweep.ledgers()) == 1


# launchers that die --------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_sweep_killed_at_five_points_ends_with_each_job_once(sweep: Sweep) -> None:
    command = ["-m", *SMALL, "model._target_=trouble.Trouble", "seed=range(0,6)", "n_jobs=2", "test=false"]
    command += ["trainer.max_epochs=3", "checkpoint.every_n_steps=2"]
    points = [
        lambda counts: counts["running"] >= 1,  # the second job may be about to begin
        lambda counts: counts["running"] == 2,
        lambda counts: any(job.state.run for job in sweep.jobs() if job.state.status == "running"),
        lambda counts: counts["finished"] >= 1,
        lambda counts: counts["finished"] >= 4,
    ]
    finished: dict[str, int] = {}
    for number, reached in enumerate(points):
        process = sweep.start(*command, STEP_SECONDS="0.05")
        sweep.until(process, reached)
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
        runs = {run.info.run_id: run.info.end_time for run in sweep.lab.runs() if run.info.status == "FINISHED"}
        assert finished.items() <= runs.items(), number  # what had finished was not touched
        finished = runs
    code, _, err = sweep.run(*command)
    assert code == 0, err
    assert sweep.statuses() == {"FINISHED": 6}
    assert len(sweep.ledgers()) == 1 and sweep.counts() == {"finished": 6}
    runs = sweep.lab.runs()
    assert len({run.data.tags["labbook.seed"] for run in runs}) == 6
    assert {run.info.run_id: run.info.end_time for run in runs}.items() >= finished.items()
    # a run that was cut and gone on with holds what one that was not would hold
    code, _, err = sweep.run(*command, "force=true", STEP_SECONDS="0")
    assert code == 0, err
    points_of = {}
    for run in sweep.lab.runs():
        points_of.setdefault(run.data.tags["labbook.seed"], []).append(sweep.lab.points(run.info.run_id))
    for seed, (one, other) in points_of.items():
        assert one == other, seed


@pytest.mark.parametrize(
    ("signum", "code"), [(signal.SIGINT, 130), pytest.param(signal.SIGTERM, 143, marks=pytest.mark.slow)]
)
def test_a_signal_stops_a_sweep_cleanly_and_it_can_be_gone_on_with(sweep: Sweep, signum, code) -> None:
    command = ["-m", *SMALL, "model._target_=trouble.Trouble", "seed=1,2,3", "n_jobs=2", "trainer.max_epochs=2"]
    process = sweep.start(*command, STEP_SECONDS="0.3")
    sweep.until(process, lambda counts: sum(job.state.run is not None for job in sweep.jobs()) == 2)
    process.send_signal(signum)
    out, err = process.communicate(timeout=60)
    assert process.returncode == code and err.splitlines()[-1] == f"stopped by {signum.name}"
    assert sweep.counts() == {"killed": 2, "pending": 1} and sweep.statuses() == {"KILLED": 2}
    code, out, err = sweep.run("resume", "last", entry="sweep")
    assert code == 0, err
    assert "2 to resume, 1 to run" in out and sweep.statuses() == {"FINISHED": 3}


def test_two_launchers_of_one_sweep_and_one_that_is_cancelled(sweep: Sweep) -> None:
    command = ["-m", *SMALL, "model._target_=trouble.Trouble", "seed=1,2", "n_jobs=1"]
    process = sweep.start(*command, STEP_SECONDS="2")
    sweep.until(process, lambda counts: counts["running"] == 1)
    code, out, err = sweep.run("status", entry="sweep")
    assert code == 0 and "1 running, 1 pending" in out
    code, _, err = sweep.run("resume", "last", entry="sweep")
    assert code == 2 and f"is being run by process {process.pid}" in err
    code, out, err = sweep.run("cancel", "last", entry="sweep")
    assert code == 0 and "1 killed, 1 pending" in out
    process.communicate(timeout=20)
    assert process.returncode == 143
    for arguments, message in (
        (["cancel"], "is not running: nothing to cancel"),
        (["stats"], "action: stats is not known (did you mean status?)"),
        (["status", "1999"], "sweep '1999' is not there: there are 2"),
    ):
        code, _, err = sweep.run(*arguments, entry="sweep")
        assert code == 2 and message in err and len(err.splitlines()) == 1


def test_what_is_still_to_run_is_as_it_was_when_the_sweep_began(sweep: Sweep) -> None:
    recipes = sweep.lab.folder / "recipes"
    recipes.mkdir()
    recipe = recipes / "short.yaml"
    recipe.write_text("trainer: {max_epochs: 1}\n")
    swap = f"from src.config import recipes\nrecipes.RECIPES = (recipes.Path({str(recipes)!r}),)\n"
    script = sweep.lab.folder / "recipes.py"
    script.write_text(f"{swap}from src.train import main\nmain()\n")
    command = [sys.executable, str(script), "-m", "experiment=short", *SMALL[:2], "seed=1,2", "n_jobs=1", "test=false"]
    process = subprocess.Popen(command, cwd=sweep.lab.folder, env=sweep.env, start_new_session=True, text=True)
    sweep.until(process, lambda counts: counts["running"] == 1)
    recipe.write_text("trainer: {max_epochs: 2}\n")
    assert process.wait(120) == 0
    assert [job.state.epochs for job in sweep.jobs()] == [1, 1]
    assert subprocess.run(command, cwd=sweep.lab.folder, env=sweep.env, timeout=120).returncode == 0
    assert [[job.state.epochs for job in ledger.jobs] for ledger in sweep.ledgers()] == [[2, 2], [1, 1]]


@pytest.mark.slow
def test_repeats_and_folds_are_jobs_of_their_point(sweep: Sweep) -> None:
    command = ["-m", *SMALL, "model.width=4,8", "test=false", "threads=1"]
    code, _, err = sweep.run(*command, "seed=5", "repeats=3", "n_jobs=2")
    assert code == 0, err
    names = [f"model.width={width} seed={seed}" for width in (4, 8) for seed in (5, 6, 7)]
    assert [job.name for job in sweep.jobs()] == names and [job.trial for job in sweep.jobs()] == [0] * 3 + [1] * 3
    assert sorted(run.data.tags["labbook.seed"] for run in sweep.lab.runs()) == sorted(["5", "6", "7"] * 2)
    code, _, err = sweep.run(*command, "seed=6", "force=true")  # a run of a repetition is what it would be alone
    assert code == 0, err
    points = {}
    for run in sweep.lab.runs():
        key = run.data.params["model.width"], run.data.tags["labbook.seed"]
        points.setdefault(key, []).append(sweep.lab.points(run.info.run_id))
    assert [one[0] == one[1] for one in points.values() if len(one) == 2] == [True, True]
    table = sweep.lab.folder / "own.csv"
    table.write_text("a,b\n" + "\n".join(f"{i % 7},{'no' if i % 7 < 3 else 'yes'}" for i in range(60)))
    own = ["model=fnn", "data=csv", f"data.path={table}", "data.target=b", "trainer.max_epochs=1"]
    code, _, err = sweep.run("-m", *own, "folds=3")
    assert code == 0, err
    assert [job.overrides[-1] for job in sweep.jobs()] == ["data.fold=0", "data.fold=1", "data.fold=2"]
    for arguments, message in (
        (["repeats=3"], "repeats=3: several runs are a sweep, add -m"),
        (["folds=3"], "folds=3: several runs are a sweep, add -m"),
        (["-m", "folds=1"], "folds=1 must be at least 2"),
        (["-m", "model=fnn", "data=iris", "folds=3"], "data.folds: "),
    ):
        code, _, err = sweep.run(*arguments)
        assert code == 2 and err.startswith(f"error: {message}") and len(err.splitlines()) == 1, err


# the pool ------------------------------------------------------------------------------------------------------------


def made(tmp_path: Path, count: int, **config) -> Ledger:
    text = OmegaConf.to_yaml({"threads": None, **config, "hydra": {"overrides": {"task": []}}})
    jobs = [JobSpec([f"seed={n}"], text.replace("NUMBER", str(n)), f"{n}") for n in range(count)]
    ledger = Ledger.create(tmp_path, key_of(jobs), jobs, ["python"], 3)
    ledger.take()
    return ledger


def pooled(ledger: Ledger, task, on_error: OnError = "continue", slots: int = 2) -> list[int]:
    """Runs the jobs; their numbers in the order of their ends."""
    ended: list[int] = []
    run = Pool(task, slots=[{}] * slots, threads=ledger.threads, on_error=on_error, sweep=ledger.id)
    run.run(ledger.jobs, lambda job: ended.append(job.number), lambda: None)
    return ended


def third_fails(config) -> float:
    if config.n == 2:
        raise UserError("two is not allowed")
    return config.n * config.threads


@pytest.mark.parametrize(
    ("on_error", "attempts"), [("continue", [1] * 5), ("retry", [1, 1, 3, 1, 1]), ("stop", [1, 1, 1, 0, 0])]
)
def test_after_a_failure_a_sweep_goes_on_stops_or_tries_again(tmp_path, on_error, attempts) -> None:
    ledger = made(tmp_path, 5, n="NUMBER")
    pooled(ledger, third_fails, on_error, slots=1)
    assert [job.state.attempts for job in ledger.jobs] == attempts
    states = [job.read().state for job in ledger.jobs]
    assert [state.objective for state in states] == [0, 3, None, *([9, 12] if on_error != "stop" else [None, None])]
    assert states[2].status == "failed" and states[2].error == "two is not allowed" and states[2].code == 2


def remembers(config) -> None:
    """Fails or dies at its first attempts, and at the last one says which run it was told to go on with."""
    job = current()
    if job.state.attempts < 3:
        job.update(run=f"run{job.state.attempts}")
        if config.n == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        raise ValueError("no")
    raise UserError(str(config.get("resume")))


def test_a_killed_run_is_gone_on_with_and_a_failed_one_is_not(tmp_path) -> None:
    ledger = made(tmp_path, 2, n="NUMBER", resume=None)
    pooled(ledger, remembers, "retry")
    assert [job.read().state.error for job in ledger.jobs] == ["None", "run2"]


def its_ending(config) -> None:
    os.write(1, b"said\n")
    if config.n == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    if config.n == 1:
        os._exit(3)
    if config.n == 2:
        raise Interrupted(signal.SIGTERM)
    if config.n == 3:
        raise SystemExit("enough")


def test_whatever_way_a_job_ends_the_ledger_says_so(tmp_path) -> None:
    ledger = made(tmp_path, 5, n="NUMBER")
    assert sorted(pooled(ledger, its_ending)) == [0, 1, 2, 3, 4]
    found = [(job.state.status, job.state.error) for job in Ledger(ledger.folder).jobs]
    assert found == [
        ("killed", "killed by SIGKILL, as the system does when memory runs out"),
        ("killed", "it ended with code 3"),
        ("killed", "stopped by SIGTERM"),
        ("failed", "enough"),
        ("finished", None),
    ]
    assert all(job.output.read_text() == "said\n" for job in ledger.jobs)
    for path in ledger.folder.rglob("config.yaml"):
        assert path.stat().st_mode & 0o777 == 0o600


def waits(config) -> float:
    if config.n:
        time.sleep(60)
    return 0.0


def test_a_signal_lets_what_is_being_recorded_be_recorded(tmp_path) -> None:
    ledger, ended = made(tmp_path, 3, n="NUMBER"), []

    def on_end(job: Job) -> None:
        if job.number == 0:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.01)  # Python calls a handler between two of its instructions
        ended.append((job.number, job.state.status))

    with pytest.raises(Interrupted):
        Pool(waits, slots=[{}, {}], threads=1, on_error="continue", sweep="s").run(ledger.jobs, on_end, lambda: None)
    # the third was begun in the place of the first, before anybody looked at the signal
    assert ended[0] == (0, "finished") and sorted(ended[1:]) == [(1, "killed"), (2, "killed")]


class StruckPool(Pool):
    """Signals each job as soon as there is a process; the third cannot be begun."""

    def begin(self, job: Job) -> None:
        if job.number == 2:
            raise OSError("no more processes")
        super().begin(job)
        _, process, _ = list(self.processes.values())[-1]
        assert process.pid
        os.kill(process.pid, signal.SIGTERM)


def test_a_signal_at_the_fork_ends_the_job_and_a_fork_that_fails_the_sweep(tmp_path) -> None:
    ledger, ended = made(tmp_path, 3, n="1NUMBER"), []
    with pytest.raises(OSError, match="no more processes"):
        StruckPool(waits, slots=[{}, {}], threads=1, on_error="continue", sweep="s").run(
            ledger.jobs, lambda job: ended.append(job.number), lambda: None
        )
    assert ended == [0, 1]
    assert {job.read().state.error for job in ledger.jobs[:2]} == {"stopped by SIGTERM"}


def sees(config) -> float:
    assert os.environ["LABBOOK_SWEEP_ID"] and os.environ["LABBOOK_SWEEP_JOB"] == str(config.n)
    return float(os.environ["CUDA_VISIBLE_DEVICES"])


def test_a_job_sees_the_gpu_of_its_place_only(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,6")
    slots, threads = places(10, None, None, 2, "auto")
    assert [slot["CUDA_VISIBLE_DEVICES"] for slot in slots] == ["4", "6", "4", "6"]
    assert len(places(3, 2, None, 1, "gpu")[0]) == 2 and len(places(1, None, None, 1, "auto")[0]) == 1
    assert places(2, None, None, 1, "cpu")[0][0] == {}
    ledger = made(tmp_path, 4, n="NUMBER")
    Pool(sees, slots=slots[:2], threads=threads, on_error="stop", sweep="s").run(
        ledger.jobs, lambda _: None, lambda: None
    )
    assert {job.read().state.objective for job in ledger.jobs} == {4.0, 6.0}


def test_threads_are_shared_out(monkeypatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    assert [places(20, jobs, None, 1, "auto")[1] for jobs in (None, 1, 2, 3, 8, 20)] == [1, 8, 4, 2, 1, 1]
    assert len(places(20, None, None, 1, "auto")[0]) == 8 and len(places(20, None, 4, 1, "auto")[0]) == 2
    for options in ((20, 0, None, 1), (20, None, None, 0)):
        with pytest.raises(UserError, match="must be at least 1"):
            places(*options, "auto")


# the ledger ----------------------------------------------------------------------------------------------------------


def test_a_ledger_is_found_by_its_jobs_and_by_its_name(tmp_path) -> None:
    def jobs(*hashes: str) -> list[JobSpec]:
        return [JobSpec([f"seed={one}", "model=fnn"], "", one) for one in hashes]

    def find(*hashes: str) -> Ledger | None:
        return Ledger.find_by_key(tmp_path, key_of(jobs(*hashes)))

    assert find("a") is None
    with pytest.raises(UserError, match="no sweeps yet"):
        Ledger.find_by_id(tmp_path, "last")
    one, other = (
        Ledger.create(tmp_path, key_of(jobs(*hashes)), jobs(*hashes), ["python"], 1) for hashes in (("a", "b"), ("a",))
    )
    assert find("a", "b").id == one.id and find("b", "a") is None
    added = other.add(JobSpec(["seed=c"], "c: 1", "c", "the third", 7))
    assert (added.number, added.name, added.trial, added.config.read_text()) == (1, "the third", 7, "c: 1")
    assert [job.name for job in one.read().jobs] == ["the only job"] * 2  # no launcher has named them
    assert [job.name for job in Ledger(other.folder).jobs] == ["the only job", "the third"]
    assert Ledger.find_by_id(tmp_path, one.id[:-1] if one.id[:-1] != other.id[:-1] else one.id).id == one.id
    with pytest.raises(UserError, match="ambiguous"):
        Ledger.find_by_id(tmp_path, one.id[:8])
    one.take()
    assert one.launcher == os.getpid()
    with pytest.raises(UserError, match=f"is being run by process {os.getpid()}"):
        Ledger(one.folder).take()
    one.release()
    assert one.launcher is None


def test_the_best_job_stands_first_whatever_better_means(tmp_path) -> None:
    ledger = made(tmp_path, 5)
    for job, value in zip(ledger.jobs, (0.5, None, 0.9, 0.7, None), strict=True):
        if value is not None:
            job.update(status="finished", objective=value, mode="max", metric="val/accuracy")
    ledger.jobs[1].update(status="running")
    ledger.jobs[4].update(status="failed", error="no")
    assert [job.number for job in rank(ledger.jobs)] == [1, 2, 3, 0, 4]
    for job in ledger.jobs:
        job.update(mode="min")
    assert [job.number for job in rank(ledger.jobs)] == [1, 0, 3, 2, 4]
    assert [duration(x) for x in (3.21, 42, 187, 3723)] == ["3.2 s", "42 s", "3:07", "1:02:03"]


def test_arrays_that_an_earlier_release_submitted_know_their_jobs() -> None:
    module = importlib.import_module("src.sweeps.slurm")  # as their pickle names it
    assert issubclass(module.Requeued, WorkerMonitor) and callable(module.Requeued.checkpoint)
