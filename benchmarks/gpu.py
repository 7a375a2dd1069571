"""Speed of a GPU with the options that are for it: samples a second and share of the card's peak, side by side.

    python benchmarks/gpu.py
    python benchmarks/gpu.py --device cpu --rows 512 --epochs 2 --rounds 1 --no-compile    the same code without a GPU

One table a problem: the beginner's net on a table, and model=cnn on images of MNIST's and of CIFAR-10's shape, all on
random data. A figure is the time of whole epochs without validation, the first one left out; MFU is 3 x forward FLOPs x
samples a second over the dense peak of the card in that precision, and nan where src/training/cost.py does not know it.

TF32 is torch's `float32_matmul_precision`: "highest" keeps matrix products in 32 bits, "high" lets tensor cores take
them as TF32. Convolutions are allowed TF32 by torch's default, so that `fp32` here switches it off for them too. All
lines have trainer.deterministic=true, which TF32 does not contradict: it rounds inputs, and leaves the order as it is.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import tempfile
import time
import warnings
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytorch_lightning as pl
import torch
from _rounds import Column, alternate, show
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from src.config import compose
from src.data.core.loader import Batch
from src.data.core.splits import Split
from src.data.images.classic import Torchvision
from src.experiment.assemble import assemble
from src.experiment.run import quieten
from src.runtime.signals import Signals
from src.training import cost

SCRATCH = Path(tempfile.mkdtemp(prefix="labbook-bench-"))
IMAGES = ["model=cnn", "data.augment.crop=0", "data.augment.flip=false", "scheduler=none"]
PROBLEMS = {
    "beginner's net, batches of 32": ["experiment=keras_example", "data.rows={rows}", "data.batch_size=32"],
    "cnn on 1x28x28, batches of 64": [*IMAGES, "data=mnist", "data.batch_size=64"],
    "cnn on 3x32x32, batches of 512": [*IMAGES, "data=cifar10", "data.batch_size=512", "model.channels=[64,256,256]"],
}
ON_DEVICE, LAST, BF16 = "data.on_device=true", "channels_last=true", "trainer.precision=bf16-mixed"
# name: (options, float32_matmul_precision, rows through torch's DataLoader)
LINES: dict[str, tuple[list[str], str, bool]] = {
    "fp32, rows on the host": ([], "highest", False),
    "the same through DataLoader": ([], "highest", True),
    "fp32, on_device": ([ON_DEVICE], "highest", False),
    "tf32, on_device": ([ON_DEVICE], "high", False),
    "bf16-mixed, on_device": ([ON_DEVICE, BF16], "high", False),
    "tf32, on_device, channels_last": ([ON_DEVICE, LAST], "high", False),
    "bf16-mixed, on_device, channels_last": ([ON_DEVICE, BF16, LAST], "high", False),
    "tf32, on_device, compile": ([ON_DEVICE, "compile=true"], "high", False),
    "tf32, on_device, reduce-overhead": ([ON_DEVICE, "compile=reduce-overhead"], "high", False),
    "bf16-mixed, on_device, channels_last, reduce-overhead": (
        [ON_DEVICE, BF16, LAST, "compile=reduce-overhead"],
        "high",
        False,
    ),
}


class Epochs(pl.Callback):
    """Marks when an epoch begins, once the device has done all that it was given."""

    def __init__(self) -> None:
        self.marks: list[float] = []

    def _mark(self, *_: object) -> None:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.marks.append(time.perf_counter())

    on_train_epoch_start = on_train_end = _mark


class HostRows(DataLoader):
    """The usual way: a DataLoader over a TensorDataset in pinned memory, four workers."""

    def __init__(self, part: Split, batch_size: int) -> None:
        rows = TensorDataset(part["input"], part["target"])
        workers = {"num_workers": 4, "persistent_workers": True}
        options = {"shuffle": True, "drop_last": True, "pin_memory": torch.cuda.is_available(), "collate_fn": collate}
        super().__init__(rows, batch_size, **options, **workers)


def collate(rows: list[tuple[Tensor, Tensor]]) -> Batch:
    return {
        name: torch.stack(column) for name, column in zip(("input", "target"), zip(*rows, strict=True), strict=True)
    }


@contextlib.contextmanager
def matmul_precision(wanted: str) -> Iterator[None]:
    """float32_matmul_precision, and the same for convolutions."""
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    torch.set_float32_matmul_precision(wanted)
    torch.backends.cudnn.allow_tf32 = wanted != "highest"
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before[0])
        torch.backends.cudnn.allow_tf32 = before[1]


def use_random_images(rows: int) -> None:
    """Make torchvision's datasets serve random images of their shape, and download nothing."""

    def load(data: Torchvision) -> dict[str, Split]:
        data.class_names = tuple("0123456789")
        shape = (1, 28, 28) if data.name == "mnist" else (3, 32, 32)
        return {
            name: {"input": torch.randint(0, 256, (n, *shape), dtype=torch.uint8), "target": torch.arange(n) % 10}
            for name, n in {"train": rows, "val": 100, "test": 100}.items()
        }

    Torchvision.load, Torchvision.prepare_data = load, lambda data: None


def fit(problem: str, line: str, options: argparse.Namespace) -> dict[str, float]:
    extra, precision, through_loader = LINES[line]
    overrides = [text.format(rows=options.rows) for text in PROBLEMS[problem]] + extra
    overrides += [f"trainer.max_epochs={options.epochs}", "data.drop_last=true", "trainer.limit_val_batches=0"]
    overrides += [f"trainer.accelerator={'gpu' if options.device == 'cuda' else 'cpu'}"]
    torch.compiler.reset()
    with matmul_precision(precision):
        parts = assemble(compose(overrides), Signals())
        flops = cost.flops(parts.model, next(iter(parts.data.val_dataloader())))
        if through_loader:
            served = HostRows(parts.data.splits["train"], parts.data.batch_size)
            parts.data.train_dataloader = lambda: served
        epochs = Epochs()
        parts.trainer.callbacks.insert(0, epochs)
        parts.checkpoint.directory = SCRATCH
        parts.trainer.fit(parts.model, datamodule=parts.data)
        name = torch.cuda.get_device_name() if options.device == "cuda" else "cpu"
        peak = cost.peak_flops(name, parts.trainer.precision, tf32=cost.takes_tf32(parts.model))
    samples = parts.data.spec.splits["train"] // parts.data.batch_size * parts.data.batch_size * (options.epochs - 1)
    rate = samples / (epochs.marks[-1] - epochs.marks[1])
    return {"rate": rate, "mfu": 100 * cost.utilization(flops, rate, peak) if peak else float("nan")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--rows", type=int, default=50_000)
    parser.add_argument("--epochs", type=int, default=4, help="of which the first does not count")
    parser.add_argument("--compile", action=argparse.BooleanOptionalAction, default=True, help="compiled lines as well")
    options = parser.parse_args()
    if options.device == "cuda" and not torch.cuda.is_available():
        print("gpu.py: there is no GPU here, so nothing is measured")
        return
    quieten()
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    use_random_images(options.rows)
    name = torch.cuda.get_device_name() if options.device == "cuda" else "cpu"
    columns = {"rate": Column("samples a second", ",.0f"), "mfu": Column("MFU, %", ".2f")}
    for problem, overrides in PROBLEMS.items():
        chosen = [
            line
            for line, (extra, *_) in LINES.items()
            if (options.compile or not any("compile" in option for option in extra))
            and ("model=cnn" in overrides or LAST not in extra)
        ]
        contestants = {line: partial(fit, problem, line, options) for line in chosen}
        show(problem, alternate(contestants, options.rounds), columns, f"{name}, {options.rounds} rounds")


if __name__ == "__main__":
    main()
