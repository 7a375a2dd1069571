"""A small classifier in whose features images are compared: trained on the same data, the same at every run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from src.metrics.generation import SIZE
from src.runtime.stateless_random import generator, mix
from src.spec import DataSpec

CHANNELS = (16, 32, 64, 64, 64)  # of each convolution; between two of them the image is halved
SMALLEST = 4  # pixels, below which it is not
STEPS, BATCH = 500, 128
SEED = 0  # of its weights and of the order of its rows, whatever the run's own


class FeatureNet(nn.Module):
    """Convolutions, a layer of 64 features, a linear classifier on them.

    It takes the place that Inception has in Heusel et al. 2017 (arXiv:1706.08500). Without classes it stays as it is
    initialised: random features tell images apart too (Naeem et al. 2020, arXiv:2002.09797).

    Attributes:
        ready: whether `learn` has run; goes into every checkpoint, as the weights do.
    """

    ready: Tensor

    def __init__(self, spec: DataSpec) -> None:
        super().__init__()
        size, height, width = spec.input_shape
        layers: list[nn.Module] = []
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(SEED)
            for channels in CHANNELS:
                layers += [nn.Conv2d(size, channels, 3, padding=1), nn.ReLU()]
                size = channels
                if min(height, width) < 2 * SMALLEST - 1:
                    break
                layers.append(nn.MaxPool2d(2))
                height, width = height // 2, width // 2
            self.body = nn.Sequential(*layers, nn.Flatten(), nn.Linear(size * height * width, SIZE))
            self.head = nn.Linear(SIZE, spec.num_classes) if spec.num_classes else None
        self.requires_grad_(False)
        self.register_buffer("ready", torch.tensor(False))

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, C, H, W) in [0, 1] to features, and after them logits of the classes (B, 64 + classes)."""
        with torch.autocast(images.device.type, enabled=False):  # half of the bits would be seen in the distance
            features = self.body(2 * images.to(next(self.body.parameters()).dtype) - 1)
            return features if self.head is None else torch.cat([features, self.head(F.relu(features))], 1)

    def learn(self, split: Mapping[str, Any], levels: int, device: torch.device | str) -> None:
        """Trains it, once, on the rows of a split, in the order of a fixed seed."""
        if bool(self.ready):
            return
        if self.head is not None:
            self.requires_grad_(True)
            optimizer = torch.optim.AdamW(self.parameters(), lr=2e-3)
            count = len(split["input"])
            with torch.enable_grad():
                for step in range(STEPS):
                    rows = torch.randint(count, (BATCH,), generator=generator(mix(SEED, step)))
                    images, target = (split[name][rows].to(device) for name in ("input", "target"))
                    loss = F.cross_entropy(self(images / levels)[:, SIZE:], target)
                    optimizer.zero_grad()
                    loss.backward()  # type: ignore[no-untyped-call, unused-ignore]
                    optimizer.step()
            self.requires_grad_(False)
        self.ready.fill_(True)
