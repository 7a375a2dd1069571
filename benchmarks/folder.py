"""Pictures read from files by 2 workers: Labbook's image folder beside torchvision's ImageFolder and DataLoader.

    python benchmarks/folder.py                  1,000 generated photographs of 500x375, as JPEG, to 224x224
    python benchmarks/folder.py --folder PATH    your own class folders, to --size

Nothing is kept in memory between two epochs. Theirs: Resize, CenterCrop, RandomHorizontalFlip, ToTensor, Normalize on
each picture, as in torchvision's reference scripts, with its first and its second generation of transforms. Ours: the
same crop and scaling, mirrored in the worker, normalised batch by batch in the main process as a model does it, on
uint8 until then. One epoch through all batches, workers running already.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Iterable
from functools import partial
from pathlib import Path

import numpy as np
from _rounds import Column, alternate, show

import torch  # isort: skip
from torch.utils.data import DataLoader
from torchvision import datasets
from torchvision import transforms as v1
from torchvision.transforms import v2

from src.data.images.augment import Augment
from src.data.images.folder import ImageFolder
from src.runtime import allocator

BATCH_SIZE = 64


def photographs(folder: Path, count: int) -> None:
    """Pictures whose spectrum falls with the frequency as that of photographs does, some 60 kB each as JPEG."""
    from PIL import Image

    height, width = 375, 500
    random = np.random.default_rng(0)
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None])
    frequency[0, 0] = 1 / width
    for i in range(count):
        noise = np.fft.rfft2(random.standard_normal((3, height, width))) / frequency
        pixels = np.fft.irfft2(noise, s=(height, width))
        pixels = 128 + pixels * (50 / pixels.std())
        place = folder / f"class{i % 10}" / f"{i:04}.jpg"
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8).transpose(1, 2, 0)).save(place, quality=85)


def theirs(folder: Path, size: int, workers: int, compose: v1.Compose) -> DataLoader:
    return DataLoader(
        datasets.ImageFolder(str(folder), compose),
        batch_size=BATCH_SIZE,
        shuffle=True,
        num_workers=workers,
        persistent_workers=workers > 0,
    )


def epoch(loader: Iterable, use: object = None) -> dict[str, float]:
    """Pictures a second over one epoch; `use` is what is done with each batch."""
    start, rows = time.perf_counter(), 0
    for batch in loader:
        pictures = batch["input"] if isinstance(batch, dict) else batch[0]
        if use is not None:
            pictures = use(pictures)
        assert pictures.dtype == torch.float32
        rows += len(pictures)
    return {"rate": rows / (time.perf_counter() - start)}


def measure(folder: Path, size: int, workers: int, rounds: int, title: str) -> None:
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    first = [v1.Resize(size), v1.CenterCrop(size), v1.RandomHorizontalFlip(), v1.ToTensor(), v1.Normalize(mean, std)]
    second = [v2.Resize(size), v2.CenterCrop(size), v2.RandomHorizontalFlip(), v2.PILToTensor()]
    second += [v2.ToDtype(torch.float32, scale=True), v2.Normalize(mean, std)]
    data = ImageFolder(
        path=str(folder),
        size=size,
        channels=3,
        in_memory=False,
        num_workers=workers,
        batch_size=BATCH_SIZE,
        augment=Augment(flip=True),
        standardize=False,
    )
    whole = data.load()["all"]
    data.splits = {"train": whole}  # all of it, as theirs
    shift = torch.tensor(mean).view(3, 1, 1) * 255
    scale = 1 / (torch.tensor(std).view(3, 1, 1) * 255)
    contestants = {
        "ImageFolder + DataLoader": partial(epoch, theirs(folder, size, workers, v1.Compose(first))),
        "the same, transforms v2": partial(epoch, theirs(folder, size, workers, v2.Compose(second))),
        "Labbook": partial(epoch, data.train_dataloader(), lambda x: (x.float() - shift) * scale),
    }
    medians = alternate(contestants, rounds)
    note = f"{len(whole['target'])} pictures, {workers} workers, {rounds} rounds"
    show(title, medians, {"rate": Column("pictures a second", ",.0f")}, note)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--pictures", type=int, default=1000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    allocator.keep_freed()  # as a training command does; their side has it too
    torch.set_num_threads(1)  # the workers have the cores
    if options.folder is not None:
        measure(
            options.folder, options.size, options.workers, options.rounds, f"{options.folder.name} to {options.size}"
        )
        return
    with tempfile.TemporaryDirectory(prefix="labbook-bench-") as scratch:
        photographs(Path(scratch), options.pictures)
        title = f"photographs of 500x375 to {options.size}x{options.size}"
        measure(Path(scratch), options.size, options.workers, options.rounds, title)
    sys.stdout.flush()


if __name__ == "__main__":
    main()
