"""Optimizers and schedules of other packages: the learning rates are those of the same torch code by hand."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.optim import lr_scheduler

from src.config import compose
from src.errors import UserError
from src.experiment.assemble import Parts, assemble
from src.runtime.signals import Signals
from tests.conftest import ROOT, Lab

EPOCHS, STEPS = 6, 3  # of an epoch of iris in batches of 32
SHORT = (
    *("model=fnn", "data=iris", "data.batch_size=32", "trainer=cpu", f"trainer.max_epochs={EPOCHS}", "threads=1"),
    *("tracking.system_metrics=false", "trainer.log_every_n_steps=1"),
)
TORCH = "scheduler._target_=torch.optim.lr_scheduler."
OWN = """
import torch

def halved(step, factor=0.5):
    return factor ** step

class Fast(torch.optim.SGD):
    def __init__(self, params, lr: float, dampening: float = 0.0):
        super().__init__(params, lr=lr, dampening=dampening)
"""


@pytest.fixture(autouse=True)
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_rates.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)


def rates(folder: Path, *overrides: str) -> list[float]:
    """Learning rate after each batch of a run."""
    parts = assemble(compose([*SHORT, "optimizer=sgd", "optimizer.lr=0.1", *overrides]), Signals())
    parts.checkpoint.directory = parts.texts.folder = parts.pictures.folder = folder
    seen: list[tuple[str, float, int]] = []
    parts.recorder.log_points = seen.extend
    parts.trainer.fit(parts.model, datamodule=parts.data)
    return [value for name, value, _ in seen if name == "lr"]


def by_hand(make: Callable[[torch.optim.Optimizer], lr_scheduler.LRScheduler], *, each_step: bool) -> list[float]:
    """The same of a plain loop of torch, read after a step of the optimizer and of a schedule by the step."""
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.1, momentum=0.9)
    schedule, seen = make(optimizer), []
    for _ in range(EPOCHS):
        for _ in range(STEPS):
            optimizer.step()
            if each_step:
                schedule.step()
            seen.append(optimizer.param_groups[0]["lr"])
        if not each_step:
            schedule.step()
    return seen


CASES = {
    "warm restarts": (
        (f"{TORCH}CosineAnnealingWarmRestarts", "scheduler.T_0=2"),
        "CosineAnnealingWarmRestarts",
        {"T_0": 2},
    ),
    "steps": (
        (f"{TORCH}StepLR", "scheduler.step_size=2", "scheduler.gamma=0.5"),
        "StepLR",
        {"step_size": 2, "gamma": 0.5},
    ),
    "milestones": ((f"{TORCH}MultiStepLR", "scheduler.milestones=[1,4]"), "MultiStepLR", {"milestones": [1, 4]}),
    "by the step": (
        (f"{TORCH}CosineAnnealingLR", "scheduler.T_max=18", "scheduler.interval=step"),
        *("CosineAnnealingLR", {"T_max": 18}),
    ),
    "one cycle": ((f"{TORCH}OneCycleLR", "scheduler.max_lr=0.1"), "OneCycleLR", {"max_lr": 0.1, "total_steps": 18}),
    "a function": (
        (f"{TORCH}LambdaLR", "scheduler.lr_lambda={_target_: own_rates.halved, _partial_: true, factor: 0.7}"),
        *("LambdaLR", {"lr_lambda": lambda step: 0.7**step}),
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_torchs_schedules_give_the_rates_of_torch(case: str, tmp_path: Path) -> None:
    overrides, name, options = CASES[case]
    each_step = case in ("by the step", "one cycle")
    expected = by_hand(lambda optimizer: getattr(lr_scheduler, name)(optimizer, **options), each_step=each_step)
    assert rates(tmp_path, *overrides) == pytest.approx(expected, rel=1e-12)


def test_a_plateau_of_torchs_own_watches_the_monitored_metric_in_its_mode(tmp_path: Path) -> None:
    """Accuracy, of which more is better; no rate near zero improves it."""
    given = (f"{TORCH}ReduceLROnPlateau", "scheduler.patience=1", "scheduler.factor=0.5", "optimizer.lr=1e-6")
    assert rates(tmp_path, *given)[::STEPS] == [1e-6, 1e-6, 1e-6, 5e-7, 5e-7, 2.5e-7]


def optimizer_of(parts: Parts) -> torch.optim.Optimizer:
    return parts.model.optimizer(parts.model.parameter_groups())


def test_what_another_optimizer_does_not_take_is_not_passed(tmp_path: Path) -> None:
    parts = assemble(
        compose([*SHORT, "optimizer._target_=torch.optim.NAdam", "optimizer.momentum_decay=1e-3"]), Signals()
    )
    optimizer = optimizer_of(parts)
    assert isinstance(optimizer, torch.optim.NAdam)
    assert (optimizer.defaults["lr"], optimizer.defaults["momentum_decay"]) == (2e-3, 1e-3)
    fast = optimizer_of(assemble(compose([*SHORT, "optimizer._target_=own_rates.Fast"]), Signals()))
    assert type(fast).__name__ == "Fast" and fast.defaults["lr"] == 2e-3


def test_nor_where_a_recipe_names_it(tmp_path: Path) -> None:
    (tmp_path / "experiments").mkdir()
    (tmp_path / "experiments" / "fast.yaml").write_text("optimizer: {_target_: own_rates.Fast, lr: 0.5}\n")
    (tmp_path / "pyproject.toml").write_text("[tool.labbook]\n")
    command = [sys.executable, "-m", "src.train", "experiment=fast", "--cfg", "job", "--package", "optimizer"]
    env = os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{tmp_path}"}
    found = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True)
    assert found.returncode == 0 and "lr: 0.5" in found.stdout, found.stderr
    assert "betas" not in found.stdout and "fused" not in found.stdout


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        ([f"{TORCH}StepLR", "scheduler.interval=day"], "scheduler.interval"),
        ([f"{TORCH}StepLR"], "step_size"),
        (["scheduler.interval=epoch"], "scheduler.interval: cosine has no such option"),
        ([f"{TORCH}StpLR"], "did you mean StepLR?"),
        (["optimizer._target_=torch.optim.NAdam", "optimizer.fusd=true"], "NAdam has no such option"),
    ],
)
def test_what_does_not_go_is_one_line(overrides: list[str], said: str) -> None:
    with pytest.raises(UserError) as caught:
        assemble(compose([*SHORT, *overrides]), Signals())
    assert said in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("case", ["warm restarts", "milestones", "one cycle"])
def test_a_killed_run_goes_on_with_its_schedule(lab: Lab, case: str) -> None:
    given = [*SHORT, *CASES[case][0], "checkpoint.every_seconds=0"]
    assert lab.train(*given, kill=("validation", 4, signal.SIGKILL)).code == -signal.SIGKILL
    (run,) = lab.runs()
    resumed = lab.train(f"resume={run.info.run_id}")
    assert resumed.code == 0, resumed.err
    assert lab.train(*given).code == 0
    last, first = lab.runs()
    assert lab.points(first.info.run_id)["lr"] == lab.points(last.info.run_id)["lr"]
    assert lab.points(first.info.run_id) == lab.points(last.info.run_id)
