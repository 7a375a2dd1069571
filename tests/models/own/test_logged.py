"""What a user's own LightningModule logs: in the table of results, monitored and compared, also after a resume."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from src.config import compose
from src.errors import RunFailed, UserError
from src.experiment.assemble import Parts, assemble
from src.runtime import trust
from src.runtime.signals import Signals
from tests.conftest import ROOT, Lab

SHORT = ("data=iris", "trainer=cpu", "trainer.max_epochs=4", "tracking.system_metrics=false", "threads=1")
TALKER = """
import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from torch import nn

class Inner(pl.LightningModule):
    def __init__(self, size, classes):
        super().__init__()
        self.layer = nn.Linear(size, classes)

    def forward(self, x):
        if self.training:
            self.log("inner", x.mean(), on_step=False, on_epoch=True)
        return self.layer(x)


class Talker(pl.LightningModule):
    def __init__(self, in_features: int, num_classes: int, lr: float = 0.05, files: bool = False):
        super().__init__()
        self.net, self.lr, self.files = Inner(in_features, num_classes), lr, files

    def forward(self, x):
        return self.net(x)

    def training_step(self, batch, batch_idx):
        x, y = batch
        loss = F.cross_entropy(self(x), y)
        self.log("train_ce", loss, True, on_step=True, on_epoch=True)
        self.log_dict({"train/a": loss, "b": 2 * loss}, on_step=False, on_epoch=True)
        return loss

    def validation_step(self, batch, batch_idx):
        x, y = batch
        logits = self(x)
        self.log("margin", (logits.max(1).values - logits.mean(1)).mean(), sync_dist=True)
        self.log("val_acc", (logits.argmax(1) == y).float().mean())

    def on_validation_epoch_end(self):
        self.log("val/at_end", float(self.current_epoch))
        if self.files:
            client, run = self.logger.experiment, self.logger.run_id
            client.log_text(run, "hello", f"texts/{self.current_epoch}.txt")
            client.log_metric(run, "client_metric", 0.5, step=self.current_epoch)

    def on_train_epoch_end(self):
        self.log("train/at_end", float(self.current_epoch))

    def configure_optimizers(self):
        optimizer = torch.optim.SGD(self.parameters(), lr=self.lr, momentum=0.9)
        return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, 2)]
"""


@pytest.fixture(autouse=True)
def talker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(trust.VARIABLE, "")
    (tmp_path / "talking.py").write_text(TALKER)
    monkeypatch.syspath_prepend(tmp_path)


def own(*overrides: str) -> Parts:
    return assemble(compose(["model._target_=talking.Talker", *SHORT, *overrides]), Signals())


def fitted(folder: Path, *overrides: str) -> Parts:
    parts = own(*overrides)
    parts.checkpoint.directory = parts.texts.folder = parts.pictures.folder = folder
    parts.trainer.fit(parts.model, datamodule=parts.data)
    return parts


def test_names_get_the_stage_in_which_they_are_logged(tmp_path: Path) -> None:
    model = fitted(tmp_path).model
    logged = {"train/ce", "train/a", "train/b", "train/inner", "train/at_end", "val/margin", "val/acc", "val/at_end"}
    assert logged <= model.history.keys()
    assert all([epoch for epoch, _ in model.history[name]] == [1, 2, 3, 4] for name in logged)
    for name in ("train/at_end", "val/at_end"):  # the value of that very epoch
        assert [value for _, value in model.history[name]] == [0, 1, 2, 3]
    assert model.history["val/acc"] == model.history["val/accuracy"]
    ce, both = model.history["train/ce"][-1][1], model.history["train/b"][-1][1]
    assert both == pytest.approx(2 * ce, rel=1e-5)
    assert {"margin", "val_acc", "train_ce"} <= model.trainer.callback_metrics.keys()  # for callbacks of its own


def test_the_monitored_metric_picks_the_epoch_and_stops_early(tmp_path: Path) -> None:
    worse = fitted(tmp_path, "task.monitor=margin", "metric_modes.margin=min", "early_stopping.patience=1")
    assert worse.trainer.current_epoch == 2 and worse.checkpoint.best_epoch == 1  # it only grows
    better = fitted(tmp_path, "task.monitor=val/margin", "metric_modes.val_margin=max", "early_stopping.patience=1")
    assert better.checkpoint.best_epoch == 4 and better.model.best("val/margin")[0] == 4


def test_nobody_guesses_a_direction() -> None:
    with pytest.raises(UserError, match=r"task.monitor=margin is no metric of .*: metric_modes.margin=max or min$"):
        own("task.monitor=margin")
    assert own("task.monitor=val_acc").model.monitor_mode == "max"  # by its ending
    assert own("task.monitor=acc", "metric_modes.acc=min").model.monitor_mode == "min"


def test_what_is_never_logged_ends_the_run_after_one_epoch(tmp_path: Path) -> None:
    with pytest.raises(
        RunFailed, match=r"validation gave no val/far_acc; it gave val/acc, val/accuracy, .*val/margin$"
    ):
        fitted(tmp_path, "task.monitor=far_acc", "early_stopping.patience=1")


@pytest.mark.parametrize("kill", [("validation", 3, signal.SIGKILL), ("step", 13, signal.SIGKILL)])
def test_a_killed_run_goes_on_to_the_same_end(lab: Lab, kill: tuple[str, int, int]) -> None:
    """Values, learning rates of its own schedule by the epoch, and files that it logs through MLflow's client.

    Killed in the middle of the third epoch, and after its first step, when the checkpoint is that of the second's end.
    """
    (lab.folder / "talking.py").write_text(TALKER)
    env = {"PYTHONPATH": f"{ROOT}{os.pathsep}{lab.folder}", "LABBOOK_TRUST": "talking"}
    given = ["model._target_=talking.Talker", *SHORT, "task.monitor=margin", "metric_modes.margin=max"]
    given += ["checkpoint.every_seconds=0", "trainer.log_every_n_steps=1", "model.files=true"]
    killed = lab.train(*given, env=env, kill=kill)
    assert killed.code == -signal.SIGKILL
    (run,) = lab.runs()
    assert (lab.artifacts(run.info.run_id) / "texts" / "1.txt").read_text() == "hello"
    resumed = lab.train(f"resume={run.info.run_id}", env=env)
    assert resumed.code == 0, resumed.err
    whole = lab.train(*given, env=env)
    assert whole.code == 0, whole.err
    last, first = lab.runs()
    ours, theirs = (lab.points(run.info.run_id, skip=("cost/", "client")) for run in (first, last))
    # Lightning's own means over an epoch begin again where a run goes on in its middle
    means = ("train/a", "train/b", "train/ce_epoch", "train/inner")
    assert all(len(ours.pop(name)) == len(theirs.pop(name)) == 4 for name in means)
    assert ours == theirs
    assert {"val/margin", "val/margin_best", "train/ce_step"} <= ours.keys()
    for run in (first, last):
        assert {step for step, _ in lab.points(run.info.run_id)["client_metric"]} == {0, 1, 2, 3}
        assert [path.name for path in sorted((lab.artifacts(run.info.run_id) / "texts").iterdir())] == [
            *("0.txt", "1.txt", "2.txt", "3.txt")
        ]
    compared = lab.run("compare", "metric=val/margin", env=env)
    assert compared.code == 0 and "val/margin" in compared.out, compared.err
