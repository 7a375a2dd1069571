"""Labbook from Python with objects in memory: a module, its class, arrays, a dataset; trained, swept, loaded again."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from torch import nn

from src.api import list_runs, load_run, run_command, sweep_runs, train_run
from src.errors import RunFailed, UserError
from src.models.family import family
from src.runtime import trust
from tests.conftest import ROOT, Lab

SHORT = ("trainer.max_epochs=2", "threads=1", "tracking.system_metrics=false", "optimizer.lr=0.01")
X = np.random.default_rng(0).normal(size=(90, 4)).astype("float32")
Y = (X[:, 0] > 0).astype(int) + (X[:, 1] > 0)


class Net(nn.Module):
    def __init__(self, in_features: int, num_classes: int, hidden: int = 8) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(in_features, hidden), nn.ReLU(), nn.Linear(hidden, num_classes))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x)


class Lit(pl.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 3)

    def forward(self, x):
        return self.layer(x)

    def training_step(self, batch, batch_idx):
        self.log("train/own", 7.0, on_step=False, on_epoch=True)
        return nn.functional.cross_entropy(self(batch[0]), batch[1])

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def unannotated():
    return Lit()


@pytest.fixture
def store(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> Lab:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", lab.uri)
    monkeypatch.setenv(trust.VARIABLE, "")
    monkeypatch.chdir(lab.folder)
    family.cache_clear()
    return lab


def test_a_module_is_trained_as_a_copy_and_lists_are_data(store: Lab) -> None:
    net = nn.Sequential(nn.Linear(4, 3))
    before = net[0].weight.detach().clone()
    runs = [train_run(*SHORT, model=net, data=(X.tolist(), Y.tolist())) for _ in range(2)]
    assert torch.equal(net[0].weight, before) and not torch.equal(runs[0].model.net[0].weight, before)
    assert runs[0].metrics["test/loss"] == runs[1].metrics["test/loss"]
    assert len(runs[0].predict(X[:5])) == 5


def test_the_steps_of_a_lightning_module_train_it(store: Lab) -> None:
    assert train_run(*SHORT, model=Lit(), data=(X, Y)).metrics["train/own"] == 7
    with pytest.raises(UserError, match=r"^model: .*unannotated makes a LightningModule: say so in its annotation"):
        train_run(*SHORT, model=unannotated, data=(X, Y))


def test_a_sweep_runs_what_is_missing_and_other_data_are_another_sweep(store: Lab) -> None:
    asked = ("model.hidden=4,8", "test=false", *SHORT)
    first = sweep_runs(*asked, model=Net, data=(X, Y))
    assert len(first) == 2 and set(first["params.model.hidden"]) == {"4", "8"}
    assert list(sweep_runs(*asked, model=Net, data=(X, Y)).index) == list(first.index)
    assert not set(sweep_runs(*asked, model=Net, data=(X, 1 - (Y > 0))).index) & set(first.index)
    run_command("evaluate", f"run={first.index[0]}", "split=val", "resamples=0")
    with pytest.raises(RunFailed, match="of the sweep's 1 jobs did not finish"):
        sweep_runs("model.hidden=4", "optimizer.lr=1e30", "trainer.max_epochs=50", *SHORT[1:3], model=Net, data="iris")


def test_another_program_hands_the_object_over_again(store: Lab, tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        "from torch import nn\nfrom src.api import train_run\n"
        f"print(train_run(*{SHORT}, model=nn.Sequential(nn.Linear(4, 3)), data='iris').id)"
    )
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, program], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    run = done.stdout.split()[-1]
    with pytest.raises(UserError, match=r"Sequential_\w+ is an object of a Python program: load_run\(ID, model=...\)"):
        load_run(run)
    loaded = load_run(run, model=nn.Sequential(nn.Linear(4, 3)))
    assert loaded.metrics["test/loss"] == list_runs()["metrics.test/loss"].iloc[0]
    assert len(loaded.predict(X[:3])) == 3


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"model": 3}, "model=3: a module, a class or function that makes one, or the name of one is needed"),
        ({"model": Net, "data": "irish"}, "data=irish: there is no such data (did you mean iris?)"),
        ({"model": nn.Linear(4, 7), "data": "iris"}, "model: Linear_"),
    ],
)
def test_what_does_not_fit_is_one_line(store: Lab, options: dict, line: str) -> None:
    with pytest.raises(UserError) as caught:
        train_run(*SHORT, **options)
    assert str(caught.value).startswith(line) and "\n" not in str(caught.value)
