"""The callbacks around the loop: atomic checkpoints, averaging, recording."""

from __future__ import annotations

import io
import os
import re

import pytest
import pytorch_lightning as pl
import torch
from rich.console import Console

from src.errors import RunFailed
from src.models.fnn import FNN
from src.spec import Classes, DataSpec, TableSpec
from src.tasks.registry import make_task
from src.training.callbacks.averaging import WeightAveraging
from src.training.callbacks.checkpoint import AtomicCheckpointIO, Checkpoint, save_atomically
from src.training.callbacks.progress import ProgressBar
from src.training.callbacks.recording import Recorder

SPEC = DataSpec("toy", ("binary",), {"train": 60}, TableSpec((4,)), Classes(("no", "yes"), (30, 30)))


class Rows(pl.LightningDataModule):
    """60 separable rows, always in the same order."""

    def loader(self):
        draw = torch.Generator().manual_seed(0)
        x = torch.randn(60, 4, generator=draw)
        batches = [{"input": x[i : i + 10], "target": (x[i : i + 10, 0] > 0).long()} for i in range(0, 60, 10)]
        return torch.utils.data.DataLoader(batches, batch_size=None)

    train_dataloader = val_dataloader = loader


def fit(tmp_path, *callbacks: pl.Callback, **options):
    torch.manual_seed(0)
    model = FNN(SPEC, make_task(SPEC, FNN.tasks), width=8)
    model.optimizer = lambda groups: torch.optim.SGD(groups, lr=0.1)
    checkpoint = Checkpoint()
    checkpoint.directory = tmp_path
    for callback in callbacks:
        if isinstance(callback, WeightAveraging):
            checkpoint.evaluation_state = callback.evaluation_state
    trainer = pl.Trainer(
        logger=False, enable_progress_bar=False, enable_model_summary=False, num_sanity_val_steps=0, accelerator="cpu",
        default_root_dir=tmp_path, callbacks=[*callbacks, checkpoint], plugins=[AtomicCheckpointIO()],
        **({"max_epochs": 2} | options),
    )  # fmt: skip
    trainer.fit(model, datamodule=Rows())
    return model, checkpoint, trainer


def test_a_log_file_gets_lines_with_the_metrics_of_one_epoch(tmp_path) -> None:
    file = io.StringIO()
    model, _, _ = fit(tmp_path, ProgressBar(Console(file=file, width=80), line_seconds=0.0), max_epochs=3)
    shown = [{name: f"{points[i][1]:.4g}" for name, points in model.history.items()} for i in range(2)]
    assert file.getvalue().splitlines() == [
        f"epoch {i}/3  train/loss {values['train/loss']}  val/loss {values['val/loss']}"
        for i, values in enumerate(shown, 1)
    ]


@pytest.mark.parametrize("width", [60, 80, 140])
def test_a_terminal_gets_one_line_that_fits(tmp_path, width: int) -> None:
    file = io.StringIO()
    console = Console(file=file, width=width, force_terminal=True, color_system=None)
    model, _, _ = fit(tmp_path, ProgressBar(console, seconds=0.0))
    drawn = [line for line in re.split(r"\r|\n|\x1b\[[0-9?]*[a-zA-Z]", file.getvalue()) if line.strip()]
    assert len(drawn) >= 10 and all(len(line) <= width for line in drawn)
    assert f"val/loss {model.history['val/loss'][0][1]:.4g}" in drawn[-1] and drawn[-1].startswith("epoch 2/2")
    assert ("train/loss" in drawn[-1]) == ("12/12" in drawn[-1]) == (width == 140)


def test_a_checkpoint_that_cannot_be_written_leaves_the_old_one(tmp_path) -> None:
    path = tmp_path / "last.ckpt"
    save_atomically({"value": torch.ones(1)}, path)

    class Unwritable:
        def __reduce__(self):
            raise OSError(28, "No space left on device")

    with pytest.raises(RunFailed, match="No space left on device; the previous one is untouched"):
        save_atomically({"value": Unwritable()}, path)
    assert torch.equal(torch.load(path, weights_only=True)["value"], torch.ones(1))
    assert os.listdir(tmp_path) == ["last.ckpt"]


def test_a_folder_in_the_way_fails_the_run(tmp_path) -> None:
    (tmp_path / "best.ckpt").mkdir()
    with pytest.raises(RunFailed, match="best.ckpt"):
        fit(tmp_path)


def test_checkpoints_are_plain_data(tmp_path) -> None:
    model, checkpoint, _ = fit(tmp_path)
    last = torch.load(checkpoint.last_path, weights_only=True)
    best = torch.load(checkpoint.best_path, weights_only=True)
    assert last["labbook"]["spec"] == best["labbook"]["spec"] == SPEC.to_dict()
    assert "optimizer_states" in last and "optimizer_states" not in best
    assert best["labbook"]["score"] == model.best("val/loss")[1]


def test_swa_is_the_mean_of_the_epochs_last_weights(tmp_path) -> None:
    seen = []

    class Watch(pl.Callback):
        def on_train_batch_end(self, trainer, model, *args):
            if trainer.is_last_batch:
                seen.append(model.head.weight.detach().clone())

    averaging = WeightAveraging(kind="swa", start_epoch=1)
    model, _, _ = fit(tmp_path, Watch(), averaging, max_epochs=4)
    expected = torch.stack(seen[1:]).mean(0)
    torch.testing.assert_close(averaging.evaluation_state(model)["head.weight"], expected)
    # training went on with the weights themselves
    assert torch.equal(model.head.weight, seen[-1])


def test_validation_and_best_use_the_average(tmp_path) -> None:
    averaging = WeightAveraging(kind="ema", decay=0.9)
    model, checkpoint, trainer = fit(tmp_path, averaging)
    averaged = averaging.evaluation_state(model)
    assert not torch.equal(averaged["head.weight"], model.head.weight)
    best = checkpoint.best_weights(model)
    assert checkpoint.best_epoch == 2
    assert torch.equal(best["head.weight"], averaged["head.weight"])
    logged = model.history["val/loss"][-1][1]
    model.load_state_dict(best)
    trainer.validate(model, datamodule=Rows(), verbose=False)
    assert model.history["val/loss"][-1][1] == logged


@pytest.mark.parametrize("accumulate", [1, 4])
def test_a_step_s_loss_is_the_mean_over_its_batches(tmp_path, accumulate: int) -> None:
    points, losses = [], []

    class Watch(pl.Callback):
        def on_train_batch_end(self, trainer, model, *args):
            losses.append(model.metrics["train"].losses[-1].item())

    recorder = Recorder(1)
    recorder.log_points = points.extend
    fit(tmp_path, recorder, Watch(), accumulate_grad_batches=accumulate, max_epochs=1)
    groups = [losses[i : i + accumulate] for i in range(0, 6, accumulate)]
    recorded = [(value, step) for name, value, step in points if name == "train/loss_step"]
    assert recorded == [(pytest.approx(sum(g) / len(g)), i + 1) for i, g in enumerate(groups)]
