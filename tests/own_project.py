"""A project of a user's own as `labbook init` makes it, and commands in it: real processes that start anywhere."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.conftest import ROOT

QUICK = ("trainer.max_epochs=1", "threads=1", "tracking.system_metrics=false")

# a task of one's own, whose NAME is filled in, and its file in conf/task
TASK = """
import torch
import torch.nn.functional as F
import torchmetrics as tm

from src.metrics.modes import modes
from src.spec import Classes
from src.tasks import Task, register_task


def squares(outputs, target):
    return F.mse_loss(outputs.softmax(-1), F.one_hot(target, outputs.shape[1]).float())


@register_task("NAME")
class Squares(Task):
    losses = {"squares": squares}
    monitor = "accuracy"
    metric_modes = modes("loss", "accuracy")

    def __init__(self, spec, loss, *, power: float = 1.0):
        super().__init__(spec, loss)
        self.power = power

    @classmethod
    def offered_by(cls, spec):
        return isinstance(spec.target, Classes)

    @property
    def num_outputs(self):
        return self.spec.num_classes

    def loss(self, outputs, batch):
        return self.loss_function(outputs, batch["target"]) ** self.power

    def predict(self, outputs):
        return outputs.argmax(-1)

    def metrics(self):
        return tm.MetricCollection({"accuracy": tm.Accuracy("multiclass", num_classes=self.spec.num_classes)})

    def baseline(self, target, reference=None):
        return torch.zeros_like(target)
"""
TASK_YAML = (
    "# Squares.\n_target_: src.tasks.make_task\n_partial_: true\nname: NAME\nloss: null\nmonitor: null\npower: 1.0\n"
)


class Project:
    """A folder with the commands that run in it; its store is the project's own."""

    def __init__(self, folder: Path, **env: str) -> None:
        self.folder = folder
        left_out = ("MLFLOW_TRACKING_URI", "LABBOOK_PROJECT", "LABBOOK_TRUST")
        self.env = {name: value for name, value in os.environ.items() if name not in left_out}
        self.env |= {"PYTHONPATH": str(ROOT), "COLUMNS": "150"} | env

    def start(self, entry: str, *arguments: str, at: str | Path = ".", **options: Any) -> subprocess.Popen[str]:
        command = [sys.executable, "-P", "-m", f"src.{entry}", *arguments]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        return subprocess.Popen(command, cwd=self.folder / at, env=self.env, **(pipes | options))

    def run(self, entry: str, *arguments: str, at: str | Path = ".") -> subprocess.CompletedProcess[str]:
        process = self.start(entry, *arguments, at=at)
        out, err = process.communicate()
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    def write(self, path: str, text: str) -> None:
        file = self.folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    def git(self, *arguments: str) -> str:
        identity = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
        command = ["git", *identity, "-C", str(self.folder), *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    def runs(self, kind: str | None = None) -> list[Any]:
        """Runs of trainings, or those of whole sweeps (`sweep`), the latest first."""
        from mlflow import MlflowClient

        found = MlflowClient(f"sqlite:///{self.folder}/mlflow.db").search_runs(["1"], order_by=["start_time DESC"])
        return [run for run in found if run.data.tags.get("labbook.kind") == kind]


def new_project(place: Path, name: str = "mylab", **env: str) -> Project:
    """Make a project in a folder of that name."""
    made = Project(place).run("init", name)
    assert made.returncode == 0, made.stderr
    return Project(place / name, **env)
