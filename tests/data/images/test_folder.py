"""Pictures in class folders: what is read, how it is scaled, what is kept in memory, and broken files."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from src.data.images.decode import decode
from src.data.images.folder import ImageFolder
from src.errors import UserError
from tests.conftest import ROOT, Lab

RED = np.zeros((32, 48, 3), np.uint8)
RED[:16] = (200, 10, 30)  # the upper half; 16 pixels are a block of JPEG


def picture(height: int, width: int, seed: int = 0) -> Image.Image:
    """Smooth, as photographs are: noise of a few pixels, enlarged."""
    noise = np.random.default_rng(seed).integers(0, 255, (6, 6, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize((width, height), Image.BICUBIC)


def fill(folder: Path, classes: dict[str, int], height: int = 20, width: int = 30, suffix: str = ".png") -> Path:
    for name, count in classes.items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        for i in range(count):
            picture(height, width, seed=i).save(folder / name / f"{i}{suffix}")
    return folder


def ready(**options) -> ImageFolder:
    data = ImageFolder(**options)
    data.setup("fit")
    return data


# decoding ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("form", "suffix", "tolerance"),
    [("RGB", "png", 0), ("RGBA", "png", 0), ("P", "png", 8), ("RGB", "ppm", 0), ("RGB", "bmp", 0), ("RGB", "tif", 0),
     ("P", "gif", 8), ("RGB", "jpg", 6), ("RGB", "webp", 8)],
)  # fmt: skip
def test_every_format_gives_the_same_picture(tmp_path, form, suffix, tolerance) -> None:
    path = tmp_path / f"one.{suffix}"
    red = Image.fromarray(RED)
    (red.quantize(16) if form == "P" else red.convert(form)).save(path)
    read = decode(path, (32, 48), 3)
    assert read.dtype == torch.uint8
    off = (read.int() - torch.from_numpy(RED).permute(2, 0, 1)).abs()
    off[:, 15:17] = 0  # the edge, where lossy formats ring
    assert off.max() <= tolerance


@pytest.mark.parametrize("suffix", ["png", "pgm", "jpg", "tif"])
def test_grey_pictures_and_colour_ones_become_what_is_asked_for(tmp_path, suffix) -> None:
    grey = np.full((8, 8), 130, np.uint8)
    Image.fromarray(grey).save(tmp_path / f"grey.{suffix}")
    assert torch.equal(decode(tmp_path / f"grey.{suffix}", (8, 8), 3), torch.full((3, 8, 8), 130, dtype=torch.uint8))
    Image.fromarray(RED).save(tmp_path / "red.png")
    assert abs(int(decode(tmp_path / "red.png", (32, 48), 1)[0, 0, 0]) - 69) <= 1  # ITU-R 601: 0.299, 0.587, 0.114


def test_sixteen_bits_are_scaled_not_cut_off(tmp_path) -> None:
    Image.fromarray(np.full((4, 4), 130 * 256, np.uint16)).save(tmp_path / "deep.png")
    assert torch.equal(decode(tmp_path / "deep.png", (4, 4), 1), torch.full((1, 4, 4), 130, dtype=torch.uint8))


def test_photographs_are_turned_upright(tmp_path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held so that the picture must be turned by 90 degrees clockwise
    Image.fromarray(RED).rotate(90, expand=True).save(tmp_path / "turned.jpg", exif=exif)
    for size in ((32, 48), (8, 12)):  # by both decoders
        read = decode(tmp_path / "turned.jpg", size, 3).float()
        assert read[0, : size[0] // 2 - 2].mean() > 190 and read[0, size[0] // 2 + 2 :].mean() < 10


@pytest.mark.parametrize(("height", "width"), [(300, 400), (400, 300), (224, 224), (100, 90), (900, 1300)])
def test_scaled_as_torchvision_does(tmp_path, height, width) -> None:
    from torchvision import transforms

    path = tmp_path / "one.jpg"
    picture(height, width).save(path, quality=95)
    theirs = transforms.Compose([transforms.Resize(224), transforms.CenterCrop(224), transforms.PILToTensor()])
    expected = theirs(Image.open(path).convert("RGB"))
    off = (decode(path, (224, 224), 3).int() - expected.int()).abs().float()
    # the crop comes before the scaling here, so the two sample up to half a pixel apart
    assert off.mean() < 1 and off.max() <= 10


# what a folder holds -------------------------------------------------------------------------------------------------


def test_size_channels_classes_and_parts_are_found(tmp_path) -> None:
    data = ready(path=str(fill(tmp_path, {"cat": 10, "ant": 20})))
    assert data.spec.class_names == ("ant", "cat")
    assert data.spec.input_shape == (3, 20, 30)
    assert data.spec.splits == {"train": 18, "val": 6, "test": 6}
    assert data.spec.class_counts == (12, 6)


def test_pictures_of_many_sizes_become_square(tmp_path) -> None:
    fill(tmp_path, {"a": 6, "b": 5}, 40, 60)
    fill(tmp_path, {"c": 6}, 50, 44)
    assert ready(path=str(tmp_path)).spec.input_shape == (3, 40, 40)
    assert ready(path=str(tmp_path), size=16).spec.input_shape == (3, 16, 16)
    assert ready(path=str(tmp_path), size=[16, 24], channels=1).spec.input_shape == (1, 16, 24)


def test_given_parts_stay_and_missing_ones_come_from_training(tmp_path) -> None:
    fill(tmp_path / "train", {"a": 10, "b": 10})
    fill(tmp_path / "valid", {"a": 3, "b": 2})
    assert ready(path=str(tmp_path)).spec.splits == {"train": 16, "val": 5, "test": 4}
    fill(tmp_path / "test", {"b": 4})
    data = ready(path=str(tmp_path))
    assert data.spec.splits == {"train": 20, "val": 5, "test": 4}
    assert data.splits["test"]["target"].tolist() == [1, 1, 1, 1]


def test_folders_inside_a_class_belong_to_it_and_hidden_files_do_not(tmp_path) -> None:
    fill(tmp_path, {"a/monday": 4, "a/tuesday": 4, "b": 5, ".trash": 3})
    (tmp_path / "b" / ".thumbnail.png").write_bytes(b"")
    (tmp_path / "b" / "notes.txt").write_text("none")
    assert sum(ready(path=str(tmp_path)).spec.splits.values()) == 13


# memory --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("num_workers", [0, 2])
def test_batches_are_the_same_from_memory_and_from_files(tmp_path, num_workers) -> None:
    path = str(fill(tmp_path, {"a": 20, "b": 20}, suffix=".jpg"))
    kept = ready(path=path, batch_size=8, in_memory=True)
    read = ready(path=path, batch_size=8, in_memory=False, num_workers=num_workers)
    assert isinstance(kept.splits["train"]["input"], torch.Tensor)
    assert not isinstance(read.splits["train"]["input"], torch.Tensor)
    assert read.spec.input.mean == kept.spec.input.mean
    for name in ("train_dataloader", "val_dataloader", "test_dataloader"):
        for a, b in zip(getattr(kept, name)(), getattr(read, name)(), strict=True):
            assert all(torch.equal(a[column], b[column]) for column in ("input", "target", "index"))


def test_more_than_fits_is_not_kept(tmp_path) -> None:
    """800 pictures that take 600 MiB decoded, on less than a third of it."""
    fill(tmp_path, {"a": 400, "b": 400}, 8, 8)
    code = """
import resource, sys
from src.data.images.folder import ImageFolder
data = ImageFolder(path=sys.argv[1], size=512, in_memory=False, batch_size=16, standardize=False)
data.splits = data._split(data.load())
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
rows = sum(len(batch["input"]) for batch in data.train_dataloader())
print(rows, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""
    done = subprocess.run([sys.executable, "-c", code, tmp_path], cwd=ROOT, capture_output=True, text=True, check=True)
    rows, grown = map(int, done.stdout.split())
    assert rows == 480 and grown < 200


def test_the_fingerprint_follows_the_files(tmp_path) -> None:
    path = str(fill(tmp_path, {"a": 9, "b": 9}))
    prints = {ready(path=path, in_memory=False).spec.sha256}
    assert ready(path=path, in_memory=False).spec.sha256 in prints
    picture(20, 30, seed=99).save(tmp_path / "a" / "3.png")
    prints.add(ready(path=path, in_memory=False).spec.sha256)
    (tmp_path / "a" / "3.png").rename(tmp_path / "a" / "30.png")
    prints.add(ready(path=path, in_memory=False).spec.sha256)
    assert len(prints) == 3


def test_trains_to_the_same_figures_either_way(lab: Lab) -> None:
    path = fill(lab.folder / "pictures", {"a": 30, "b": 30}, 12, 12)
    common = ["data=image_folder", f"data.path={path}", "trainer.max_epochs=2", "tracking.system_metrics=false"]
    for options in (["data.in_memory=true"], ["data.in_memory=false", "data.num_workers=2"]):
        result = lab.train(*common, *options)
        assert result.code == 0, result.err
    first, second = (lab.points(run.info.run_id) for run in lab.runs())
    assert first == second and len(first["val/loss"]) == 2


# broken data ---------------------------------------------------------------------------------------------------------


def test_what_is_wrong_is_said_in_one_line(tmp_path) -> None:
    def refused(message: str, **options) -> None:
        with pytest.raises(UserError, match=message) as caught:
            ready(**({"path": str(tmp_path)} | options))
        assert "\n" not in str(caught.value)

    refused("/nowhere: there is no such folder", path=str(tmp_path / "nowhere"))
    refused("has 0 class folders, two or more are needed")
    fill(tmp_path, {"a": 4})
    refused("has 1 class folders, two or more are needed")
    (tmp_path / "b").mkdir()
    refused(r"no picture in the class folder .*/b \(\.jpg")
    fill(tmp_path, {"b": 1})
    refused(rf"data.path: {tmp_path}: class b: 1 row, too few for train, val, test: at least 3 are needed")
    fill(tmp_path, {"b": 4})
    for options, message in (
        ({"size": 0}, "data.size=0: one positive number"),
        ({"size": [1, 2, 3]}, r"data.size=\[1, 2, 3\]: one positive number, or \[height, width\]"),
        ({"channels": 4}, r"data.channels=4: 1 \(grey\), 3 \(colour\) or null"),
    ):
        refused(message, **options)
    refused("data.on_device=true keeps rows in memory", in_memory=False, on_device=True)
    (tmp_path / "b" / "fake.png").write_text("hello")
    refused("b/fake.png cannot be read as a picture .*repair or remove it")


def test_a_class_only_in_test_is_refused(tmp_path) -> None:
    fill(tmp_path / "train", {"a": 4, "b": 4})
    fill(tmp_path / "test", {"c": 4})
    with pytest.raises(UserError, match="test/c is no class of the training split"):
        ready(path=str(tmp_path))


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("suffix", [".png", ".jpg", ".ppm"])
def test_a_truncated_picture_is_named(tmp_path, suffix, num_workers) -> None:
    fill(tmp_path, {"a": 6, "b": 6}, 64, 64, suffix)
    broken = tmp_path / "b" / f"3{suffix}"
    broken.write_bytes(broken.read_bytes()[: broken.stat().st_size * 2 // 3])
    with pytest.raises(UserError, match=rf"b/3\{suffix} cannot be read as a picture") as caught:
        ready(path=str(tmp_path), in_memory=True)
    assert "\n" not in str(caught.value) and "::" not in str(caught.value)
    data = ImageFolder(path=str(tmp_path), in_memory=False, num_workers=num_workers)
    data.splits = {"train": data.load()["all"]}
    with pytest.raises(UserError, match=rf"b/3\{suffix} cannot be read as a picture"):
        list(data.train_dataloader())


@pytest.mark.parametrize("in_memory", [True, False])
def test_bad_pictures_are_left_out_and_listed(tmp_path, capsys, in_memory) -> None:
    fill(tmp_path, {"a": 10, "b": 10}, 64, 64, ".jpg")
    truncated, fake, hidden = tmp_path / "b" / "3.jpg", tmp_path / "a" / "fake.png", tmp_path / "a" / "20.png"
    truncated.write_bytes(truncated.read_bytes()[: truncated.stat().st_size * 2 // 3])
    fake.write_text("hello")
    hidden.write_bytes(b"")
    with pytest.raises(UserError, match="a/20.png cannot be read as a picture"):
        ready(path=str(tmp_path), in_memory=in_memory)
    data = ready(path=str(tmp_path), in_memory=in_memory, on_bad="skip")
    assert list(data.left_out) == ["a/20.png", "a/fake.png", "b/3.jpg"]
    (line,) = capsys.readouterr().err.splitlines()
    expected = "3 of 22 pictures cannot be decoded and are left out: a/20.png, a/fake.png, b/3.jpg"
    assert line == f"{tmp_path.name}: {expected}"
    assert data.describe()["left_out"] == data.left_out and "its content is not" in data.left_out["a/fake.png"]

    for path in (truncated, fake, hidden):
        path.unlink()
    clean = ready(path=str(tmp_path), in_memory=in_memory, on_bad="skip")
    assert clean.describe()["left_out"] == {} and capsys.readouterr().err == ""
    assert data.spec == clean.spec  # the fingerprint too
    for one, other in zip(data.train_dataloader(), clean.train_dataloader(), strict=True):
        assert all(torch.equal(one[column], other[column]) for column in one)


def test_a_class_of_bad_pictures_and_folders_of_nothing_else_are_refused(tmp_path) -> None:
    fill(tmp_path, {"a": 6, "b": 6})
    for i in range(6):
        (tmp_path / "b" / f"{i}.png").write_text("hello")
    with pytest.raises(UserError, match="no picture of class b in all can be decoded"):
        ready(path=str(tmp_path), on_bad="skip")
    for i in range(6):
        (tmp_path / "a" / f"{i}.png").write_text("hello")
    with pytest.raises(UserError, match="of the pictures looked at in .* none can be read"):
        ready(path=str(tmp_path), on_bad="skip")
    with pytest.raises(UserError, match="data.on_bad=ignore: error or skip"):
        ready(path=str(tmp_path), on_bad="ignore")


def test_a_model_is_evaluated_on_another_folder_without_its_bad_pictures(tmp_path, capsys) -> None:
    data = ready(path=str(fill(tmp_path / "first", {"a": 10, "b": 10})))
    fill(tmp_path / "second", {"a": 3, "b": 4})
    (tmp_path / "second" / "b" / "fake.png").write_text("hello")
    other = ImageFolder(path=str(tmp_path / "second"), on_bad="skip")
    other.reuse(data.spec)
    assert other.splits["test"]["target"].tolist() == [0] * 3 + [1] * 4
    assert sum(len(batch["input"]) for batch in other.test_dataloader()) == 7
    assert "second: 1 of 8 pictures cannot be decoded and are left out: b/fake.png" in capsys.readouterr().err
