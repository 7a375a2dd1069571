"""The whole command in real processes, used as a careless user would: every ending is told truly."""

from __future__ import annotations

import shutil
import signal

import pytest

from tests.conftest import Lab

QUICK = ["model=fnn", "trainer.max_epochs=2", "tracking.system_metrics=false"]


@pytest.mark.parametrize(
    ("place", "signum"),
    [
        ("start", signal.SIGTERM),
        pytest.param("start", signal.SIGINT, marks=pytest.mark.slow),
        ("step", signal.SIGINT),
        pytest.param("validation", signal.SIGTERM, marks=pytest.mark.slow),
        ("test", signal.SIGINT),
        ("report", signal.SIGTERM),
    ],
)
def test_a_signal_in_any_phase_is_killed(lab: Lab, place: str, signum: int) -> None:
    result = lab.train(*QUICK, kill=(place, 1, signum))
    assert result.code == 128 + signum, result.err
    (run,) = lab.runs()
    assert run.info.status == "KILLED"
    assert f"resume={run.info.run_id}" in result.err and "Traceback" not in result.err
    result = lab.train(f"resume={run.info.run_id}")
    assert result.code == 0, result.err
    (run,) = lab.runs()
    assert run.info.status == "FINISHED"
    assert "test/accuracy" in run.data.metrics


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["optimizer.lr=-1"], "optimizer: Invalid learning rate: -1"),
        (["scheduler=plateau", "scheduler.factor=2"], "scheduler: Factor should be < 1.0."),
        (["scheduler.warmup=2"], "scheduler.warmup=2 must be between 0 and 1"),
        (["trainer.accumulate_grad_batches=0"], "trainer.accumulate_grad_batches=0 must be at least 1"),
        (["trainer.val_check_interval=500"], "trainer.val_check_interval=500: "),
        (["data.drop_last=true", "data.batch_size=5000"], "drop_last leaves no batch: 1079 rows, 5000 a step"),
        (["early_stopping.patience=-1"], "early_stopping.patience=-1: epochs from 0, or null for never"),
        (["compile=fast"], "compile=fast: Unrecognized mode=fast"),
    ],
)
def test_a_value_that_cannot_work_is_refused_before_there_is_a_run(lab: Lab, overrides, expected) -> None:
    result = lab.train(*QUICK, *overrides)
    assert result.code == 2, result.err
    assert result.err.startswith(f"error: {expected}") and len(result.err.splitlines()) == 1
    assert not (lab.folder / "mlruns").exists()


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> tuple[Lab, str]:
    """(lab, run id) of a finished run of two epochs whose choices are not the usual ones."""
    lab = Lab(tmp_path_factory.mktemp("trained"))
    options = ["optimizer=sgd", "scheduler=plateau", "trainer.log_every_n_steps=1", "early_stopping.patience=0"]
    result = lab.train(*QUICK, *options, "early_stopping.min_delta=10")
    assert result.code == 0, result.err
    (run,) = lab.runs()
    return lab, run.info.run_id


def test_resumed_values_are_those_of_the_saved_choices_and_take_effect(trained) -> None:
    lab, run_id = trained
    before = lab.points(run_id)["lr"]
    result = lab.train(
        "resume=last", "optimizer.lr=0.001", "scheduler.patience=9", "early_stopping.patience=9", "trainer.max_epochs=4"
    )
    assert result.code == 0, result.err
    after = lab.points(run_id)["lr"]
    assert len(after) == 2 * len(before)
    assert {value for _, value in before} == {0.05}
    assert {value for _, value in after[len(before) :]} == {0.001}


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["trainer.max_epochs=1"], "trainer.max_epochs=1: run "),
        (["model.width=64"], "the changed options make another model than that of "),
        (["model.channels=[4]"], "model.channels: FNN has no such option"),
        (["show_predictions=-1"], "show_predictions=-1 must be at least 0"),
    ],
)
def test_a_resume_that_cannot_work_leaves_the_run_as_it_was(trained, overrides, expected) -> None:
    lab, run_id = trained
    tags = lab.client.get_run(run_id).data.tags
    result = lab.train(f"resume={run_id}", *overrides)
    assert result.code == 2, result.err
    assert result.err.startswith(f"error: {expected}") and len(result.err.splitlines()) == 1
    run = lab.client.get_run(run_id)
    assert run.info.status == "FINISHED" and run.data.tags == tags


@pytest.mark.parametrize("damage", [lambda whole: whole[: len(whole) // 2], lambda whole: b"", lambda whole: b"x" * 99])
def test_a_damaged_checkpoint_is_named_before_the_run_is_touched(trained, damage) -> None:
    lab, run_id = trained
    path = lab.artifacts(run_id) / "checkpoints" / "last.ckpt"
    whole = path.read_bytes()
    try:
        path.write_bytes(damage(whole))
        result = lab.train("resume=last", "trainer.max_epochs=9")
    finally:
        path.write_bytes(whole)
    assert result.code == 2, result.err
    assert f"checkpoint {path} is damaged" in result.err and len(result.err.splitlines()) == 1
    assert lab.client.get_run(run_id).info.status == "FINISHED"


def test_a_resume_without_its_files_says_so_in_one_line(lab: Lab) -> None:
    assert lab.train(*QUICK).code == 0
    (run,) = lab.runs()
    shutil.rmtree(lab.artifacts(run.info.run_id).parent)
    result = lab.train("resume=last")
    assert result.code == 2
    assert result.err == f"error: run {run.info.run_id} has no artifact config.yaml\n"
