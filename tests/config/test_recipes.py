"""Every recipe says what it is for and runs; the beginner's example is as described and leaks nothing."""

from __future__ import annotations

import re
import tarfile
from pathlib import Path

import pytest
import torch

from src.config import compose
from src.data.images.classic import Torchvision
from src.experiment.assemble import assemble
from src.runtime.project import EXPERIMENTS
from src.runtime.signals import Signals
from tests.conftest import Lab, real_data
from tests.data.images.tiny import generated

RECIPES = sorted(str(path.relative_to(EXPERIMENTS).with_suffix("")) for path in EXPERIMENTS.rglob("*.yaml"))


@pytest.mark.parametrize("recipe", RECIPES)
def test_recipe_says_what_it_is_for(recipe: str) -> None:
    text = (EXPERIMENTS / f"{recipe}.yaml").read_text()
    for word in ("Question:", "Command:", "Time:", "Result:"):
        assert re.search(rf"^# {word}", text, re.MULTILINE), f"{recipe}: no {word}"
    assert f"experiment={recipe}" in text
    compose([f"experiment={recipe}"])


# what a person unpacks by hand, by the last part of data.path: the archive, and the folder inside it
ARCHIVES = {
    "cifar10_images": ("cifar10_images/cifar10_images_subset.tar.gz", "."),
    "sign_digits": ("sign_digits/sign_language_digits_subset.tar.gz", "Dataset"),
    "orl_faces": ("orl_faces/orl_faces.tar.xz", "orl_faces"),
    "BCCD": ("bccd/BCCD.tar.gz", "BCCD"),
    "driving": ("driving/track_center_subset.tar.gz", "."),
}


def unpacked(place: Path, archive: str, inside: str) -> Path:
    folder = real_data()
    if folder is None:
        pytest.skip("its data is an archive to be unpacked by hand, and no copy is here: set LABBOOK_DATA")
    with tarfile.open(folder / archive) as file:
        file.extractall(place / "unpacked", filter="data")
    return place / "unpacked" / inside


# their nets are made for a GPU, or for all of MNIST, or their files are many
HEAVY = (
    *("text/multi30k", "text/multi30k_gpu", "text/tiny_shakespeare_gpu", "vision/gan_mnist", "vision/vae_mnist_conv"),
    *("vision/bccd_gpu", "vision/cifar_subset", "vision/cifar_subset_resnet"),
)


@pytest.mark.parametrize(
    "recipe",
    [
        pytest.param(name, marks=pytest.mark.slow) if name in HEAVY else name
        for name in RECIPES
        if name != "keras_example"
    ],
)
def test_recipe_runs(lab: Lab, recipe: str) -> None:
    options, config = ["debug=fast_dev_run", "tracking.system_metrics=false"], compose([f"experiment={recipe}"])
    if config.trainer.accelerator == "gpu":
        options.append("trainer=cpu")
    if (archive := ARCHIVES.get(Path(str(config.data.get("path", ""))).name)) and not Path(config.data.path).is_dir():
        options.append(f"data.path={unpacked(lab.folder, *archive)}")
    if config.data.get("root", "") is None:
        folder = real_data()
        name = config.data.get("name")  # texts lie below the root as they were downloaded
        if folder is None or (name and not (folder / name).is_dir()):
            pytest.skip("its data is a download, and no copy is here: set LABBOOK_DATA")
        options.append(f"data.root={folder / name if name else folder}")
    if recipe.startswith("study/"):
        few = ["hydra.sweeper.n_trials=2"] if "search" in recipe else ["study.fractions=[0.5,1]", "study.repeats=1"]
        options += ["-m", *few, "threads=1"]
    result = lab.train(f"experiment={recipe}", *options)
    assert result.code == 0, result.err


def test_the_fast_cifar_recipe_learns_pictures_of_its_shape(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of it but the GPU and the width, on generated pictures, whether CIFAR-10 is at hand or not."""
    monkeypatch.setattr(Torchvision, "prepare_data", lambda data: None)
    monkeypatch.setattr(Torchvision, "load", generated)
    options = ["trainer=cpu", "model.channels=[4,8]", "data.batch_size=30", "trainer.max_epochs=6"]
    parts = assemble(compose(["experiment=vision/cifar10_fast", *options]), Signals())
    parts.checkpoint.directory = tmp_path
    parts.trainer.fit(parts.model, datamodule=parts.data)
    assert parts.trainer.precision == "bf16-mixed" and parts.trainer.fit_loop.epoch_loop.short
    losses = [value for _, value in parts.model.history["train/loss"]]
    assert losses[-1] < 0.95 * losses[0]


def test_beginner_s_example(lab: Lab) -> None:
    result = lab.train("experiment=keras_example", "tracking.system_metrics=false")
    assert result.code == 0, result.err
    assert "3,457 parameters" in result.out
    shown = result.out[result.out.index("predictions") : result.out.index("cost:")]
    probabilities = [float(value) for value in re.findall(r"\b0\.\d{4}\b", shown)]
    assert len(probabilities) == 5 and all(0 < p < 1 for p in probabilities)
    (run,) = lab.runs()
    points = lab.points(run.info.run_id)
    assert len(points["val/loss"]) == 20  # epochs
    assert points["val/loss"][-1][0] == 20 * 32  # steps: 1,000 rows in batches of 32
    assert points["train/loss"][-1][1] < points["train/loss"][0][1]
    # labels are coin flips: 1,000 held-out rows stay within four standard deviations of one half
    for part in ("val/accuracy", "test/accuracy"):
        assert abs(points[part][-1][1] - 0.5) < 4 * (0.25 / 1000) ** 0.5, part


def test_labels_learned_by_heart_do_not_leak(lab: Lab) -> None:
    result = lab.train(
        "experiment=keras_example", "model.hidden_sizes=[512,512]", "trainer.max_epochs=60", "data.test_rows=4000",
        "tracking.system_metrics=false",
    )  # fmt: skip
    assert result.code == 0, result.err
    (run,) = lab.runs()
    points = lab.points(run.info.run_id)
    assert points["train/accuracy"][-1][1] > 0.9
    assert abs(points["test/accuracy"][-1][1] - 0.5) < 4 * (0.25 / 4000) ** 0.5


def test_parts_share_no_row() -> None:
    from src.experiment.build import build_node

    data = build_node(compose(["experiment=keras_example"]).data)
    data.setup("fit")
    rows = torch.cat([part["input"] for part in data.splits.values()])
    assert len(torch.unique(rows, dim=0)) == len(rows)


def test_every_recipe_is_in_the_table_of_results() -> None:
    table = (Path(EXPERIMENTS) / "README.md").read_text()
    for recipe in RECIPES:
        assert f"experiment={recipe}" in table, recipe
