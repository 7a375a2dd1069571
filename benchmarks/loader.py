"""Time of a batch of 64 MNIST images: the in-memory loader beside torch's DataLoader over a TensorDataset.

    python benchmarks/loader.py

Both serve shuffled epochs of 60,000 images (1, 28, 28) uint8 with targets. CPU time counts all threads of the process.
Where there is no MNIST, random images of its shape stand in for it.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterable
from functools import partial

import torch
from _problems import mnist_folder
from _rounds import Column, alternate, show
from torch.utils.data import DataLoader, TensorDataset

from src.data.core.loader import Loader
from src.data.core.samplers import EpochSampler
from src.data.images.classic import Torchvision

ROWS, BATCH_SIZE = 60_000, 64


def mnist() -> tuple[dict[str, torch.Tensor], str]:
    """All training images, and what they are."""
    if (mnist_folder() / "MNIST").is_dir():
        return Torchvision(name="mnist", root=str(mnist_folder())).load()["train"], "MNIST"
    images = torch.randint(0, 256, (ROWS, 1, 28, 28), dtype=torch.uint8)
    return {"input": images, "target": torch.randint(0, 10, (ROWS,))}, "random images of MNIST's shape"


def epoch(loader: Iterable) -> dict[str, float]:
    """Microseconds a batch over one epoch."""
    wall, cpu = time.perf_counter(), time.process_time()
    batches = sum(1 for _ in loader)
    return {
        "wall": (time.perf_counter() - wall) / batches * 1e6,
        "cpu": (time.process_time() - cpu) / batches * 1e6,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    data, what = mnist()
    theirs = DataLoader(TensorDataset(*data.values()), batch_size=BATCH_SIZE, shuffle=True)
    ours = Loader(data, EpochSampler(len(data["target"]), BATCH_SIZE, seed=0, shuffle=True))
    contestants = {"DataLoader(TensorDataset)": partial(epoch, theirs), "Loader": partial(epoch, ours)}
    medians = alternate(contestants, options.rounds)
    columns = {"wall": Column("wall, µs a batch"), "cpu": Column("CPU, µs a batch")}
    show(f"{what}, batches of {BATCH_SIZE}", medians, columns, f"{options.rounds} rounds, {options.threads} threads")


if __name__ == "__main__":
    main()
