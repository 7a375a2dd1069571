"""Loggers and callbacks of a user's own in a run: what they are given, kept over a resume, and how they fail."""

from __future__ import annotations

import csv
import os
import signal

import pytest

from src.config import compose
from src.errors import UserError
from src.experiment.assemble import assemble
from src.runtime.signals import Signals
from tests.conftest import ROOT, Lab

SHORT = ("model=fnn", "data=iris", "trainer=cpu", "trainer.max_epochs=3", "tracking.system_metrics=false", "threads=1")
CSV = "loggers.csv._target_=pytorch_lightning.loggers.CSVLogger"
OWN = """
import pytorch_lightning as pl
from pytorch_lightning.loggers import CSVLogger

class Full(CSVLogger):
    def log_metrics(self, metrics, step=None):
        raise OSError("disk full")

class Counting(pl.Callback):
    def __init__(self, fails_at: int = 99):
        self.epochs, self.fails_at = 0, fails_at

    def on_train_epoch_end(self, trainer, model):
        self.epochs += 1
        print("epochs", self.epochs)
        if self.epochs == self.fails_at:
            self.fail()

    def fail(self):
        raise KeyError("fig")

    def state_dict(self):
        return {"epochs": self.epochs}

    def load_state_dict(self, state):
        self.epochs = state["epochs"]
"""


@pytest.fixture
def env(lab: Lab) -> dict[str, str]:
    (lab.folder / "beside.py").write_text(OWN)
    return {"PYTHONPATH": f"{ROOT}{os.pathsep}{lab.folder}", "LABBOOK_TRUST": "beside"}


def test_a_logger_beside_mlflow_is_given_the_same(lab: Lab, env: dict[str, str]) -> None:
    given = (CSV, f"loggers.csv.save_dir={lab.folder}", "loggers.csv.name=table", "trainer.log_every_n_steps=1")
    done = lab.train(*SHORT, *given, env=env)
    assert done.code == 0, done.err
    folder = lab.folder / "table" / "version_0"
    rows = list(csv.DictReader((folder / "metrics.csv").open()))
    (run,) = lab.runs()
    points = lab.points(run.info.run_id, skip=("system/",))
    assert points.keys() == rows[0].keys() - {"step"}
    for name in ("lr", "train/loss_step", "val/accuracy"):
        found = sorted((int(row["step"]), float(row[name])) for row in rows if row[name])
        assert found == points[name], name
    assert "optimizer" in (folder / "hparams.yaml").read_text()
    again = lab.run("rerun", "run=last", "here=true", env=env)
    assert again.code == 0, again.err
    assert (lab.folder / "table" / "version_1" / "metrics.csv").exists()


def test_a_logger_that_fails_says_so_once_and_the_run_goes_on(lab: Lab, env: dict[str, str]) -> None:
    given = ("loggers.full._target_=beside.Full", f"loggers.full.save_dir={lab.folder}")
    done = lab.train(*SHORT, *given, env=env)
    assert done.code == 0, done.err
    assert done.err.count("loggers.full: OSError: disk full; the run goes on without this logger") == 1
    (run,) = lab.runs()
    assert run.info.status == "FINISHED" and "test/accuracy" in run.data.metrics


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["loggers.csv=3"], "loggers.csv: expects a node with _target_, a logger of Lightning; got 3"),
        (["loggers.csv._target_=torch.nn.Identity"], "loggers.csv: torch.nn.Identity is no logger of Lightning"),
        ([CSV.replace("CSV", "CVS")], "did you mean CSVLogger?"),
        ([CSV, "loggers.csv.save_dri=x"], "CSVLogger has no such option"),
        ([CSV], "save_dir is needed by CSVLogger"),
    ],
)
def test_what_is_no_logger_is_one_line(overrides: list[str], said: str) -> None:
    with pytest.raises(UserError) as caught:
        assemble(compose([*SHORT, *overrides]), Signals())
    assert said in str(caught.value) and "\n" not in str(caught.value)


def test_the_state_of_a_callback_is_there_after_a_resume(lab: Lab, env: dict[str, str]) -> None:
    given = [*SHORT, "callbacks.mine._target_=beside.Counting", "checkpoint.every_seconds=0"]
    killed = lab.train(*given, env=env, kill=("validation", 3, signal.SIGKILL))
    assert killed.code == -signal.SIGKILL
    resumed = lab.train(f"resume={lab.runs()[0].info.run_id}", env=env)
    assert resumed.code == 0, resumed.err
    assert [line for line in resumed.out.splitlines() if line.startswith("epochs")] == ["epochs 3"]


def test_a_callback_that_fails_is_named_with_its_line(lab: Lab, env: dict[str, str]) -> None:
    given = [*SHORT, "callbacks.mine._target_=beside.Counting", "callbacks.mine.fails_at=2"]
    failed = lab.train(*given, env=env)
    line = OWN.splitlines().index('        raise KeyError("fig")') + 1
    place = f"callbacks.mine [{lab.folder}/beside.py:{line}]: KeyError: 'fig'"
    assert (failed.code, failed.err) == (1, f"error: {place} (debug=true shows the traceback)\n")
    (run,) = lab.runs()
    assert run.info.status == "FAILED" and run.data.tags["labbook.failure"] == place
    whole = lab.train(*given, "debug=true", env=env)
    assert whole.code == 1 and "in fail" in whole.err and "Traceback" in whole.err
