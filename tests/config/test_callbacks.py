"""Callbacks of the user's own: a group, entries of a recipe, what cannot be one, and that they run and go on."""

from __future__ import annotations

import pytest
import torch

from src.config import compose
from src.config.recipes import CONF
from src.errors import UserError
from src.experiment.assemble import assemble
from src.runtime.signals import Signals
from tests.conftest import Lab
from tests.sweeping import Sweep

SMALL = ("model=fnn", "data=iris", "trainer=cpu", "trainer.max_epochs=2", "tracking.system_metrics=false")
OWN = """
import pytorch_lightning as pl

class Rates(pl.Callback):
    def __init__(self, *, word: str = "lr") -> None:
        self.word, self.epochs = word, 0

    def on_train_epoch_end(self, trainer, model):
        self.epochs += 1
        print(self.word, self.epochs, trainer.optimizers[0].param_groups[0]["lr"])

    def state_dict(self):
        return {"epochs": self.epochs}

    def load_state_dict(self, state):
        self.epochs = state["epochs"]
"""


def callbacks(*overrides: str) -> list[str]:
    """Names of the classes of a run's callbacks, in their order."""
    parts = assemble(compose([*SMALL, *overrides]), Signals())
    return [type(callback).__name__ for callback in parts.trainer.callbacks]


def test_an_own_callback_runs(lab: Lab) -> None:
    (lab.folder / "own.py").write_text(OWN)
    code, out, err = Sweep(lab).run(*SMALL, "+callbacks.mine._target_=own.Rates", "callbacks.mine.word=rate")
    assert code == 0, err
    rates = [line.split() for line in out.splitlines() if line.startswith("rate ")]
    assert [epoch for _, epoch, _ in rates] == ["1", "2"] and rates[0][2] != rates[1][2]
    (run,) = lab.runs()
    assert run.data.params["callbacks.mine._target_"] == "own.Rates"
    saved = torch.load(lab.artifacts(run.info.run_id) / "checkpoints" / "last.ckpt", weights_only=True)
    assert {"epochs": 2} in saved["callbacks"].values()


def test_callbacks_come_from_files_recipes_and_the_command_line() -> None:
    plain = callbacks()
    summary = callbacks("callbacks=model_summary")
    assert sorted({*summary} - {*plain}) == ["RichModelSummary"]
    timer = "+callbacks.timer={_target_: pytorch_lightning.callbacks.Timer, duration: '00:01:00:00'}"
    both = callbacks("callbacks=model_summary", timer)
    assert sorted({*both} - {*plain}) == ["RichModelSummary", "Timer"]
    listed = "+trainer.callbacks=[{_target_: pytorch_lightning.callbacks.Timer, duration: '00:01:00:00'}]"
    assert callbacks("callbacks=model_summary", listed).count("Timer") == 1
    assert both.index("Timer") < both.index("Checkpoint")  # which holds what the others have done
    assert callbacks("callbacks=model_summary", "callbacks.model_summary=null") == plain
    assert callbacks("early_stopping.patience=3", timer).count("EarlyStopping") == 1


def test_a_timer_ends_training_and_a_rerun_has_it_too(lab: Lab) -> None:
    done = lab.train(*SMALL, "+callbacks.timer={_target_: pytorch_lightning.callbacks.Timer, duration: {seconds: 0}}")
    assert done.code == 0, done.err
    (run,) = lab.runs()
    assert "val/loss" not in lab.points(run.info.run_id)
    again = lab.run("rerun", "run=last", "here=true")
    assert again.code == 0, again.err
    assert "val/loss" not in lab.points(lab.runs()[0].info.run_id)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("+callbacks.mine._target_=torch.nn.Identity", "callbacks.mine: torch.nn.Identity is no callback of Lightning"),
        (
            "+callbacks.mine={_target_: pytorch_lightning.callbacks.Timer, interval: year}",
            "callbacks.mine: pytorch_lightning.callbacks.Timer: ",
        ),
    ],
)
def test_what_is_no_callback_is_refused_before_training(given: str, said: str) -> None:
    with pytest.raises(UserError) as caught:
        callbacks(given)
    assert str(caught.value).startswith(said) and "\n" not in str(caught.value)


def test_each_file_of_the_group_is_a_callback_that_can_be_made() -> None:
    names = sorted(path.stem for path in (CONF / "callbacks").glob("*.yaml"))
    assert "none" in names and callbacks("callbacks=none") == callbacks()
    for name in names:
        assert len(callbacks(f"callbacks={name}")) == len(callbacks()) + (name != "none")
