"""Two problems and the plain loop that trains them, as a careful person writes it: torch and torchmetrics alone."""

from __future__ import annotations

import gzip
import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
import torchmetrics as tm
from torch import Tensor, nn
from torchmetrics import classification as tmc

PROJECT = Path(__file__).resolve().parent.parent
Rows = tuple[Tensor, Tensor]


def mnist_folder() -> Path:
    """Folder of MNIST's files: $LABBOOK_DATA/mnist, ../shared/data/mnist, or data/ in the project."""
    for folder in (os.environ.get("LABBOOK_DATA"), PROJECT.parent / "shared" / "data"):
        if folder and (Path(folder) / "mnist").is_dir():
            return Path(folder) / "mnist"
    return PROJECT / "data"


class Problem:
    """Rows, net, loss and metrics of `beginner` (20-64-32-1, 1,000 rows) or `mnist` (the default cnn, 4,000 images).

    Attributes:
        train, val: (input, target).
        epochs: enough for a figure.
    """

    def __init__(self, name: str, rows: int = 1000) -> None:
        self.name = name
        if name == "beginner":
            self.batch_size, self.epochs = 32, max(4, 120_000 // rows)
            draw = torch.Generator().manual_seed(0)
            parts = [(torch.rand(n, 20, generator=draw), torch.randint(2, (n,), generator=draw)) for n in (rows, 1000)]
            self.train, self.val = parts
        else:
            self.batch_size, self.epochs = 64, 3
            images = _idx("train-images-idx3-ubyte.gz", 16).reshape(-1, 1, 28, 28)
            labels = _idx("train-labels-idx1-ubyte.gz", 8).astype(np.int64)
            cuts = (slice(0, 4000), slice(4000, 5000))
            # copies, as the whole would stay in memory otherwise
            self.train, self.val = ((_tensor(images[cut]), _tensor(labels[cut])) for cut in cuts)
        self.steps = -(-len(self.train[1]) // self.batch_size)

    def net(self) -> nn.Module:
        torch.manual_seed(0)
        if self.name == "beginner":
            return nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 1))
        pool = nn.MaxPool2d(2)
        layers = [*_block(1, 16), *_block(16, 16), pool, *_block(16, 32), pool, *_block(32, 64), nn.AvgPool2d(2)]
        return nn.Sequential(_Standardize(), *layers, nn.Flatten(), nn.Linear(576, 10))

    def loss(self, outputs: Tensor, target: Tensor) -> Tensor:
        if self.name == "beginner":
            return F.binary_cross_entropy_with_logits(outputs.squeeze(-1), target.float())
        return F.cross_entropy(outputs, target)

    def predict(self, outputs: Tensor) -> Tensor:
        return outputs.squeeze(-1).sigmoid() if self.name == "beginner" else outputs.softmax(-1)

    def metrics(self) -> tm.MetricCollection:
        if self.name == "beginner":
            kinds = (tmc.BinaryAccuracy, tmc.BinaryAUROC, tmc.BinaryF1Score, tmc.BinaryAveragePrecision)
            return tm.MetricCollection([kind(validate_args=False) for kind in kinds], compute_groups=False)
        accuracy = tmc.MulticlassAccuracy(10, average="micro", validate_args=False)
        f1 = tmc.MulticlassF1Score(10, average="macro", validate_args=False)
        return tm.MetricCollection([accuracy, f1], compute_groups=False)


def _idx(name: str, header: int) -> np.ndarray:
    with gzip.open(mnist_folder() / "MNIST" / "raw" / name) as file:
        return np.frombuffer(file.read(), np.uint8, offset=header)


def _tensor(array: np.ndarray) -> Tensor:
    return torch.from_numpy(array.copy())


def _block(size: int, out: int) -> list[nn.Module]:
    return [nn.Conv2d(size, out, 3, padding=1, bias=False), nn.BatchNorm2d(out), nn.ReLU()]


class _Standardize(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return (x.float() - 33.3) * (1 / 78.6)


class Epochs:
    """Marks the beginning of every epoch; `figures` is what the epochs after the first cost a step, in microseconds."""

    def __init__(self, steps: int) -> None:
        self.steps = steps
        self.marks: list[tuple[float, float]] = []

    def mark(self, *_: object) -> None:
        self.marks.append((time.perf_counter(), time.process_time()))

    def figures(self) -> dict[str, float]:
        steps = self.steps * (len(self.marks) - 2)
        spent = [(end - begin) / steps * 1e6 for begin, end in zip(self.marks[1], self.marks[-1], strict=True)]
        return dict(zip(("wall", "cpu"), spent, strict=True))


def plain(problem: Problem, fused: bool, tick: Callable[[], None] = lambda: None) -> dict[str, float]:
    """Rows in memory, a permutation an epoch, slices, losses in a list, metrics and validation once an epoch."""
    net = problem.net()
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3, fused=fused or None)
    train_metrics, val_metrics = problem.metrics(), problem.metrics()
    x, y = problem.train
    epochs, history, step_losses = Epochs(problem.steps), [], []
    for _ in range(problem.epochs):
        epochs.mark()
        net.train()
        order = torch.randperm(len(y))
        losses, outputs, targets = [], [], []
        for start in range(0, len(y), problem.batch_size):
            index = order[start : start + problem.batch_size]
            batch, target = x[index], y[index]
            output = net(batch)
            loss = problem.loss(output, target)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.detach())
            outputs.append(output.detach())
            targets.append(target)
            tick()
        step_losses += torch.stack(losses).tolist()
        train_metrics.update(problem.predict(torch.cat(outputs)), torch.cat(targets))
        net.eval()
        with torch.inference_mode():
            output = torch.cat([net(rows) for rows in problem.val[0].split(1024)])
            val_metrics.update(problem.predict(output), problem.val[1])
            val_loss = problem.loss(output, problem.val[1]).item()
        history.append((val_loss, train_metrics.compute(), val_metrics.compute()))
        train_metrics.reset()
        val_metrics.reset()
    epochs.mark()
    return epochs.figures()
