"""conf/data: datasets share the keys that they have in common; the files of these keys are no choices."""

from __future__ import annotations

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from src.config import recipes

PARTS = ("_common", "_split", "_images")
OF_THEIR_OWN = {"environment", "pairs"}  # an episode or a list of pairs is no row that is loaded and split
LOADER = {"seed", "batch_size", "eval_batch_size", "num_workers", "on_device", "drop_last"}
SPLIT = {"val_fraction", "test_fraction", "split_seed"}
IMAGES = {"standardize", "anomalies", "held_out_classes", "val_classes", "per_class", "augment"}


def test_parts_hold_the_common_keys() -> None:
    keys = [set(OmegaConf.load(recipes.CONF / "data" / f"{part}.yaml")) - {"defaults"} for part in PARTS]
    assert keys == [LOADER, SPLIT, IMAGES]
    assert set(recipes.load("data", "_split")) == LOADER | SPLIT


@pytest.mark.parametrize("name", recipes.names("data"))
def test_a_dataset_has_all_common_keys_and_repeats_none(name: str) -> None:
    own = OmegaConf.to_container(OmegaConf.load(recipes.CONF / "data" / f"{name}.yaml"), resolve=False)
    whole = OmegaConf.to_container(recipes.load("data", name), resolve=False)
    assert "defaults" not in whole
    if name in OF_THEIR_OWN:
        return
    parts = own.pop("defaults")
    assert whole.keys() >= LOADER and parts[-1] == "_self_"
    shared = OmegaConf.merge(*(recipes.load("data", part) for part in parts[:-1]))
    shared = OmegaConf.to_container(shared, resolve=False)
    text = (recipes.CONF / "data" / f"{name}.yaml").read_text()
    repeated = [key for key in own if key in shared and own[key] == shared[key] and f"\n{key}: {own[key]}\n" in text]
    assert not repeated, "what a part says already needs no line here, unless a comment says more"


@pytest.mark.parametrize("name", ["mnist", "csv", "glyphs", "dates", "environment"])
def test_hydra_composes_what_is_read_here(name: str) -> None:
    with initialize_config_dir(str(recipes.CONF), version_base="1.3"):
        composed = compose("train", overrides=["model=fnn", f"data={name}"]).data
    assert composed == recipes.load("data", name)


def test_values_of_before_the_parts() -> None:
    mnist = recipes.load("data", "mnist")
    assert (mnist.batch_size, mnist.val_fraction, mnist.augment.crop, mnist.augment.flip) == (64, 0.05, 2, None)
    assert "test_fraction" not in mnist  # it brings its own test split
    cifar = recipes.load("data", "cifar10")
    assert (cifar.batch_size, cifar.augment.crop, cifar.augment.flip, cifar.augment.cutout) == (128, 4, True, None)
    assert recipes.load("data", "sst2").eval_batch_size == 256


def test_parts_are_no_choices() -> None:
    recipes.register()
    listed = {name for names in recipes.choices().values() for name in names}
    assert not [name for name in listed if name.startswith("_")] and "mnist" in listed
    files = recipes.files("data", "digits")
    assert [file.stem for file in files] == ["digits", "_split", "_common", "_images"]
    assert recipes.files("data", None) == recipes.files("data", "nothing") == []
