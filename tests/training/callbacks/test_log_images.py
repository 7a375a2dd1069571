"""Pictures that a model makes while it is trained: one grid a validation, once each, training unchanged."""

from __future__ import annotations

import re
import signal
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf
from PIL import Image

from src.config import compose
from src.experiment.assemble import Parts, assemble
from src.models.autoencoder import Autoencoder
from src.plots.grid import grid
from src.runtime.signals import Signals
from src.tracking import config_hash
from tests.conftest import Lab

RUN = ["model=vae", "data=digits", "model.hidden_sizes=[16]", "trainer=cpu", "threads=1"]
SHORT = ["trainer.max_epochs=3", "trainer.limit_train_batches=4", "trainer.limit_val_batches=1"]


def fit(folder: Path, *overrides: str) -> Parts:
    parts = assemble(compose([*RUN, *SHORT, *overrides]), Signals())
    parts.checkpoint.directory = parts.pictures.folder = folder
    parts.trainer.fit(parts.model, datamodule=parts.data)
    return parts


def steps(folder: Path, name: str, ending: str = ".png") -> list[int]:
    """Of the pictures of that name, in their order."""
    names = [path.name for path in (folder / "images").glob(f"{name}+step+*{ending}")]
    return sorted(int(re.match(rf"{name}\+step\+(\d+)\+timestamp\+\d+\+[0-9a-f-]+", found)[1]) for found in names)


def test_each_validation_has_a_grid_of_each_kind(tmp_path) -> None:
    told = []
    parts = assemble(compose([*RUN, *SHORT, "log_images=5"]), Signals())
    parts.checkpoint.directory = parts.pictures.folder = tmp_path
    parts.pictures.announce = lambda: told.append(True)
    parts.trainer.fit(parts.model, datamodule=parts.data)
    for name in ("reconstructions", "samples"):
        assert steps(tmp_path, name) == steps(tmp_path, name, "+compressed.webp") == [4, 8, 12]
    with Image.open(next((tmp_path / "images").glob("reconstructions*.png"))) as picture:
        assert picture.size == (8 * 50 + 2, 2 * 50 + 2)  # five pairs, eight images in a row
    assert told == [True]


def test_training_never_notices(tmp_path) -> None:
    weights = {count: fit(tmp_path / count, f"log_images={count}").model.state_dict() for count in ("0", "16")}
    assert not (tmp_path / "0" / "images").exists() and steps(tmp_path / "16", "samples")
    assert all(torch.equal(weights["16"][name], tensor) for name, tensor in weights["0"].items())
    hashes = {config_hash(OmegaConf.to_container(compose([f"log_images={n}"]), resolve=True)) for n in (0, 16)}
    assert len(hashes) == 1  # it is the same experiment


def test_a_long_training_has_few_pictures(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("src.training.callbacks.log_images.MOST", 3)
    fit(tmp_path, "trainer.max_epochs=9", "trainer.limit_train_batches=1")
    assert steps(tmp_path, "samples") == [1, 5, 9]  # every fourth, the first of all among them


def test_a_model_that_cannot_draw_is_trained_all_the_same(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(Autoencoder, "sample_images", lambda self, batch: 1 / 0)
    parts = fit(tmp_path, "model=autoencoder")
    assert parts.pictures.notes == ["pictures: stopped, ZeroDivisionError: division by zero"]
    assert len(parts.model.history["val/loss"]) == 3 and not (tmp_path / "images").exists()
    assert fit(tmp_path, "model=fnn", "model.hidden_sizes=[4]").pictures.notes == []
    assert not (tmp_path / "images").exists()


@pytest.mark.parametrize(("channels", "mode"), [(1, (0, 0, 0)), (3, (255, 0, 0))])
def test_a_grid_magnifies_small_images_and_keeps_colours(channels: int, mode: tuple[int, ...]) -> None:
    images = torch.zeros(3, channels, 4, 6)
    images[0, 0] = 2 if channels == 3 else 0
    picture = grid(images, across=2)
    assert picture.size == (2 * (6 * 12 + 2) + 2, 2 * (4 * 12 + 2) + 2) and picture.getpixel((4, 4)) == mode


def test_a_killed_and_resumed_run_has_each_picture_once(tmp_path) -> None:
    lab = Lab(tmp_path)
    given = [*RUN[:3], *SHORT, "trainer.max_epochs=2", "checkpoint.every_n_steps=3", "tracking.system_metrics=false"]
    # after the second epoch's pictures are there, before a checkpoint knows of them
    assert lab.train(*given, kill=("validation", 2)).code == -signal.SIGKILL
    (killed,) = lab.runs()
    folder = lab.artifacts(killed.info.run_id)
    assert steps(folder, "samples") == [4, 8]
    result = lab.train(f"resume={killed.info.run_id}")
    assert result.code == 0, result.err
    assert steps(folder, "samples") == steps(folder, "reconstructions") == [4, 8]
    (run,) = lab.runs()
    assert run.data.tags["mlflow.loggedImages"] == "True"
    files = [file.path for file in lab.client.list_artifacts(run.info.run_id, "figures")]
    assert {f"figures/{name}.png" for name in ("codes_map", "reconstructions", "samples", "traversals")} <= set(files)
