"""New images from the command line: a picture and arrays, the same for a seed, of the class asked for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from PIL import Image

from src.commands.export import export
from src.commands.predict import predict
from src.config import compose
from src.errors import UserError
from src.experiment.build import build_model
from src.models.load import load_model
from src.training.callbacks.checkpoint import save_atomically
from tests.tiny import dataset


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory) -> dict[str, Path]:
    """Of models that are not trained, with weights large enough that noise is seen in the images."""
    folder, found = tmp_path_factory.mktemp("drawing"), {}
    for name, options in (
        ("plain", ["model=gan", "model.width=4"]),
        ("conditional", ["model=gan", "model.width=4", "model.conditional=true"]),
        ("cnn", ["model=cnn"]),
    ):
        torch.manual_seed(0)
        config = compose(options)
        model = build_model(config, dataset("digits").spec)
        model.config = OmegaConf.to_container(config, resolve=True)
        for p in model.parameters():
            p.data.mul_(5)
        found[name] = folder / f"{name}.ckpt"
        save_atomically({"state_dict": model.state_dict(), "labbook": model.description()}, found[name])
    return found


def asked(checkpoint: Path, *overrides: str):
    return compose([f"run={checkpoint}", "device=cpu", *overrides], name="predict")


def test_a_picture_and_arrays_the_same_for_a_seed(checkpoints, tmp_path, capsys) -> None:
    found = {}
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        predict(asked(checkpoints["plain"], "num_samples=20", f"seed={seed}", f"output={tmp_path / name}.png"))
        found[name] = np.load(tmp_path / f"{name}.npz")["x"]
    assert found["a"].shape == (20, 8, 8) and found["a"].dtype == np.uint8 and found["a"].max() > 127
    assert (found["a"] == found["b"]).all() and (found["a"] != found["c"]).any()
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    assert Image.open(tmp_path / "a.png").width > 16 * 8
    assert f"20 samples of seed 1 in {tmp_path / 'a.png'} and a.npz" in capsys.readouterr().out
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"{n}.{end}" for n in "abc" for end in ("npz", "png")]


def test_classes_in_turn_or_the_one_asked_for(checkpoints, tmp_path) -> None:
    predict(asked(checkpoints["conditional"], "num_samples=12", f"output={tmp_path}/all.png"))
    predict(asked(checkpoints["conditional"], "num_samples=12", "class=7", f"output={tmp_path}/seven.png"))
    turns, sevens = (np.load(tmp_path / f"{name}.npz") for name in ("all", "seven"))
    assert turns["y"].tolist() == [*"0123456789", "0", "1"] and set(sevens["y"]) == {"7"}
    same = [(a == b).all() for a, b in zip(turns["x"], sevens["x"], strict=True)]  # same noise, same class
    assert same[7] and not same[0]


@pytest.mark.parametrize(
    ("name", "overrides", "message"),
    [
        ("cnn", ["num_samples=4"], r"num_samples=4: run .*cnn.ckpt \(CNN\) makes no new images"),
        ("plain", ["num_samples=4", "class=7"], r"class=7: run .* draws from all classes"),
        ("conditional", ["num_samples=4", "class=11"], r"class=11 is no class of run"),
        ("plain", ["num_samples=4", "data.path=a.csv"], r"num_samples=4 takes neither data.path nor text"),
        ("plain", ["num_samples=4", "output=a.csv"], r"output=a.csv: a name that ends in .png"),
        ("plain", ["num_samples=4", "output=nowhere/a.png"], r"there is no folder"),
    ],
)
def test_what_cannot_be_drawn(
    name: str, overrides: list[str], message: str, checkpoints, tmp_path, monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=message):
        predict(asked(checkpoints[name], *overrides))
    assert not list(tmp_path.iterdir())


def test_an_output_that_exists(checkpoints, tmp_path) -> None:
    (tmp_path / "a.npz").write_text("precious")
    with pytest.raises(UserError, match=r"a\.npz exists"):
        predict(asked(checkpoints["plain"], "num_samples=4", f"output={tmp_path}/a.png"))
    assert (tmp_path / "a.npz").read_text() == "precious" and not (tmp_path / "a.png").exists()
    predict(asked(checkpoints["plain"], "num_samples=4", f"output={tmp_path}/a.png", "force=true"))
    assert len(np.load(tmp_path / "a.npz")["x"]) == 4


def test_a_generator_predicts_no_rows(checkpoints, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"draws new rows and predicts none: num_samples=64"):
        predict(asked(checkpoints["plain"], "data.path=a.png"))


def test_exported_it_is_a_function_of_noise(checkpoints, tmp_path) -> None:
    for form in ("pt2", "safetensors"):
        export(
            compose([f"run={checkpoints['plain']}", f"output={tmp_path}/gan.{form}", f"format={form}"], name="export")
        )
    noise, model = torch.randn(5, 64), load_model(checkpoints["plain"])
    images = torch.export.load(tmp_path / "gan.pt2").module()(noise)
    assert images.shape == (5, 1, 8, 8)
    with torch.no_grad():
        torch.testing.assert_close(images, model(noise))
    for name, form, message in (
        ("conditional", "pt2", "a conditional generator takes noise and classes"),
        ("plain", "mlflow", r"an MLflow model belongs to a run|format=mlflow serves rows"),
    ):
        overrides = [] if form == "mlflow" else [f"output={tmp_path}/x.{form}"]
        config = compose([f"run={checkpoints[name]}", f"format={form}", *overrides], name="export")
        with pytest.raises(UserError, match=message):
            export(config)
