"""Same seed, same bits; and a run that was killed anywhere and resumed equals the one that was left alone."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time

import pytest
import torch

from tests import process as processes
from tests.conftest import ROOT, Lab
from tests.tiny import options

# dropout, batch norm, AdamW and cosine; mid-epoch and epoch-end checkpoints
SMALL = [
    "model=cnn", "data=digits", "data.batch_size=64", "optimizer=adamw", "scheduler=cosine",
    "model.dropout=0.2", "model.channels=[4,8]",
    "data.augment.crop=1", "trainer.max_epochs=3", "trainer.log_every_n_steps=1", "checkpoint.every_n_steps=4",
    "checkpoint.every_seconds=1000", "tracking.system_metrics=false",
]  # fmt: skip


def only_run(lab: Lab):
    (run,) = lab.runs()
    return run


def weights(lab: Lab, run_id: str, name: str) -> dict[str, torch.Tensor]:
    path = lab.artifacts(run_id) / "checkpoints" / name
    return torch.load(path, weights_only=True)["state_dict"]


def assert_same(lab: Lab, run_id: str, other: Lab, other_id: str) -> None:
    """Every metric point and every weight, bit for bit."""
    points, expected = lab.points(run_id), other.points(other_id)
    assert points.keys() == expected.keys()
    for key in expected:
        assert points[key] == expected[key], key
        steps = [step for step, _ in points[key]]
        assert len(steps) == len(set(steps)), f"{key} has a step twice"
    for name in ("last.ckpt", "best.ckpt"):
        got, want = weights(lab, run_id, name), weights(other, other_id, name)
        assert got.keys() == want.keys()
        for key in want:
            assert torch.equal(got[key], want[key]), f"{name} {key}"


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    """(lab, run id) of a run with given overrides that nothing disturbed; each made once."""
    made: dict[tuple[str, ...], tuple[Lab, str]] = {}

    def get(*overrides: str) -> tuple[Lab, str]:
        if overrides not in made:
            lab = Lab(tmp_path_factory.mktemp("uninterrupted"))
            result = lab.train(*overrides)
            assert result.code == 0, result.err
            made[overrides] = (lab, only_run(lab).info.run_id)
        return made[overrides]

    return get


def test_same_seed_same_bits(lab: Lab, uninterrupted) -> None:
    expected, expected_id = uninterrupted(*SMALL)
    assert lab.train(*SMALL).code == 0
    assert_same(lab, only_run(lab).info.run_id, expected, expected_id)


def test_another_seed_other_bits(lab: Lab, uninterrupted) -> None:
    expected, expected_id = uninterrupted(*SMALL)
    assert lab.train(*SMALL, "seed=2").code == 0
    points = lab.points(only_run(lab).info.run_id)["train/loss_step"]
    assert len(points) == 3 * 17 and not set(points) & set(expected.points(expected_id)["train/loss_step"])


def survive(lab: Lab, overrides: list[str], kills: list[tuple[str, int]]) -> str:
    """Starts a run, kills it at each place in turn and resumes it, and returns its id once it is done."""
    result = lab.train(*overrides, kill=kills[0])
    assert result.code == -signal.SIGKILL, result.err
    run_id = only_run(lab).info.run_id
    for kill in [*kills[1:], None]:
        result = lab.train(f"resume={run_id}", kill=kill)
        assert result.code == (0 if kill is None else -signal.SIGKILL), result.err
    assert only_run(lab).info.status == "FINISHED"
    return run_id


@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_killed_ten_times_and_resumed(lab: Lab, uninterrupted, workers: int) -> None:
    chance = random.Random(workers)
    places = ["step", "step_end"] * 3 + ["validation", "epoch", "rename", "save"]
    chance.shuffle(places)
    kills = [(place, chance.randint(5, 9) if place.startswith("step") else 1) for place in places]
    overrides = [*SMALL, f"data.num_workers={workers}"]
    # the workers must not matter either: both are held against the run without them
    expected, expected_id = uninterrupted(*SMALL)
    assert_same(lab, survive(lab, overrides, kills), expected, expected_id)


@pytest.mark.parametrize(
    "extra",
    [
        pytest.param(["scheduler=plateau", "scheduler.patience=0"], marks=pytest.mark.slow),
        ["weight_averaging.kind=ema", "optimizer=sgd"],
        pytest.param(["weight_averaging.kind=swa", "scheduler=one_cycle"], marks=pytest.mark.slow),
        pytest.param(["trainer.accumulate_grad_batches=3", "trainer.gradient_clip_val=1.0"], marks=pytest.mark.slow),
        pytest.param(["optimizer=muon", "trainer.max_epochs=-1", "trainer.max_steps=40"], marks=pytest.mark.slow),
        pytest.param(
            ["early_stopping.patience=1", "early_stopping.min_delta=10.0", "trainer.max_epochs=5"],
            marks=pytest.mark.slow,
        ),
        pytest.param(
            ["channels_last=true", "data.on_device=true", "data.augment.flip=alternating", "model.mirror=true"],
            marks=pytest.mark.slow,
        ),
    ],
    ids=["plateau", "ema", "swa", "accumulation", "muon_max_steps", "early_stopping", "channels_last"],
)
def test_killed_and_resumed_with(lab: Lab, uninterrupted, extra: list[str]) -> None:
    overrides = [*SMALL, *extra]
    expected, expected_id = uninterrupted(*overrides)
    kills = [("step", 7), ("epoch", 1), ("step_end", 12), ("validation", 1)]
    assert_same(lab, survive(lab, overrides, kills), expected, expected_id)


@pytest.mark.slow
def test_hidden_tokens_and_batches_of_like_length_are_the_same_after_a_kill(lab: Lab, uninterrupted) -> None:
    overrides = [
        "model=bert", "task=masked_lm", "model.width=16", "model.num_layers=1", *options("text_csv"),
        "data.batch_size=8", "trainer.max_epochs=2", "trainer.log_every_n_steps=1", "checkpoint.every_n_steps=3",
        "checkpoint.every_seconds=1000", "tracking.system_metrics=false",
    ]  # fmt: skip
    expected, expected_id = uninterrupted(*overrides)
    assert_same(lab, survive(lab, overrides, [("step", 5), ("step_end", 8)]), expected, expected_id)


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_signal_saves_and_tells_the_truth(lab: Lab, uninterrupted, signum: int, code: int) -> None:
    """A real process group, as a terminal or a scheduler would signal it; one starts from nothing, one is forked."""
    endless = [*SMALL, "trainer.max_epochs=3", "checkpoint.every_n_steps=null"]
    expected, expected_id = uninterrupted(*SMALL)
    env = os.environ | lab.env
    if signum == signal.SIGTERM:
        slow = [sys.executable, "-c", SLOW_STEPS, *endless]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        process = subprocess.Popen(slow, cwd=ROOT, env=env, text=True, start_new_session=True, **pipes)
        readline = process.stdout.readline
    else:
        process = processes.program(SLOW_STEPS, *endless, env=env, cwd=ROOT)
        readline = process.readline
    while readline() != "STEP\n":
        assert process.poll() is None, process.communicate()
    time.sleep(0.5)
    os.killpg(process.pid, signum)
    _, err = process.communicate(timeout=60)
    assert process.returncode == code, err
    assert "Traceback" not in err
    run = only_run(lab)
    assert run.info.status == "KILLED"
    assert f"resume={run.info.run_id}" in err
    assert lab.train(f"resume={run.info.run_id}").code == 0
    assert only_run(lab).info.status == "FINISHED"
    assert_same(lab, run.info.run_id, expected, expected_id)


# steps slow enough to be hit by a signal, nothing else changed
SLOW_STEPS = """
import sys, time
from src.training.seeding import StepRandomness
original = StepRandomness.on_train_batch_start
def slow(*args):
    print("STEP", flush=True)
    time.sleep(0.1)
    return original(*args)
StepRandomness.on_train_batch_start = slow
sys.argv = ["labbook-train", *sys.argv[1:]]
from src.train import main
main()
"""


def test_diverged_run_fails_and_names_the_step(lab: Lab) -> None:
    result = lab.train(*SMALL, "optimizer=sgd", "optimizer.lr=1e30", "model.norm=none", "scheduler=none")
    assert result.code == 1
    assert "at step " in result.err and "Traceback" not in result.err
    run = only_run(lab)
    assert run.info.status == "FAILED"
    assert "the loss is nan at step" in run.data.tags["labbook.failure"] or "inf" in run.data.tags["labbook.failure"]


def test_resume_of_a_finished_run_trains_longer_on_demand(lab: Lab) -> None:
    assert lab.train(*SMALL, "scheduler=none", "trainer.max_epochs=1").code == 0
    run_id = only_run(lab).info.run_id
    steps = len(lab.points(run_id)["train/loss_step"])
    result = lab.train(f"resume={run_id}", "trainer.max_epochs=2")
    assert result.code == 0, result.err
    assert only_run(lab).info.run_id == run_id
    assert len(lab.points(run_id)["train/loss_step"]) == 2 * steps
