"""How long a batch of 64 MNIST images takes: the in-memory loader beside torch's DataLoader over a TensorDataset.

    python benchmarks/loader.py

Both serve one shuffled epoch of 60,000 images (1, 28, 28) uint8 with targets, in turn, several times; the table gives
the median round. CPU time counts all threads of this process. Real MNIST is used where it lies in $LABBOOK_DATA/mnist
or ../shared/data/mnist.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Iterable
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from torch.utils.data import DataLoader, TensorDataset

PROJECT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(PROJECT))

from src.data.images import Torchvision  # noqa: E402  (the project is imported from its root)
from src.data.loading import EpochSampler, Loader  # noqa: E402

ROWS, BATCH_SIZE = 60_000, 64


def mnist() -> tuple[dict[str, torch.Tensor], str]:
    """All training images, and where they come from."""
    for folder in (os.environ.get("LABBOOK_DATA"), PROJECT.parent / "shared" / "data"):
        if folder and (Path(folder) / "mnist").is_dir():
            return Torchvision(name="mnist", root=str(Path(folder) / "mnist")).load()["train"], "MNIST"
    images = torch.randint(0, 256, (ROWS, 1, 28, 28), dtype=torch.uint8)
    return {"input": images, "target": torch.randint(0, 10, (ROWS,))}, "random images of MNIST's shape"


def epoch(loader: Iterable) -> tuple[float, float]:
    """(wall, CPU) microseconds a batch over one epoch."""
    time.sleep(
        0.1
    )  # torch's idle threads spin on for some milliseconds: not to be billed to the loader that comes next
    wall, cpu, batches = time.perf_counter(), time.process_time(), 0
    for _ in loader:
        batches += 1
    return (time.perf_counter() - wall) / batches * 1e6, (time.process_time() - cpu) / batches * 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)

    data, source = mnist()
    sampler = EpochSampler(len(data["target"]), BATCH_SIZE, seed=0, shuffle=True)
    loaders = {
        "DataLoader(TensorDataset)": DataLoader(TensorDataset(*data.values()), batch_size=BATCH_SIZE, shuffle=True),
        "Loader": Loader(data, sampler),
    }
    rounds: dict[str, list[tuple[float, float]]] = {name: [] for name in loaders}
    for number in range(options.rounds + 1):  # the first one warms up
        sampler.set_epoch(number)
        for name, loader in loaders.items():
            rounds[name].append(epoch(loader))

    median = {name: [statistics.median(t) for t in zip(*times[1:], strict=True)] for name, times in rounds.items()}
    base = median["DataLoader(TensorDataset)"]
    table = Table(title=f"{source}, batches of {BATCH_SIZE}, {options.rounds} rounds, {options.threads} threads")
    table.add_column("", no_wrap=True)
    for column in ("wall, µs", "CPU, µs", "wall, ratio", "CPU, ratio"):
        table.add_column(column, justify="right")
    for name, (wall, cpu) in median.items():
        table.add_row(name, f"{wall:.1f}", f"{cpu:.1f}", f"{wall / base[0]:.3f}", f"{cpu / base[1]:.3f}")
    Console().print(table)


if __name__ == "__main__":
    main()
