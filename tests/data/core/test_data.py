"""Datasets: splits, statistics, fingerprints, augmentation."""

from __future__ import annotations

import hashlib
from itertools import pairwise

import numpy as np
import pytest
import pytorch_lightning as pl
import torch

from src.data.core.module import DataModule
from src.data.core.splits import column_as, draw_splits, fingerprint, moments, tensor_of
from src.data.images.augment import Augment
from src.data.images.classic import Digits, Torchvision
from src.data.series.windows import Windows
from src.data.tables.sklearn import RandomLabels, SklearnTable
from src.errors import UserError

EMBEDDED = [lambda n=n: SklearnTable(name=n) for n in ("iris", "wine", "breast_cancer", "diabetes")]


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


def ready(data: DataModule) -> DataModule:
    data.prepare_data()
    data.setup("fit")
    return data


def test_digits_are_those_of_scikit_learn() -> None:
    from sklearn.datasets import load_digits

    rows, bunch = Digits().load()["all"], load_digits()
    assert torch.equal(rows["input"].squeeze(1), torch.tensor(bunch.images, dtype=torch.uint8))
    assert torch.equal(rows["target"], torch.tensor(bunch.target, dtype=torch.int64))


# splits and statistics -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("build", [*EMBEDDED, Digits, RandomLabels])
def test_parts_are_disjoint_whole_and_measured_on_the_training_part(build):
    data = ready(build())
    whole = data.load()
    rows = torch.cat([part["input"].flatten(1).double() for part in data.splits.values()])
    expected = torch.cat([part["input"].flatten(1).double() for part in whole.values()])
    assert sorted(map(tuple, rows.tolist())) == sorted(map(tuple, expected.tolist()))

    spec, train = data.spec, data.splits["train"]
    assert spec.splits == {name: len(part["target"]) for name, part in data.splits.items()}
    assert spec.input_shape == tuple(train["input"].shape[1:])
    if data.standardize:
        columns = train["input"].movedim(1, 0).flatten(1).double()
        assert torch.allclose(torch.tensor(spec.input.mean, dtype=torch.float64), columns.mean(1), rtol=1e-9)
        assert torch.allclose(
            torch.tensor(spec.input.std, dtype=torch.float64), columns.std(1, correction=0), rtol=1e-6
        )
    else:
        assert spec.input.mean == spec.input.std == ()
    if "regression" in spec.tasks:
        assert train["target"].dtype == torch.float32
        assert spec.target.mean == pytest.approx(train["target"].double().mean().item())
        assert spec.target.std == pytest.approx(train["target"].double().std(correction=0).item())
    else:
        assert train["target"].dtype == torch.int64
        assert list(spec.class_counts) == torch.bincount(train["target"]).tolist()
        assert len(spec.class_names) == len(spec.class_counts)


def test_classes_keep_their_proportion_in_every_part():
    data = ready(SklearnTable(name="breast_cancer"))
    shares = [part["target"].double().mean().item() for part in data.splits.values()]
    assert max(shares) - min(shares) < 0.01
    assert ready(SklearnTable(name="iris")).spec.splits == {"train": 90, "val": 30, "test": 30}
    assert ready(Digits()).spec.splits == {"train": 1079, "val": 359, "test": 359}


def test_a_given_test_part_stays_and_validation_comes_from_training():
    class Given(DataModule):
        name = "given"
        class_names = ("a", "b")

        def load(self):
            train = {"input": torch.arange(40.0).view(20, 2), "target": torch.arange(20) % 2}
            return {"train": train, "test": {"input": torch.ones(4, 2), "target": torch.zeros(4, dtype=torch.int64)}}

    data = ready(Given(val_fraction=0.25))
    assert data.spec.splits == {"train": 15, "val": 5, "test": 4} or data.spec.splits == {
        "train": 16,
        "val": 4,
        "test": 4,
    }
    assert torch.equal(data.splits["test"]["input"], torch.ones(4, 2))


def test_the_split_has_its_own_seed():
    def test_rows(**options) -> torch.Tensor:
        return ready(Digits(**options)).splits["test"]["input"]

    assert torch.equal(test_rows(seed=1), test_rows(seed=2))
    assert not torch.equal(test_rows(split_seed=1), test_rows(split_seed=2))


def test_a_rare_class_is_in_every_part_or_refused():
    target = torch.cat([torch.zeros(97, dtype=torch.int64), torch.ones(3, dtype=torch.int64)])
    part = {"input": torch.arange(100.0).unsqueeze(1), "target": target}
    fractions = {"val": 0.2, "test": 0.2}
    parts = draw_splits(part, fractions, seed=0, class_names=("common", "rare"))
    assert [int(p["target"].sum()) for p in parts.values()] == [1, 1, 1]
    with pytest.raises(UserError, match="class rare: 2 rows, too few for train, val, test: at least 3"):
        draw_splits({k: v[:99] for k, v in part.items()}, fractions, seed=0, class_names=("common", "rare"))


def test_a_constant_column_has_deviation_one():
    table = torch.tensor([[3.0, 1.0], [3.0, 2.0], [3.0, 3.0]])
    mean, std = moments(table)
    assert mean == (3.0, 2.0) and std == pytest.approx((1.0, (2 / 3) ** 0.5))
    assert moments(torch.full((4, 1, 2, 2), 7, dtype=torch.uint8)) == ((7.0,), (1.0,))


def test_the_fingerprint_is_stable_and_notices_every_change():
    def parts(**changes) -> dict:
        rows = {"input": torch.arange(6.0).view(3, 2), "target": torch.tensor([0, 1, 0])} | changes
        return {"train": rows}

    same = fingerprint(parts())
    assert same == fingerprint({"train": dict(reversed(parts()["train"].items()))})
    assert same == fingerprint(parts(input=torch.arange(6.0).view(2, 3).T.contiguous().T.reshape(3, 2)))
    changed = [
        fingerprint({"test": parts()["train"]}),
        fingerprint(parts(target=torch.tensor([0, 1, 1]))),
        fingerprint(parts(target=torch.tensor([0, 1, 0], dtype=torch.int32))),
        fingerprint(parts(input=torch.arange(6.0).view(2, 3))),
        fingerprint(parts(extra=torch.zeros(0))),
    ]
    assert len({same, *changed}) == 6
    assert ready(Digits()).spec.sha256 == ready(Digits(seed=5)).spec.sha256
    # spelt out: the data of a run years ago must be recognised
    digest = hashlib.sha256(b"train/input torch.float32 (3, 2)\n" + np.arange(6, dtype="<f4").tobytes())
    digest.update(b"train/target torch.int64 (3,)\n" + np.array([0, 1, 0], dtype="<i8").tobytes())
    assert same == digest.hexdigest()


def test_setup_reads_once():
    data = ready(Digits())
    parts, spec = data.splits, data.spec
    data.prepare_data()
    data.setup("test")
    assert data.splits is parts and data.spec is spec


def test_the_description_is_plain():
    described = ready(SklearnTable(name="iris")).describe()
    assert described["name"] == "iris" and described["source"] == "sklearn.datasets.load_iris"
    assert described["sizes"] == {"train": 90, "val": 30, "test": 30} and len(described["sha256"]) == 64
    assert described["schema"]["input"] == {
        "dtype": "float32",
        "shape": [4],
        "names": ["sepal length (cm)", "sepal width (cm)", "petal length (cm)", "petal width (cm)"],
    }
    assert described["schema"]["target"]["names"] == ["setosa", "versicolor", "virginica"]


def test_random_labels_trains_on_all_its_rows_and_predicts_fresh_ones():
    data = ready(RandomLabels())
    assert data.spec.splits == {"train": 1000, "val": 1000, "test": 1000, "predict": 5}
    assert sum(len(batch["target"]) for batch in data.train_dataloader()) == 1000
    fresh = next(iter(data.predict_dataloader()))["input"]
    assert fresh.shape == (5, 20)
    assert not any((fresh[0] == part["input"]).all(1).any() for name, part in data.splits.items() if name != "predict")
    values = data.splits["train"]["input"]
    assert values.min() >= 0 and values.max() < 1 and abs(values.mean() - 0.5) < 0.01
    other = ready(RandomLabels(rows=10))
    assert torch.equal(other.splits["test"]["input"], data.splits["test"]["input"])
    assert not torch.equal(ready(RandomLabels(data_seed=1)).splits["test"]["input"], data.splits["test"]["input"])


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Digits(batch_size=0), "data.batch_size=0 must be at least 1"),
        (lambda: Digits(num_workers=-1), "data.num_workers=-1 must be at least 0"),
        (lambda: Digits(num_workers=2, on_device=True), "data.on_device=true leaves data.num_workers=2 nothing to do"),
        (lambda: Digits(val_fraction=0.0), "data.val_fraction=0.0 must be above 0 and below 1"),
        (
            lambda: ready(Digits(val_fraction=0.5, test_fraction=0.5)),
            "leave no training rows: their sum must be below 1",
        ),
        (lambda: SklearnTable(name="irsi"), r"data.name=irsi is not a table.*\(did you mean iris\?\)"),
        (lambda: Torchvision(name="cifar"), r"data.name=cifar is not .*\(did you mean cifar10"),
        (lambda: RandomLabels(columns=0), "data.columns=0 must be at least 1"),
        (lambda: Augment(crop=-1), "data.augment.crop=-1 must be"),
        (lambda: Augment(flip="always"), "data.augment.flip=always must be true, false or alternating"),
        (lambda: Augment(crop=1.5), "data.augment.crop=1.5 must be whole pixels, or a share of the side below 1"),
        (lambda: Augment(color=1.0), "data.augment.color=1.0 must be between 0 and 0.9"),
        (lambda: Augment(preset="heavy"), "data.augment.preset=heavy must be light, photo, strong or null"),
        (lambda: Augment(padding="edge"), "data.augment.padding=edge must be zero or reflect"),
    ],
)
def test_options_out_of_range_are_refused_in_one_line(build, message):
    with pytest.raises(UserError, match=message) as error:
        build()
    assert "\n" not in str(error.value)


# augmentation --------------------------------------------------------------------------------------------------------

ALL = {"crop": 2, "flip": True, "rotate": 15.0, "scale": 0.1, "color": 0.3, "cutout": 3}


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
@pytest.mark.parametrize(
    "options",
    [
        *({k: v} for k, v in ALL.items()),
        *({"preset": name} for name in ("light", "photo", "strong")),
        ALL,
        ALL | {"flip": "alternating", "padding": "reflect"},
    ],
)
def test_an_image_is_changed_alike_in_any_batch(options, dtype):
    augment = Augment(**options)
    images = torch.randint(0, 256, (64, 3, 12, 10), dtype=torch.uint8).to(dtype)
    index = torch.randperm(1000)[:64]
    whole = augment(images, index, seed=1, epoch=2)
    assert whole.dtype == dtype and whole.shape == images.shape
    for size in (1, 7, 33):
        pieces = [augment(x, i, seed=1, epoch=2) for x, i in zip(images.split(size), index.split(size), strict=True)]
        assert torch.equal(torch.cat(pieces), whole)
    for other in ({"seed": 1, "epoch": 3}, {"seed": 2, "epoch": 2}):
        assert not torch.equal(augment(images, index, **other), whole)


def test_crop_shifts_by_whole_pixels_and_flip_mirrors_half():
    images = torch.arange(1, 26, dtype=torch.uint8).view(1, 1, 5, 5).repeat(400, 1, 1, 1)
    moved = Augment(crop=1)(images, torch.arange(400), seed=0, epoch=0)
    padded = torch.nn.functional.pad(images[0, 0], (1, 1, 1, 1))
    windows = {tuple(padded[i : i + 5, j : j + 5].flatten().tolist()) for i in range(3) for j in range(3)}
    assert {tuple(x.flatten().tolist()) for x in moved} == windows

    mirrored = Augment(flip=True)(images, torch.arange(400), seed=0, epoch=0)
    turned = (mirrored != images).flatten(1).any(1)
    assert torch.equal(mirrored[turned], images[turned].flip(-1))
    assert 150 < turned.sum() < 250


def test_reflection_repeats_no_edge_and_goes_on_as_long_as_it_must():
    for limit in (1, 3, 4, 9):  # of pictures of 5 x 4 pixels
        images = torch.randint(0, 256, (300, 2, 5, 4), dtype=torch.uint8)
        moved = Augment(crop=limit, padding="reflect")(images, torch.arange(300), seed=0, epoch=0)
        padded = np.pad(images.numpy(), ((0, 0), (0, 0), (limit, limit), (limit, limit)), mode="reflect")
        places = [(i, j) for i in range(2 * limit + 1) for j in range(2 * limit + 1)]
        for before, after in zip(padded, moved.numpy(), strict=True):
            assert any(np.array_equal(before[:, i : i + 5, j : j + 4], after) for i, j in places)


def test_an_alternating_flip_shows_each_image_both_ways_in_two_epochs():
    images = torch.randint(0, 256, (400, 1, 6, 6), dtype=torch.uint8)
    augment = Augment(flip="alternating")
    epochs = [augment(images, torch.arange(400), seed=3, epoch=epoch) for epoch in range(4)]
    for before, after in pairwise(epochs):
        assert torch.equal(after, before.flip(-1))
    turned = (epochs[0] != images).flatten(1).any(1)
    assert torch.equal(epochs[0][turned], images[turned].flip(-1))
    assert 150 < turned.sum() < 250
    other = augment(images, torch.arange(400), seed=4, epoch=0)
    assert 100 < (other != epochs[0]).flatten(1).any(1).sum() < 300  # which half begins is the seed's


def test_cutout_blacks_out_one_square_and_a_turn_keeps_the_centre():
    images = torch.full((200, 1, 9, 9), 200, dtype=torch.uint8)
    cut = Augment(cutout=3)(images, torch.arange(200), seed=0, epoch=0)
    black = (cut == 0).flatten(1).sum(1)
    assert set(black.tolist()) == {4, 6, 9} and (cut[cut > 0] == 200).all()

    turned = Augment(rotate=180.0)(images, torch.arange(200), seed=0, epoch=0)
    assert (turned[:, :, 2:7, 2:7] >= 199).all()


def test_shares_are_those_of_the_shorter_side_and_a_preset_gives_way_to_what_is_set():
    images = torch.randint(0, 256, (100, 3, 40, 20), dtype=torch.uint8)
    rows = torch.arange(100)
    for share, pixels in (
        ({"crop": 0.12}, {"crop": 2}),
        ({"cutout": 0.25}, {"cutout": 5}),
        ({"crop": 0.01}, {"crop": 1}),
    ):
        same = [Augment(**options)(images, rows, seed=0, epoch=0) for options in (share, pixels)]
        assert torch.equal(*same)
    bare = {"rotate": 0, "scale": 0, "padding": "zero"}
    assert torch.equal(
        Augment(preset="light", crop=3, **bare)(images, rows, seed=0, epoch=0),
        Augment(crop=3)(images, rows, seed=0, epoch=0),
    )
    assert not Augment(preset="light", crop=0, **bare).active


def test_color_changes_brightness_contrast_and_saturation_and_nothing_else():
    grey = torch.randint(60, 120, (300, 1, 6, 6), dtype=torch.uint8)
    rows, augment = torch.arange(300), Augment(color=0.4)
    changed = augment(grey.float(), rows, seed=0, epoch=0)
    means = changed.flatten(1).mean(1) / grey.float().flatten(1).mean(1)
    assert 0.6 <= means.min() < 0.65 and 1.35 < means.max() <= 1.4  # brightness
    spreads = (changed / means.view(-1, 1, 1, 1)).flatten(1).std(1) / grey.float().flatten(1).std(1)
    assert 0.6 <= spreads.min() < 0.65 and 1.35 < spreads.max() <= 1.4  # contrast
    order = grey.flatten(1).argsort(1)
    assert (changed.flatten(1).gather(1, order).diff(dim=1) >= 0).all()

    colorless = augment(grey.repeat(1, 3, 1, 1).float(), rows, seed=0, epoch=0)
    assert torch.allclose(colorless, changed.expand_as(colorless), atol=1e-3)  # saturation finds nothing
    bright = torch.full((300, 1, 4, 4), 250, dtype=torch.uint8)
    assert int(augment(bright, rows, seed=0, epoch=0).max()) == 255  # and none begins anew at 0


def test_switched_off_it_costs_nothing():
    images = torch.zeros(2, 1, 4, 4)
    assert Augment()(images, torch.arange(2), seed=0, epoch=0) is images
    assert ready(Digits(augment=Augment())).train_dataloader()._source._augment is None


def test_only_training_images_are_augmented():
    data = ready(Digits(augment=Augment(**ALL), num_workers=0))
    for served, name in ((data.val_dataloader(), "val"), (data.test_dataloader(), "test")):
        assert torch.equal(torch.cat([b["input"] for b in served]), data.splits[name]["input"])
    first, second = ([b["input"] for b in data.train_dataloader()] for _ in range(2))
    assert all(map(torch.equal, first, second))
    batch = next(iter(data.train_dataloader()))
    assert not torch.equal(batch["input"], data.splits["train"]["input"][batch["index"]])


# with Lightning ------------------------------------------------------------------------------------------------------


class Network(pl.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(64, 10)
        self.rows: list[tuple[str, list[int]]] = []

    def _step(self, stage: str, batch: dict) -> torch.Tensor:
        self.rows.append((stage, batch["index"].tolist()))
        return torch.nn.functional.cross_entropy(self.layer(batch["input"].float().flatten(1)), batch["target"])

    def training_step(self, batch, batch_idx):
        return self._step("train", batch)

    def validation_step(self, batch, batch_idx):
        self._step("val", batch)

    def test_step(self, batch, batch_idx):
        self._step("test", batch)

    def predict_step(self, batch, batch_idx):
        return self.layer(batch["input"].float().flatten(1)).argmax(1)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.001)


QUIET = {"accelerator": "cpu", "devices": 1, "logger": False, "enable_checkpointing": False} | {
    "enable_progress_bar": False,
    "enable_model_summary": False,
}


@pytest.mark.filterwarnings("error::UserWarning:pytorch_lightning.*data.*")
def test_a_trainer_takes_the_data_through_all_stages():
    data, module = Digits(), Network()
    trainer = pl.Trainer(max_epochs=2, num_sanity_val_steps=0, **QUIET)
    trainer.fit(module, datamodule=data)
    trainer.test(module, datamodule=data, verbose=False)
    assert len(torch.cat(trainer.predict(module, datamodule=data))) == data.spec.splits["test"]
    served = {stage: [i for s, rows in module.rows if s == stage for i in rows] for stage in ("train", "val", "test")}
    assert served["test"] == list(range(data.spec.splits["test"]))
    assert served["val"] == list(range(data.spec.splits["val"])) * 2
    rows = data.spec.splits["train"]
    assert sorted(served["train"][:rows]) == sorted(served["train"][rows:]) == list(range(rows))
    assert served["train"][:rows] != served["train"][rows:]


def test_rows_kept_on_the_trainer_s_device_are_served_alike(monkeypatch):
    modules, placed = {}, set()
    for on_device in (False, True):
        torch.manual_seed(0)
        data, modules[on_device] = Digits(on_device=on_device, augment=Augment(**ALL)), Network()
        trainer = pl.Trainer(max_epochs=2, num_sanity_val_steps=0, **QUIET)
        trainer.fit(modules[on_device], datamodule=data)
        trainer.test(modules[on_device], datamodule=data, verbose=False)
    assert modules[True].rows == modules[False].rows
    assert torch.equal(modules[True].layer.weight, modules[False].layer.weight)

    # of another device only where rows go can be seen here
    monkeypatch.setattr(type(trainer.strategy), "root_device", torch.device("meta"))
    for served in (data.train_dataloader(), data.val_dataloader(), data.test_dataloader(), data.predict_dataloader()):
        placed |= {tensor.device.type for batch in served for tensor in batch.values()}
    assert placed == {"meta"}
    kept = data.splits["train"]["input"]
    data.train_dataloader()
    assert data.splits["train"]["input"] is kept  # moved once


@pytest.mark.filterwarnings("error:You requested to overfit")
def test_overfitting_repeats_the_same_rows():
    data, module = Digits(augment=Augment(crop=1)), Network()
    pl.Trainer(max_epochs=3, overfit_batches=2, num_sanity_val_steps=0, **QUIET).fit(module, datamodule=data)
    train = [rows for stage, rows in module.rows if stage == "train"]
    assert train == [list(range(64)), list(range(64, 128))] * 3


def test_a_column_is_narrowed_to_its_class():
    windows = Windows(torch.arange(6.0).view(6, 1), torch.tensor([0, 2]), 2)
    split = {"input": windows, "target": torch.zeros(2)}
    assert column_as(split, "input", Windows) is windows
    assert tensor_of(split, "target") is split["target"]
    with pytest.raises(TypeError, match="column input is a Windows, not a Tensor"):
        tensor_of(split, "input")
