"""Detector: a light anchor-free net for boxes in images, trained from scratch.

A fully convolutional one-stage detector (FCOS, Tian et al. 2019, arXiv:1904.01355): residual stages (He et al. 2015,
arXiv:1512.03385), a feature pyramid (Lin et al. 2016, arXiv:1612.03144), and at each place of each of its levels one
box and a score a class, by the same two towers with group normalisation (Wu and He 2018, arXiv:1803.08494). The score
says how well the box fits too (Li et al. 2020, arXiv:2006.04388), so there is no third branch.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from src.errors import UserError
from src.models.base import Model
from src.models.components.convolutional import Convolution, Residual
from src.models.components.layers import ACTIVATIONS, Activation, initialize
from src.runtime.ranges import NonNegativeInt, PositiveInt
from src.spec import DataSpec, ImageSpec
from src.tasks import Task

PRIOR = 0.01  # score of each class before training (Lin et al. 2017, arXiv:1708.02002)
START = 2.0  # strides from a place to each side of its box before training


class Detector(Model):
    """Stages that halve the image's resolution each, the last of them joined from the coarsest down, one head.

    Args:
        spec: what the data is; input (C, H, W).
        task: detection.
        channels: channels of each stage; the n-th has a stride of 2**n.
        blocks_per_stage: residual blocks in each stage.
        levels: stages that predict boxes, the last ones; a box whose longer side is more than eight strides is left to
            the next coarser one.
        width: channels of the pyramid and of the head.
        head_layers: convolutions before the box, and as many before the scores.
        activation: after each convolution.
    """

    inputs = (ImageSpec,)
    tasks = ("detection",)
    heads = ("scores.", "sides.")

    def __init__(
        self,
        spec: DataSpec,
        task: Task,
        *,
        channels: list[PositiveInt],
        blocks_per_stage: PositiveInt = 1,
        levels: PositiveInt = 3,
        width: PositiveInt = 64,
        head_layers: NonNegativeInt = 2,
        activation: Activation = "relu",
    ) -> None:
        super().__init__(spec, task)
        if not channels:
            raise UserError("model.channels=[]: one or more positive numbers, one a stage")
        if min(spec.input_shape[1:]) < 2 ** len(channels):
            sides = "x".join(map(str, spec.input_shape[1:]))
            raise UserError(f"model.channels={list(channels)}: {len(channels)} halvings of {sides} pixels leave none")
        levels = min(levels, len(channels))
        self.strides = [2 ** (stage + 1) for stage in range(len(channels))][-levels:]
        self.stages, size = nn.ModuleList(), spec.input_shape[0]
        for out in channels:
            blocks: list[nn.Module] = [Convolution(size, out, 3, activation, "batch", 2)]
            blocks += [Residual(out, out, 3, activation, "batch") for _ in range(blocks_per_stage)]
            self.stages.append(nn.Sequential(*blocks))
            size = out
        self.lateral = nn.ModuleList(nn.Conv2d(size, width, 1) for size in channels[-levels:])
        self.joined = nn.ModuleList(_Normed(width, activation) for _ in range(levels))
        self.tower = nn.ModuleDict(
            {
                name: nn.Sequential(*(_Normed(width, activation) for _ in range(head_layers)))
                for name in ("score", "box")
            }
        )
        self.scores = nn.Conv2d(width, spec.num_classes, 3, padding=1)
        self.sides = nn.Conv2d(width, 4, 3, padding=1)
        initialize(self, activation)
        for layer, value in ((self.scores, -math.log((1 - PRIOR) / PRIOR)), (self.sides, math.log(math.expm1(START)))):
            nn.init.normal_(layer.weight, std=0.01)
            assert layer.bias is not None
            nn.init.constant_(layer.bias, value)

    def forward(self, x: Tensor) -> Tensor:
        """Raw images (B, C, H, W) to dense outputs (B, L, 7 + classes), as src/tasks/detection/task.py says."""
        pyramid = self.pyramid(self.normalize(x))
        return torch.cat([self._level(*level) for level in zip(pyramid, self.strides, strict=True)], dim=1)

    def pyramid(self, x: Tensor) -> list[Tensor]:
        """Features (B, width, H / stride, W / stride) of each level, the finest first."""
        features = []
        for stage in self.stages:
            x = stage(x)
            features.append(x)
        features = [layer(f) for layer, f in zip(self.lateral, features[-len(self.strides) :], strict=True)]
        for i in range(len(features) - 2, -1, -1):
            features[i] = features[i] + F.interpolate(features[i + 1], features[i].shape[-2:])
        return [layer(f) for layer, f in zip(self.joined, features, strict=True)]

    def _level(self, features: Tensor, stride: int) -> Tensor:
        """Outputs (B, H * W, 7 + classes) of one level."""
        logits = self.scores(self.tower["score"](features)).flatten(2).transpose(1, 2).float()
        sides = F.softplus(self.sides(self.tower["box"](features)).flatten(2).transpose(1, 2).float()) * stride
        height, width = features.shape[-2:]
        y, x = (
            (torch.arange(count, device=features.device, dtype=sides.dtype) + 0.5) * stride for count in (height, width)
        )
        point = torch.stack([x.expand(height, -1), y.unsqueeze(1).expand(-1, width)], dim=2).flatten(0, 1)
        place = F.pad(point, (0, 1), value=float(stride)).expand(sides.shape[0], -1, -1)
        return torch.cat([point - sides[..., :2], point + sides[..., 2:], place, logits], dim=2)


class _Normed(nn.Sequential):
    """A 3x3 convolution with group normalisation: levels of different contents share it."""

    def __init__(self, width: int, activation: str) -> None:
        convolution = nn.Conv2d(width, width, 3, padding=1, bias=False)
        super().__init__(convolution, nn.GroupNorm(math.gcd(8, width), width), ACTIVATIONS[activation]())
