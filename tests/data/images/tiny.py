"""Tiny folders of pictures, and generated pictures in the place of downloads."""

from __future__ import annotations

import itertools

import numpy as np
import torch
from PIL import Image

from src.data.core.module import DataModule
from src.data.images.classic import Torchvision
from tests.scratch import Tiny, at, scratch


def generated(data: Torchvision) -> dict:
    """Rows of a download's own shape; that the download itself is read rightly is tested with the real files."""
    shape = (1, 28, 28) if "mnist" in data.name else (3, 32, 32)
    classes = 100 if data.name == "cifar100" else 10
    data.class_names = tuple(map(str, range(classes)))
    draw = torch.Generator().manual_seed(0)

    def part(rows: int) -> dict:
        target = torch.arange(rows) % classes
        inputs = torch.randint(0, 64, (rows, *shape), dtype=torch.uint8, generator=draw)
        inputs[:, :, 0, :2] = (target * 191 // classes).to(torch.uint8)[:, None, None]
        return {"input": inputs, "target": target}

    return {"train": part(10 * classes), "test": part(2 * classes)}


def picture_folder() -> str:
    """Three classes of small grey pictures, which differ in brightness."""
    folder = scratch() / "pictures"
    draw = np.random.default_rng(0)
    for label, row in itertools.product(range(3), range(20)):
        (folder / f"class{label}").mkdir(parents=True, exist_ok=True)
        pixels = draw.integers(60 * label, 60 * label + 40, (12, 12), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"class{label}" / f"{row}.png")
    return str(folder)


def drive() -> str:
    """A log whose pictures have a white column where the steering points to; paths are those of another computer."""
    folder, rows = scratch() / "drive", []
    (folder / "IMG").mkdir(parents=True, exist_ok=True)
    for row in range(40):
        steering = (row * 7 % 40 - 20) / 20
        for camera in ("center", "left", "right"):
            pixels = np.zeros((16, 32, 3), np.uint8)
            pixels[:, round(16 + 15 * steering) % 32] = 255
            Image.fromarray(pixels).save(folder / "IMG" / f"{camera}_{row}.png")
        names = (f"C:\\Users\\driver\\IMG\\{camera}_{row}.png" for camera in ("center", "left", "right"))
        rows.append(",".join([*names, f"{steering}", "1", "0", "9.5"]))
    (folder / "driving_log.csv").write_text("\n".join(rows))
    return str(folder)


def fill(data: DataModule) -> None:
    data.load = lambda: generated(data)


GLYPHS = ["data.letters=10", "data.drawings=8", "data.held_out_classes=3", "data.val_classes=2"]
DATASETS = {
    "image_folder": at(picture_folder),
    "driving_log": at(drive),
    "glyphs": Tiny(lambda: GLYPHS),
    **dict.fromkeys(("cifar10", "cifar100", "fashion_mnist", "mnist", "svhn"), Tiny(fill=fill)),
}
