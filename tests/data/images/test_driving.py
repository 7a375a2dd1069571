"""Logs of driving: files found wherever the log was written, steering turned with its picture, what is refused."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from src.config import compose
from src.data.images.augment import Augment
from src.data.images.decode import decode
from src.data.images.driving import DrivingLog, steered
from src.data.images.inputs import Pictures
from src.errors import UserError
from src.experiment.assemble import assemble
from src.runtime.signals import Signals
from tests.data.images.tiny import drive

SIZE, CROP = [8, 32], [0.25, 0.25]


def data(path: str | Path, **options) -> DrivingLog:
    made = DrivingLog(path=str(path), **({"size": SIZE, "crop": CROP} | options))
    made.setup()
    return made


@pytest.fixture
def folder(tmp_path) -> Path:
    return Path(shutil.copytree(drive(), tmp_path / "drive"))


def lines(folder: Path) -> list[str]:
    return (folder / "driving_log.csv").read_text().splitlines()


def rewrite(folder: Path, rows: list[str]) -> Path:
    (folder / "driving_log.csv").write_text("".join(f"{row}\n" for row in rows))
    return folder


def test_pictures_are_found_by_name_and_lie_beside_their_steering(folder) -> None:
    made = data(folder)
    assert made.spec.splits == {"train": 24, "val": 8, "test": 8} and made.spec.input_shape == (3, 8, 32)
    assert made.spec.tasks[0] == "regression" and made.spec.input.crop == (0.25, 0.25)
    for name, part in made.splits.items():
        white = part["input"][:, 0].float().mean(1).argmax(1)  # the column that the steering points to
        assert torch.equal(white, (16 + 15 * part["target"]).round().long() % 32), name
        file = folder / "IMG" / made.row_name(name, 2).removeprefix(f"{name} ")
        assert torch.equal(part["input"][2], decode(file, (8, 32), 3, (0.25, 0.25)))


def test_a_header_names_the_columns_in_any_order(folder) -> None:
    expected = data(folder)
    rows = [line.split(",") for line in lines(folder)]
    turned = [",".join(reversed(row)) for row in rows]
    made = data(rewrite(folder, ["speed,brake,throttle,Steering,right,left,centre", *turned]))
    assert made.spec.sha256 == expected.spec.sha256


def test_only_training_has_the_pictures_of_the_sides(folder) -> None:
    (folder / "IMG" / "left_0.png").unlink()
    made, centre = data(folder, side_correction=0.2, val_fraction=0.1, test_fraction=0.1), data(folder)
    rows = len(made.splits["train"]["target"])
    assert {name: len(part["target"]) for name, part in made.splits.items() if name != "train"} == {"val": 4, "test": 4}
    names = [made.row_name("train", row) for row in range(rows)]
    numbers = {camera: [n for n in names if camera in n] for camera in ("center", "left", "right")}
    assert [len(found) for found in numbers.values()] in ([32, 31, 32], [32, 32, 32])
    target = made.splits["train"]["target"]
    by_name = dict(zip(names, target.tolist(), strict=True))
    for name, steering in by_name.items():
        if "center" in name:
            right = by_name[name.replace("center", "right")]
            assert right == pytest.approx(max(-1, steering - 0.2), abs=1e-6)
    assert made.describe()["missing"]["left"] == {"count": 1, "first": ["row 1"]}
    assert centre.describe()["missing"] == {"center": {"count": 0, "first": []}}


def test_rows_without_a_picture_stop_or_are_left_out_and_counted(folder) -> None:
    for row in (3, 7):
        (folder / "IMG" / f"center_{row}.png").unlink()
    with pytest.raises(UserError, match=r"row 4, column center: the picture is not in .*1 further rows"):
        data(folder)
    made = data(folder, on_missing="skip")
    assert sum(made.spec.splits.values()) == 38
    assert made.describe()["missing"]["center"] == {"count": 2, "first": ["row 4", "row 8"]}


def test_a_mirrored_picture_has_the_opposite_steering() -> None:
    pixels = torch.arange(6 * 3 * 2 * 10).view(6, 3, 2, 10) % 251
    batch = {"input": pixels.to(torch.uint8), "target": torch.linspace(-1, 1, 6), "index": torch.arange(6)}
    options = {"seed": 0, "mirror": True, "shift": 0.0, "correction": 0.0, "further": None}
    turned = 0
    for epoch in range(4):
        changed = steered(batch, epoch, **options)
        for row in range(6):
            mirrored = torch.equal(changed["input"][row], batch["input"][row].flip(-1))
            assert mirrored or torch.equal(changed["input"][row], batch["input"][row])
            assert changed["target"][row] == (-batch["target"][row] if mirrored else batch["target"][row])
            turned += mirrored
    assert 4 < turned < 20
    assert torch.equal(steered(batch, 3, **options)["input"], changed["input"])


def test_a_picture_moved_sideways_is_steered_back() -> None:
    pixels = torch.zeros(200, 1, 1, 20, dtype=torch.uint8)
    pixels[..., 10] = 255
    batch = {"input": pixels, "target": torch.zeros(200), "index": torch.arange(200)}
    changed = steered(batch, 0, seed=1, mirror=False, shift=0.2, correction=0.5, further=None)
    moved = changed["input"][:, 0, 0].float().argmax(1) - 10
    assert set(moved.tolist()) == set(range(-4, 5))
    torch.testing.assert_close(changed["target"], 0.5 * moved / 20)


def test_a_new_picture_is_cropped_as_those_of_training(folder) -> None:
    made = data(folder)
    rows = next(Pictures(made.spec, path=folder / "IMG").batches(200))
    names = [made.row_name("test", row).removeprefix("test ") for row in range(8)]
    found = torch.stack([rows.input[rows.names["file"].index(name)] for name in names])
    assert torch.equal(found, made.splits["test"]["input"])


def test_another_drive_is_judged_whole(folder) -> None:
    made = data(drive(), size=[4, 16])
    other = DrivingLog(path=str(folder), side_correction=0.3)
    other.reuse(made.spec)
    assert other.splits["test"]["input"].shape == (40, 3, 4, 16)


def test_steering_is_learned(tmp_path) -> None:
    given = [f"data.path={drive()}", "data.size=[8,32]", "data.crop=[0,0]", "trainer=cpu", "model.channels=[16,16]"]
    given += ["model.pool_size=4", "optimizer.lr=0.003"]
    config = compose(["data=driving_log", "model=cnn", *given, "trainer.max_epochs=40", "data.batch_size=8"])
    torch.set_num_threads(1)
    made = assemble(config, Signals())
    made.checkpoint.directory = made.texts.folder = made.pictures.folder = tmp_path
    made.trainer.fit(made.model, datamodule=made.data)
    assert made.model.best("val/rmse")[1] < 0.5 * made.data.spec.target.std


# what is refused -----------------------------------------------------------------------------------------------------


def broken(folder: Path, what: str) -> Path:
    rows = lines(folder)
    if what == "steering":
        rows[4] = ",".join([*rows[4].split(",")[:3], "sharp", *rows[4].split(",")[4:]])
    elif what == "empty cell":
        rows[4] = ",".join([*rows[4].split(",")[:3], "", *rows[4].split(",")[4:]])
    elif what == "empty":
        rows = []
    elif what == "header only":
        rows = ["center,left,right,steering,throttle,brake,speed"]
    elif what == "column":
        rows = ["center,left,right,stering,throttle,brake,speed", *rows]
    elif what == "narrow":
        rows = [",".join(row.split(",")[:3]) for row in rows]
    elif what == "no log":
        (folder / "driving_log.csv").unlink()
        return folder
    elif what == "pictures":
        shutil.rmtree(folder / "IMG")
    elif what == "sides":
        for path in [*(folder / "IMG").glob("left*"), *(folder / "IMG").glob("right*")]:
            path.unlink()
    elif what == "damaged":
        (folder / "IMG" / "center_5.png").write_bytes(b"no picture")
    return rewrite(folder, rows)


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("steering", "row 5, column 3: 'sharp' is no number"),
        ("empty cell", "row 5, column 3: has no value"),
        ("empty", "is empty"),
        ("header only", "has no rows"),
        ("column", "has no column steering (did you mean stering?)"),
        ("narrow", "has no column center"),
        ("no log", "there is no "),
        ("pictures", "none of its 40 centre pictures is in "),
        ("sides", "no picture of the left or right camera"),
        ("damaged", "center_5.png cannot be read as a picture"),
    ],
)
def test_a_log_that_cannot_be_used(folder, what: str, message: str) -> None:
    with pytest.raises(UserError) as error:
        data(broken(folder, what), side_correction=0.2 if what == "sides" else None)
    assert message in str(error.value) and len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"crop": [0.6, 0.5]}, "two shares of the height"),
        ({"shift": 1.5}, "data.shift=1.5"),
        ({"channels": 2}, "data.channels=2: 1 (grey) or 3 (colour)"),
        ({"on_missing": "ignore"}, "data.on_missing=ignore: error or skip"),
        ({"augment": Augment(flip=True)}, "data.mirror=true turns both round"),
    ],
)
def test_options_that_make_no_sense(option: dict, message: str) -> None:
    with pytest.raises(UserError) as error:
        data(drive(), **option)
    assert message in str(error.value)
