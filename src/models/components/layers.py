"""Layers that more than one family uses."""

from __future__ import annotations

from functools import cache
from typing import Literal

import torch
from torch import Tensor, nn

from src.errors import UserError

WindowNormKind = Literal["none", "last", "mean", "standard"]
WINDOW_NORMS = ("none", "last", "mean", "standard")

Activation = Literal["relu", "sigmoid", "tanh", "gelu", "silu"]

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "sigmoid": nn.Sigmoid,
    "tanh": nn.Tanh,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
}


def initialize(module: nn.Module, activation: Activation) -> None:
    """Initialize the weights of linear and convolution layers for the activation that follows, biases with zero.

    Kaiming (He et al. 2015, arXiv:1502.01852) for the one-sided activations, Xavier (Glorot and Bengio 2010) for
    sigmoid and tanh.
    """
    for layer in module.modules():
        if isinstance(layer, nn.Linear | nn.Conv2d):
            if activation in ("sigmoid", "tanh"):
                nn.init.xavier_uniform_(layer.weight, gain=nn.init.calculate_gain(activation))
            else:
                nn.init.kaiming_uniform_(layer.weight, nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


class _LoneValues(nn.Module):
    """Batch normalisation (Ioffe and Szegedy 2015, arXiv:1502.03167) that a batch of one value a channel can train.

    One value has no variance, for which torch raises a ValueError: the last batch of an epoch may be a single row. It
    is seen with the running statistics, and leaves them as they are.
    """

    def forward(self, x: Tensor) -> Tensor:
        if not (self.training and x.numel() == x.shape[1]):
            return super().forward(x)
        self.training = False
        try:
            return super().forward(x)
        finally:
            self.training = True


class BatchNorm1d(_LoneValues, nn.BatchNorm1d):
    """Batch normalisation of rows (B, C), see _LoneValues."""


class BatchNorm2d(_LoneValues, nn.BatchNorm2d):
    """Batch normalisation of images (B, C, H, W), see _LoneValues."""


_BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)


@cache
def _taking_lone_values(norm: type[nn.Module]) -> type[nn.Module]:
    return type(norm.__name__, (_LoneValues, norm), {})


def take_lone_values(net: nn.Module) -> None:
    """Have all batch normalisation of a net take batches of one value a channel, see _LoneValues."""
    for norm in net.modules():
        if isinstance(norm, _BATCH_NORMS) and not isinstance(norm, _LoneValues):
            norm.__class__ = _taking_lone_values(type(norm))  # type: ignore[assignment, arg-type]


class WindowNorm(nn.Module):
    """Subtracts the level of each window of a series, and adds it to the forecast: a net sees shapes and no drift.

    Zeng et al. 2022 (arXiv:2205.13504) subtract the `last` value, others the `mean`; `standard` divides by the
    window's standard deviation too (Kim et al. 2022, "Reversible instance normalization").

    Args:
        kind: none, last, mean or standard.
        targets: channels that are forecast, the first ones of the window.

    Raises:
        UserError: an unknown kind.
    """

    def __init__(self, kind: WindowNormKind, targets: int) -> None:
        super().__init__()
        if kind not in WINDOW_NORMS:
            raise UserError(f"model.window_norm={kind}: {', '.join(WINDOW_NORMS)}")
        self.kind, self.targets = kind, targets

    def measure(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Level and scale (B, 1, F) of windows (B, T, F)."""
        one = x.new_ones(1, 1, 1)
        if self.kind == "none":
            return torch.zeros_like(one), one
        if self.kind == "last":
            return x[:, -1:], one
        level = x.mean(1, keepdim=True)
        if self.kind == "mean":
            return level, one
        return level, ((x - level).square().mean(1, keepdim=True) + 1e-5).sqrt()

    def give_back(self, outputs: Tensor, level: Tensor, scale: Tensor) -> Tensor:
        """Undo the normalisation of outputs (B, horizon * targets) by the level and scale of their windows."""
        steps = outputs.unflatten(1, (-1, self.targets))
        return (steps * scale[..., : self.targets] + level[..., : self.targets]).flatten(1)
