"""What only a GPU can show: every model trains, draws its pictures and repeats its bits there. Skipped without one."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest
import torch

from tests.conftest import ROOT
from tests.tiny import MODELS

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
BATCHES = [f"trainer.limit_{part}_batches=4" for part in ("train", "val", "test")]


def trained(*options: str) -> str:
    """What a short training printed; it has no store, so that it runs without MLflow too."""
    command = [sys.executable, "-m", "src.train", *options, *BATCHES, "tracking=none", "trainer=gpu", "traceback=true"]
    command += ["trainer.max_epochs=2"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def figures(printed: str) -> list[str]:
    """The rows of the table of results."""
    return re.findall(r"^│.*│$", printed, re.MULTILINE)


@pytest.mark.parametrize("model", MODELS)
def test_every_model_trains_and_is_drawn_on_a_gpu(model: str) -> None:
    printed = trained(f"model={model}")
    assert not re.search(r": none, \w+(Error|Exception)", printed), printed
    assert figures(printed)


@pytest.mark.parametrize("model", ["fnn", "cnn", "gpt"])
def test_rows_on_the_gpu_in_bf16_give_the_same_bits_again(model: str) -> None:
    options = [f"model={model}", "trainer.precision=bf16-mixed", "seed=3"]
    options += ["data.on_device=true"] if model != "gpt" else []
    assert figures(trained(*options)) == figures(trained(*options))


def test_predictions_are_explained_on_a_gpu() -> None:
    printed = trained("model=cnn", "explain=true", "data.on_device=true")
    assert "removing by Grad-CAM" in printed and not re.search(r": none, \w+Error", printed), printed
