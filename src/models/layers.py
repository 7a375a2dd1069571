"""Layers that more than one family uses."""

from __future__ import annotations

from typing import Literal

from torch import nn

Activation = Literal["relu", "sigmoid", "tanh", "gelu", "silu"]

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "sigmoid": nn.Sigmoid,
    "tanh": nn.Tanh,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
}


def initialize(module: nn.Module, activation: Activation) -> None:
    """Weights of linear and convolution layers for the activation that follows; biases zero.

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
