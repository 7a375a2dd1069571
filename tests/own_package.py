"""A package outside the project, as a researcher has one: models and data that know nothing of this harness."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

MODELS = '''
import os
import random

import numpy as np
import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from torch import nn

from os import system  # code of another package, under a name of this one


class Net(nn.Module):
    def __init__(self, in_features: int, num_classes: int, hidden: int = 16):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(in_features, hidden), nn.ReLU(), nn.Linear(hidden, num_classes))

    def forward(self, x):
        return self.layers(x)


def build(in_features: int, num_outputs: int, depth: int = 1):
    sizes = [in_features] + [8] * depth
    layers = [part for a, b in zip(sizes, sizes[1:]) for part in (nn.Linear(a, b), nn.Tanh())]
    return nn.Sequential(*layers, nn.Linear(sizes[-1], num_outputs))


class Built(nn.Module):
    """Parts that the configuration hands over."""

    def __init__(self, in_features: int, num_classes: int, inner: int = 8, act: nn.Module = None):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(in_features, inner), act or nn.ReLU(), nn.Linear(inner, num_classes))

    def forward(self, x):
        return self.layers(x)


class Flat(nn.Module):
    """One number a row, without a dimension of its own."""

    def __init__(self, in_features: int):
        super().__init__()
        self.layer = nn.Linear(in_features, 1)

    def forward(self, x):
        return self.layer(x).squeeze(-1)


class Raw(nn.Module):
    raw_input = True

    def __init__(self, input_shape, num_classes: int):
        super().__init__()
        self.layer = nn.Linear(input_shape[0], num_classes)

    def forward(self, x):
        self.largest = float(x.abs().max())
        return self.layer(x)


class Wide(nn.Module):
    """Gives one output too many."""

    def __init__(self, in_features: int, num_classes: int):
        super().__init__()
        self.layer = nn.Linear(in_features, num_classes + 1)

    def forward(self, x):
        return self.layer(x)


class Noisy(nn.Module):
    """Draws from everything that there is but torch's default generator."""

    def __init__(self, in_features: int, num_classes: int, rarely: bool = False):
        super().__init__()
        self.layer = nn.Linear(in_features, num_classes)
        self.generator = torch.Generator().manual_seed(3)
        self.rarely, self.calls = rarely, 0

    def forward(self, x):
        self.calls += self.training
        if self.training and (not self.rarely or self.calls == 3):
            noise = np.random.normal(size=x.shape) + random.random()
            x = x + torch.as_tensor(noise, dtype=x.dtype) + torch.rand(x.shape, generator=self.generator)
        return self.layer(x)


class Words(nn.Module):
    """The next token of each, by itself alone."""

    def __init__(self, vocab_size: int, size: int = 8):
        super().__init__()
        self.embedding = nn.Embedding(vocab_size, size)
        self.head = nn.Linear(size, vocab_size)

    def forward(self, ids):
        return self.head(self.embedding(ids))


class Needy(nn.Module):
    def __init__(self, in_features: int, temperament: str):
        super().__init__()


class Lit(pl.LightningModule):
    """Own steps, own optimizer with a schedule, a metric of its own, a hook, and one name that is the task's too."""

    def __init__(self, in_features: int, num_classes: int, lr: float = 0.05):
        super().__init__()
        self.save_hyperparameters()
        self.net = Net(in_features, num_classes)
        self.epochs_begun = 0

    def forward(self, x):
        return self.net(x)

    def training_step(self, batch, batch_idx):
        x, y = batch
        loss = F.cross_entropy(self(x), y)
        self.log("train/own_loss", loss, on_step=False, on_epoch=True)
        return loss

    def validation_step(self, batch, batch_idx):
        x, y = batch
        logits = self(x)
        self.log("val/margin", (logits.max(1).values - logits.mean(1)).mean(), batch_size=len(y))
        self.log("val/loss", 2 * F.cross_entropy(logits, y), batch_size=len(y))

    def on_train_epoch_start(self):
        self.epochs_begun += 1

    def configure_optimizers(self):
        optimizer = torch.optim.SGD(self.parameters(), lr=self.hparams.lr, momentum=0.9)
        return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, 2)]


class Manual(pl.LightningModule):
    def __init__(self, in_features: int, num_classes: int):
        super().__init__()
        self.automatic_optimization = False
        self.net = Net(in_features, num_classes)

    def forward(self, x):
        return self.net(x)

    def training_step(self, batch, batch_idx):
        optimizer = self.optimizers()
        loss = F.cross_entropy(self(batch[0]), batch[1])
        optimizer.zero_grad()
        self.manual_backward(loss)
        optimizer.step()
        return loss

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=0.02)


class Idle(pl.LightningModule):
    def __init__(self, in_features: int):
        super().__init__()

    def training_step(self, batch, batch_idx):
        return None
'''

DATA = '''
import numpy as np
import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader, Dataset, random_split


def blobs(rows, seed=0):
    generator = torch.Generator().manual_seed(seed)
    y = torch.arange(rows) % 3
    centres = 3 * torch.tensor([[1.0, 0, 0, 1], [0, 1, 1, 0], [-1, -1, 0, 0]])
    return centres[y] + torch.randn(rows, 4, generator=generator), y


class Blobs(Dataset):
    classes = ["a", "b", "c"]

    def __init__(self, rows: int = 150):
        self.x, self.y = blobs(rows)

    def __len__(self):
        return len(self.x)

    def __getitem__(self, index):
        return self.x[index], int(self.y[index])


class Pictures(Dataset):
    """Dicts of a PIL picture and a text."""

    def __init__(self, rows: int = 60):
        self.rows = rows

    def __len__(self):
        return self.rows

    def __getitem__(self, index):
        from PIL import Image

        array = np.full((8, 8, 3), 40 + 150 * (index % 2), np.uint8)
        return {"image": Image.fromarray(array), "label": ("dark", "light")[index % 2]}


class Torn(Dataset):
    """One item has another form."""

    def __len__(self):
        return 40

    def __getitem__(self, index):
        return torch.zeros(4 if index != 7 else 5), index % 2


class Beyond(Blobs):
    classes = ["a", "b"]


class Module(pl.LightningDataModule):
    def __init__(self, rows: int = 150, batch_size: int = 32):
        super().__init__()
        self.rows, self.batch_size = rows, batch_size

    def setup(self, stage=None):
        generator = torch.Generator().manual_seed(0)
        self.parts = random_split(Blobs(self.rows), [0.6, 0.2, 0.2], generator)

    def train_dataloader(self):
        return DataLoader(self.parts[0], self.batch_size, shuffle=True)

    def val_dataloader(self):
        return DataLoader(self.parts[1], 256)

    def test_dataloader(self):
        return DataLoader(self.parts[2], 256)


def arrays(rows: int = 120):
    x, y = blobs(rows)
    return x.numpy(), y.numpy()


def numbers(rows: int = 120):
    x, _ = blobs(rows)
    return {"train": (x[:90], x[:90].sum(1)), "test": (x[90:], x[90:].sum(1))}


def nothing():
    return 3
'''
NAME = "mylab"


def write(folder: Path) -> Path:
    """The package in a folder, which is returned."""
    package = folder / NAME
    package.mkdir()
    for name, text in (("__init__", ""), ("models", MODELS), ("data", DATA)):
        (package / f"{name}.py").write_text(text)
    return folder


@pytest.fixture
def mylab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Its folder, on the path of this process."""
    monkeypatch.syspath_prepend(write(tmp_path))
    yield tmp_path
    for name in [name for name in sys.modules if name.partition(".")[0] == NAME]:
        del sys.modules[name]
