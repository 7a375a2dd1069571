"""What every model promises as a run: a last batch of one row, half precision, the same bits after an interruption."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch

from src.config import compose
from src.experiment.assemble import Parts, assemble
from src.runtime.signals import Signals
from src.tasks.generation import features
from tests.tiny import FAMILIES, MODELS, UNGRAPHED, dataset, options, sizes, small, usual_data


@pytest.fixture(autouse=True)
def short_lessons(monkeypatch: pytest.MonkeyPatch) -> None:
    """How well generated pictures are told apart is of no interest here."""
    monkeypatch.setattr(features, "STEPS", 10)


def assembled(model: str, *overrides: str, folder: Path) -> Parts:
    """A small model's run on its usual kind of data."""
    torch.set_num_threads(1)
    given = [f"model={model}", *options(usual_data(model)), *sizes(model), "trainer=cpu"]
    parts = assemble(compose([*given, *overrides]), Signals())
    parts.checkpoint.directory = parts.texts.folder = parts.pictures.folder = folder
    return parts


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
@pytest.mark.parametrize("model", MODELS)
def test_a_last_batch_of_one_row_trains_and_is_tested(model: str, precision: str, tmp_path) -> None:
    rows = dataset(usual_data(model)).spec.splits
    batches = f"data.batch_size={rows['train'] - 1}", f"data.eval_batch_size={rows['test'] - 1}"
    parts = assembled(model, *batches, f"trainer.precision={precision}", "trainer.max_epochs=1", folder=tmp_path)
    before = {name: p.detach().clone() for name, p in parts.model.named_parameters()}
    parts.trainer.fit(parts.model, datamodule=parts.data)
    parts.trainer.test(parts.model, datamodule=parts.data, verbose=False)
    assert parts.trainer.global_step == 2
    history = parts.model.history
    assert {"train/loss", "val/loss", "test/loss"} <= history.keys()
    assert all(math.isfinite(value) for name in history if name.endswith("loss") for _, value in history[name])
    for name, p in parts.model.named_parameters():
        assert p.dtype == torch.float32 and not torch.equal(p, before[name]), name


class Cut(Exception):
    """Power is lost."""


class CutAt(pl.Callback):
    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_end(self, trainer: pl.Trainer, model: pl.LightningModule, *step: Any) -> None:
        if trainer.global_step == self.step:
            raise Cut


# wgan is gan with further steps and draws inside a step
@pytest.mark.parametrize(
    "model", [*(pytest.param(m, marks=pytest.mark.slow) if m in UNGRAPHED else m for m in FAMILIES), "wgan"]
)
def test_cut_in_the_middle_of_an_epoch_and_resumed_to_the_same_bits(model: str, tmp_path) -> None:
    """Nothing is left of the cut run but its last checkpoint, which is some steps older."""
    rows = dataset(usual_data(model)).spec.splits["train"]
    given = [f"data.batch_size={-(-rows // 6)}", "trainer.max_epochs=2", "checkpoint.every_n_steps=3"]
    given += ["checkpoint.every_seconds=1000", *(["model.dropout=0.2"] if "dropout" in small(model).model else [])]
    whole = assembled(model, *given, folder=tmp_path / "whole")
    whole.trainer.fit(whole.model, datamodule=whole.data)
    steps = whole.trainer.global_step // 2

    cut = assembled(model, *given, folder=tmp_path / "cut")
    cut.trainer.callbacks.append(CutAt(steps + 5))
    with pytest.raises(Cut):
        cut.trainer.fit(cut.model, datamodule=cut.data)
    last = cut.checkpoint.last_path
    saved = torch.load(last, weights_only=True)["global_step"]
    assert steps < saved < steps + 5 < 2 * steps

    resumed = assembled(model, *given, folder=tmp_path / "cut")
    resumed.trainer.fit(resumed.model, datamodule=resumed.data, ckpt_path=str(last), weights_only=True)
    assert resumed.model.history == whole.model.history
    texts = [path.read_text() for path in tmp_path.glob("*/texts.csv")]
    assert len(texts) in (0, 2) and len(set(texts)) < 2
    for name in ("last.ckpt", "best.ckpt"):
        got, expected = (
            torch.load(folder / name, weights_only=True)["state_dict"]
            for folder in (tmp_path / "cut", tmp_path / "whole")
        )
        assert got.keys() == expected.keys()
        assert all(torch.equal(got[key], expected[key]) for key in expected), name
