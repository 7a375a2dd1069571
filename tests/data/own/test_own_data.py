"""Data from outside the project: datasets, data modules and arrays as they are."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
import torch

from src.config import compose
from src.data.core.module import DataModule
from src.errors import UserError
from src.experiment.build import build_data
from src.spec import ImageSpec, TableSpec
from tests.conftest import ROOT, Lab
from tests.own_package import write


def own(name: str, *overrides: str) -> DataModule:
    data = build_data(compose([f"data._target_=mylab.data.{name}", *overrides]).data)
    data.prepare_data()
    data.setup("fit")
    return data


def refusal(name: str, *overrides: str) -> str:
    with pytest.raises(UserError) as caught:
        own(name, *overrides)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_dataset_is_split_and_measured_like_any_other(mylab: Path) -> None:
    data = own("Blobs", "data.batch_size=16", "data.split_seed=3")
    assert data.spec.class_names == ("a", "b", "c") and data.spec.tasks[0] == "classification"
    assert isinstance(data.spec.input, TableSpec) and data.spec.splits == {"train": 90, "val": 30, "test": 30}
    batch = next(iter(data.train_dataloader()))
    assert batch["input"].shape == (16, 4) and batch["target"].dtype == torch.int64
    again = own("Blobs", "data.split_seed=3")
    assert again.spec.sha256 == data.spec.sha256 != own("Blobs", "data.split_seed=4").spec.sha256


def test_items_may_be_dicts_of_pictures_and_texts(mylab: Path) -> None:
    data = own("Pictures")
    assert isinstance(data.spec.input, ImageSpec) and data.spec.input_shape == (3, 8, 8)
    assert data.spec.class_names == ("dark", "light") and data.spec.tasks[:2] == ("binary", "classification")
    batch = data.head("train", 20)
    light = batch["input"].flatten(1).float().mean(1) > 100
    assert batch["input"].dtype == torch.uint8 and torch.equal(light.long(), batch["target"])


def test_a_data_module_brings_its_splits_and_its_batch_size(mylab: Path) -> None:
    data = own("Module", "data.rows=100")
    assert data.spec.splits == {"train": 60, "val": 20, "test": 20} and data.spec.class_names == ("a", "b", "c")
    assert next(iter(data.train_dataloader()))["input"].shape == (32, 4)


def test_arrays_are_data_and_so_are_arrays_by_split(mylab: Path) -> None:
    assert own("arrays").spec.class_names == ("0", "1", "2")
    data = own("numbers")
    assert data.spec.tasks[0] == "regression" and data.spec.splits == {"train": 72, "val": 18, "test": 30}


def test_what_does_not_go_is_one_line(mylab: Path) -> None:
    differ = "data: item 7 of Torn is float32 (5,), item 0 is float32 (4,): all need one form"
    assert (
        refusal("Torn") == f"{differ}; pad or crop them in the dataset, or by the collate_fn of a LightningDataModule"
    )
    assert refusal("Beyond") == "data=Beyond, all: item 2 is of class 2 of 2 classes, 0 to 1"
    assert refusal("nothing").startswith("data: nothing makes a int: a Dataset of torch, a LightningDataModule, ")
    assert refusal("Blobs", "data.rowz=3").startswith("data.rowz: Blobs has no such option (did you mean rows?)")


def test_killed_and_resumed_to_the_same_bits(lab: Lab) -> None:
    write(lab.folder)
    env = {"PYTHONPATH": f"{ROOT}{os.pathsep}{lab.folder}"}
    given = ["model=fnn", "data._target_=mylab.data.Blobs", "trainer.max_epochs=5", "threads=1"]
    given += ["tracking.system_metrics=false", "trainer=cpu"]
    assert lab.train(*given, env=env, kill=("step", 7)).code == -signal.SIGKILL
    resumed = lab.train("resume=last", "trust=mylab", env=env)
    assert resumed.code == 0, resumed.err
    assert lab.train(*given, env=env).code == 0
    whole, cut = lab.runs()
    assert lab.points(whole.info.run_id) == lab.points(cut.info.run_id)
