"""Search: real studies that are killed and gone on with, samplers that learn, pruning, several objectives."""

from __future__ import annotations

import math
import os
import re
import signal
from collections.abc import Callable
from dataclasses import asdict
from itertools import islice
from pathlib import Path

import optuna
import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from rich.console import Console

from src.config import compose
from src.errors import UserError
from src.experiment.assemble import assemble
from src.runtime.signals import Signals
from src.sweeps.jobs.ledger import Job, Ledger
from src.sweeps.search.space import Dimension, Space, read
from src.sweeps.search.study import Study, check_free, open_study, pending
from src.training.callbacks.pruning import Pruning
from tests.conftest import Lab
from tests.sweeping import SMALL, Sweep

SEARCH = ("-m", "hydra/sweeper=search", *SMALL, "threads=1")
RATE = "optimizer.lr=tag(log,interval(1e-4,1e-1))"


@pytest.fixture
def sweep(lab: Lab) -> Sweep:
    return Sweep(lab)


def trials(ledger: Ledger) -> list[optuna.trial.FrozenTrial]:
    return open_study(ledger.search, ledger.folder).trials


# the whole, in real processes ----------------------------------------------------------------------------------------


def test_a_study_of_24_killed_at_11_ends_with_exactly_24(sweep: Sweep) -> None:
    command = [*SEARCH, RATE, "model.width=range(4,33,4)", "optimizer=adamw,sgd", "test=false", "n_jobs=2"]
    command += ["model._target_=trouble.Trouble", "optimizer.weight_decay=0"]
    process = sweep.start(*command, "hydra.sweeper.n_trials=24", STEP_SECONDS="0.05")
    sweep.until(process, lambda counts: counts["finished"] == 11 and counts["running"])
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    finished = {run.info.run_id: run.info.end_time for run in sweep.lab.runs() if run.info.status == "FINISHED"}
    code, out, err = sweep.run(*command, "hydra.sweeper.n_trials=24")
    assert code == 0, err
    (ledger,) = sweep.ledgers()
    assert [trial.state.name for trial in trials(ledger)] == ["COMPLETE"] * 24
    assert sweep.statuses() == {"FINISHED": 24} and sweep.counts() == {"finished": 24}
    runs = {run.info.run_id: run for run in sweep.lab.runs()}
    assert all(runs[run].info.end_time == end for run, end in finished.items())
    for trial, job in zip(trials(ledger), ledger.jobs, strict=True):  # each trial is that of its run
        params, (value,) = runs[job.state.run].data.params, trial.values
        assert float(params["optimizer.lr"]) == trial.params["optimizer.lr"]
        assert int(params["model.width"]) == trial.params["model.width"]
        assert params["optimizer._target_"].endswith(".SGD") == (trial.params["optimizer"] == "sgd")
        assert runs[job.state.run].data.metrics["val/accuracy_best"] == value == job.state.objective
    best = max(trial.values[0] for trial in trials(ledger))
    assert f"trials: 24 COMPLETE\nbest, trial {[t.values[0] for t in trials(ledger)].index(best)}: val/accuracy" in out


def test_a_bad_trial_is_pruned_and_the_study_is_gone_on_with_by_its_name(sweep: Sweep) -> None:
    command = [*SEARCH, "optimizer.lr=choice(1e-9,0.03)", "trainer.max_epochs=8", "n_jobs=1", "scheduler=none"]
    command += ["hydra.sweeper.sampler=random", "hydra.sweeper.n_trials=6", "hydra.sweeper.pruner=median"]
    command += ["hydra.sweeper.startup_trials=2", "hydra.sweeper.warmup=1", "hydra.sweeper.objectives={val/loss:min}"]
    process = sweep.start(*command, "hydra.sweeper.seed=4")
    sweep.until(process, lambda counts: counts["finished"] == 1)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    code, out, err = sweep.run("status", entry="sweep")
    assert code == 0 and "to come" in out and "trials: 1 COMPLETE" in out, err
    code, out, err = sweep.run("resume", "last", entry="sweep")
    assert code == 0, err
    (ledger,) = sweep.ledgers()
    found = trials(ledger)
    pruned = [trial for trial in found if trial.state.name == "PRUNED"]
    assert len(found) == 6 and 0 < len(pruned) < 4 and {t.params["optimizer.lr"] for t in pruned} == {"1e-09"}
    runs = {run.info.run_id: run for run in sweep.lab.runs()}
    assert len(runs) == 6 and sweep.statuses() == {"FINISHED": 6}
    for trial, job in zip(found, ledger.jobs, strict=True):
        run = runs[job.state.run]
        epochs = [value for _, value in sweep.lab.points(job.state.run)["val/loss"]]
        assert list(trial.intermediate_values.values()) == epochs
        if trial.state.name == "PRUNED":
            assert len(epochs) == 2 and job.state.status == "pruned"  # the first that may be
            assert run.data.tags["labbook.pruned"] == "epoch 2" and "test/accuracy" not in run.data.metrics
        else:
            assert len(epochs) == 8 and "test/accuracy" in run.data.metrics and "labbook.pruned" not in run.data.tags
    code, out, err = sweep.run(*command, "hydra.sweeper.seed=4")
    assert code == 0 and "6 finished, 0 to run" in out and len(sweep.lab.runs()) == 6


def test_a_trial_of_several_runs_has_their_mean_of_each_objective(sweep: Sweep) -> None:
    command = [*SEARCH, "model.width=8,64", "test=false", "repeats=2", "seed=3", "hydra.sweeper.n_trials=2"]
    command += ["hydra.sweeper.objectives={val/loss:min,cost/parameters:min}", "hydra.sweeper.seed=1"]
    code, out, err = sweep.run(*command, "hydra.sweeper.storage=sqlite:///study.db", "hydra.sweeper.study=mine")
    assert code == 0, err
    (ledger,) = sweep.ledgers()
    assert [(job.trial, job.overrides[-1]) for job in ledger.jobs] == [(p, f"seed={s}") for p in (0, 1) for s in (3, 4)]
    runs = {run.info.run_id: run.data.metrics for run in sweep.lab.runs()}
    study = optuna.load_study(study_name="mine", storage=f"sqlite:///{sweep.lab.folder}/study.db")
    for trial in study.trials:
        both = [runs[job.state.run] for job in ledger.jobs if job.trial == trial.number]
        assert trial.values == [
            pytest.approx(sum(metrics[name] for metrics in both) / 2) for name in ("val/loss_best", "cost/parameters")
        ]
    assert "Pareto front" in out
    # the same name for what is not the same study
    before = sweep.lab.runs()
    command[2:2] = ["hydra.sweeper.storage=sqlite:///study.db", "hydra.sweeper.study=mine"]
    for more, message in (("trainer.max_epochs=2", "has another search space"), ("force=true", "is that of sweep")):
        code, out, err = sweep.run(*command, more)
        assert code == 2 and message in err and len(err.splitlines()) == 1 and len(sweep.lab.runs()) == len(before), err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "nothing varies"),
        (["optimizer.lr=interval(1,0)"], "goes from a lower to a higher number"),
        (["model.width=8,many"], "model.width: expects an integer, got 'many'"),
        (["model.dept=range(1,4)"], "model.dept: FNN has no such option (did you mean depth?)"),
        ([RATE, "hydra.sweeper.n_trials=0"], "n_trials=0: a whole number from 1 on"),
        ([RATE, "hydra.sweeper.sampler=tpee"], "sampler=tpee is not known (did you mean tpe?)"),
        ([RATE, "hydra.sweeper.pruner=mediann"], "pruner=mediann is not known (did you mean median?)"),
        (["optimizer=adamw,sgd", "hydra.sweeper.sampler=cmaes"], "sampler=cmaes needs two keys or more with numbers"),
        ([RATE, "hydra.sweeper.objectives={val/acuracy:max}"], "no val/acuracy (did you mean val/accuracy?)"),
        ([RATE, "hydra.sweeper.objectives={val/loss:mim}"], "val/loss is mim (did you mean min?)"),
        ([RATE, "hydra.sweeper.pruner=median", "repeats=2"], "pruning needs one run per trial, this trial has 2"),
        (
            [RATE, "hydra.sweeper.pruner=hyperband", "hydra.sweeper.objectives={cost/seconds:min}"],
            "pruner=hyperband needs a metric of each validation, cost/seconds is known at the end",
        ),
        ([RATE, "hydra.sweeper.pruner=median", "trainer.limit_val_batches=0"], "these runs have no validation"),
        ([RATE, "hydra.sweeper.storage=sqlite:///nowhere/study.db"], "unable to open database file"),
        ([RATE, "hydra/sweeper=grid"], "a grid has no intervals, hydra/sweeper=search draws from them"),
        ([RATE, "data=sst2", "data.root=nowhere"], "data"),
    ],
)
def test_a_search_that_cannot_be_is_refused_in_one_line_before_anything_runs(lab: Lab, arguments, message) -> None:
    result = lab.train(*SEARCH, *arguments)
    assert result.code == 2 and message in result.err and len(result.err.splitlines()) == 1, result.err
    assert result.out == "" and not list(lab.folder.glob("mlruns/sweeps/*/sweep.json"))


def test_a_search_without_the_flag_is_refused(lab: Lab) -> None:
    for arguments, message in (
        (["hydra/sweeper=search"], "hydra/sweeper=search: a search is a sweep, add -m"),
        (["hydra/sweeper=search", RATE], "several values are a sweep, add -m"),
        (["experiment=study/digits_search"], "hydra.sweeper.params: this experiment is a sweep, run it with -m"),
    ):
        result = lab.train(*arguments)
        assert result.code == 2 and message in result.err and len(result.err.splitlines()) == 1, result.err


def test_pruning_ends_training_after_a_validation_and_a_resume_adds_nothing(tmp_path: Path) -> None:
    notes: list[int] = []

    def epochs(gives_up: Callable[[int, float], bool], pruned: int = 0, resume: Path | None = None) -> int:
        parts = assemble(compose(["model=fnn", "data=iris", "trainer.max_epochs=4", "threads=1"]), Signals())
        parts.checkpoint.directory = tmp_path
        pruning = Pruning("val/loss", gives_up, lambda pruned: notes.append(pruned), pruned)
        parts.trainer.callbacks.insert(0, pruning)
        parts.trainer.fit(parts.model, datamodule=parts.data, ckpt_path=resume, weights_only=True)
        return len(parts.model.history["val/loss"])

    assert epochs(lambda step, value: step == 2 and math.isfinite(value)) == 2 and notes == [2]
    # killed before its end was written down: it is brought to its end, and trains no more
    assert epochs(lambda step, value: False, pruned=2, resume=tmp_path / "last.ckpt") == 2
    # what has come to its last epoch anyway is not pruned
    assert epochs(lambda step, value: step == 4) == 4 and notes == [2]


# the space -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a=interval(1,8)", Dimension("a", low=1.0, high=8.0)),
        ("a=tag(log,interval(1e-4,1e-1))", Dimension("a", low=1e-4, high=0.1, log=True)),
        ("a=int(interval(1,8))", Dimension("a", low=1, high=8, step=1)),
        ("a=tag(int,log,interval(1,8))", Dimension("a", low=1, high=8, step=1, log=True)),
        ("a=range(16,129,16)", Dimension("a", low=16, high=128, step=16)),
        ("a=range(3,0,-1)", Dimension("a", low=1, high=3, step=1)),
        ("a=range(0.5,2,0.5)", Dimension("a", low=0.5, high=1.5, step=0.5)),
        ("+a.b=choice(x,'y z',1)", Dimension("+a.b", ("x", r"y\ z", "1"))),
        ("a=1,1,[2,3]", Dimension("a", ("1", "[2,3]"))),
        ("a=choice(x)", Dimension("a", ("x",))),
        ("a=interval(-inf,1)", "from a lower to a higher"),
        ("a=tag(log,interval(0,1))", "starts above 0"),
        ("a=tag(log,range(1,9,2))", "no steps"),
        ("a=tag(lag,interval(0,1))", "no tag lag (did you mean log?)"),
        ("a=tag(int,interval(0.5,2))", "whole ends"),
        ("a=tag(log,choice(1,2))", "not for choices"),
        ("a=range(1,0)", "this range is empty"),
    ],
)
def test_hydra_s_grammar_spans_the_space(text: str, expected: Dimension | str) -> None:
    override = OverridesParser.create().parse_override(text)
    if isinstance(expected, Dimension):
        found = read(override, group=False)
        assert found == expected and found.integer == isinstance(expected.low, int)
    else:
        with pytest.raises(UserError, match=re.escape(expected)):
            read(override, group=False)


# the study, without processes ----------------------------------------------------------------------------------------

TEMPLATE = """
x: 0
y: 0
kind: {}
hydra:
  overrides: {{task: []}}
  runtime: {{choices: {{}}, cwd: .}}
  run: {{dir: .}}
  job: {{name: train, config_name: train}}
"""
PLANE = (Dimension("x", low=-4.0, high=4.0), Dimension("y", low=-8, high=8, step=1))
SETTINGS = {"sampler": "tpe", "seed": 0, "startup_trials": 10, "objectives": {"loss": "min"}, "pruner": "none"}
SETTINGS |= {"warmup": 0, "storage": None, "study": "s", "key": "k", "n_trials": 40}


def begun(place: Path, dimensions=PLANE, templates=("only",), runs=((),), **settings) -> Ledger:
    space = Space(tuple(dimensions), tuple(TEMPLATE.format(name) for name in templates), runs)
    return Ledger.create(place, "k", [], ["python"], 1, search=SETTINGS | settings | {"space": asdict(space)})


def values(job: Job) -> dict[str, float]:
    return {key: float(value) for key, value in (text.split("=") for text in job.overrides) if key in "xy"}


def bowl(x: float, y: float) -> dict[str, float]:
    return {"loss": (x - 1) ** 2 + (y - 3) ** 2}


def drive(study: Study, metrics: Callable[..., dict[str, float]] = bowl, jobs: int | None = None) -> Study:
    """Runs jobs one by one as an executor would, so many at most."""
    study.begin()
    for job in islice(study, jobs):
        found = metrics(**values(job))
        job.update(status="finished", metrics=found, objective=found.get("loss"))
        study.record(job)
    return study


@pytest.mark.parametrize(("sampler", "count"), [("tpe", 40), ("cmaes", 40), ("gp", 20), ("nsga2", 40)])
def test_samplers_learn_in_the_direction_of_their_objective(tmp_path: Path, sampler: str, count: int) -> None:
    def mound(**at: float) -> dict[str, float]:
        return {"loss": -bowl(**at)["loss"]}

    losses = {}
    for mode, metrics in (("min", bowl), ("max", mound)):
        ledger = begun(tmp_path / mode, sampler=sampler, objectives={"loss": mode}, n_trials=count)
        losses[mode] = [abs(trial.values[0]) for trial in drive(Study(ledger), metrics).study.trials]
    assert len(losses["min"]) == count and losses["max"] == pytest.approx(losses["min"])
    first, last = (sorted(part)[5] for part in (losses["min"][:10], losses["min"][-10:]))  # the first are random
    assert last < 0.75 * first


@pytest.mark.parametrize("sampler", ["random", "tpe", "cmaes", "nsga2"])
def test_a_study_in_pieces_is_the_same_study(tmp_path: Path, sampler: str) -> None:
    dimensions = (*PLANE, Dimension("kind", ("a", "b"), group=True))
    whole, pieces = (begun(tmp_path / n, dimensions, ("a", "b"), sampler=sampler) for n in ("whole", "pieces"))
    drive(Study(whole))
    for jobs in (1, 11, 0, 7, 4):
        drive(Study(Ledger(pieces.folder)), jobs=jobs)
        # killed after a trial has its number, and before it has values and a job
        Study(Ledger(pieces.folder)).study.ask()
    drive(Study(Ledger(pieces.folder)))
    one, other = (trials(ledger) for ledger in (whole, pieces))
    assert [t.params for t in one] == [t.params for t in other] and [t.values for t in one] == [t.values for t in other]
    assert len(one) == 40 and {t.state.name for t in other} == {"COMPLETE"}
    other_seed = begun(tmp_path / "seed", dimensions, ("a", "b"), sampler=sampler, seed=1)
    assert trials(drive(Study(other_seed)).ledger)[0].params != one[0].params
    for job, trial in zip(Ledger(pieces.folder).jobs, other, strict=True):
        assert values(job) == {key: trial.params[key] for key in ("x", "y")}
        assert f"kind: {trial.params['kind']}\n" in job.config.read_text()


def test_the_last_kill_before_a_trial_is_told_is_made_good(tmp_path: Path) -> None:
    ledger = begun(tmp_path, n_trials=3, runs=(("seed=1",), ("seed=2",)))
    study = Study(ledger)
    study.begin()
    for job in study:
        job.update(status="finished", metrics={"loss": 2.0 if "seed=1" in job.overrides else 4.0})
    assert {t.state.name for t in trials(ledger)} == {"RUNNING"}
    again = pending(Ledger(ledger.folder))
    again.begin()
    assert list(again) == [] and [t.values for t in trials(ledger)] == [[3.0]] * 3 and again.total == 6


def test_a_study_that_was_deleted_is_said_to_be(tmp_path: Path) -> None:
    ledger = begun(tmp_path, n_trials=3)
    drive(Study(ledger))
    (ledger.folder / "study.log").unlink()
    with pytest.raises(UserError, match="has 3 trials, its study s 0: what is missing was deleted; force=true"):
        Study(Ledger(ledger.folder)).begin()


def test_more_trials_go_on_with_a_study_and_fewer_end_it(tmp_path: Path) -> None:
    ledger, whole = begun(tmp_path / "grown", n_trials=24), begun(tmp_path / "whole", n_trials=40)
    drive(Study(ledger))
    grown = drive(Study(Ledger(ledger.folder), 40))
    assert grown.total == 40 and Ledger(ledger.folder).total == 40
    assert [t.params for t in trials(ledger)] == [t.params for t in trials(drive(Study(whole)).ledger)]
    fewer = drive(Study(Ledger(ledger.folder), 3))
    assert fewer.total == 40 and len(trials(ledger)) == 40


def test_how_trials_end(tmp_path: Path) -> None:
    ledger = begun(tmp_path, n_trials=5)
    study = Study(ledger)
    study.begin()
    endings = [
        {"status": "finished", "metrics": {"loss": 1.0}},
        {"status": "failed", "error": "the loss is NaN"},
        {"status": "finished", "metrics": {"loss": math.nan}},
        {"status": "killed"},
        {"status": "pruned", "pruned": 2, "metrics": {"loss": 9.0}},
    ]
    for job, ending in zip(study, endings, strict=True):
        job.update(**ending)
        study.record(job)
    assert [t.state.name for t in trials(ledger)] == ["COMPLETE", "FAIL", "FAIL", "RUNNING", "PRUNED"]
    later = Study(Ledger(ledger.folder))
    later.begin()
    assert [job.number for job in later] == [3]  # what failed is not tried again, what was killed is gone on with
    console = Console(record=True, width=100)
    study.conclude(console)
    assert "trials: 1 COMPLETE, 2 FAIL, 1 PRUNED, 1 RUNNING\nbest, trial 0: loss 1: x=" in console.export_text()


def test_of_two_objectives_the_front_is_shown(tmp_path: Path) -> None:
    objectives = {"near": "min", "high": "max"}
    ledger = begun(tmp_path, sampler="nsga2", objectives=objectives, n_trials=30)

    def metrics(x: float, y: float) -> dict[str, float]:
        return {"near": x * x, "high": x - abs(y)}

    study = drive(Study(ledger), metrics)
    points = [tuple(t.values) for t in trials(ledger)]
    front = [p for p in points if not any(q != p and q[0] <= p[0] and q[1] >= p[1] for q in points)]
    assert sorted(tuple(t.values) for t in study.study.best_trials) == sorted(front) and 1 < len(front) < 30
    console = Console(record=True, width=100)
    study.conclude(console)
    shown = console.export_text()
    assert "near (min)" in shown and shown.count("x=") == len(front)


def test_a_storage_of_another_study_is_refused(tmp_path: Path) -> None:
    settings = SETTINGS | {"storage": f"sqlite:///{tmp_path}/study.db"}
    check_free(settings)
    open_study(settings, tmp_path / "20260101-000000-aaaa")
    with pytest.raises(
        UserError, match="study s in sqlite:.*is that of sweep 20260101-000000-aaaa: begin one of another"
    ):
        check_free(settings)
    with pytest.raises(UserError, match="has another search space or other settings"):
        check_free(settings | {"key": "other"})
    check_free(settings | {"study": "mine"})
