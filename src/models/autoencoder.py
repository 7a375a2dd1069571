"""Autoencoder: rows through a narrow code and back; a row that is reconstructed badly is an anomaly.

Hinton and Salakhutdinov 2006, "Reducing the dimensionality of data with neural networks"; denoising: Vincent et al.
2008, "Extracting and composing robust features with denoising autoencoders"; sparse: an L1 cost of the code.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from typing_extensions import override

from src.errors import UserError
from src.models.components.autoencoding import AutoencoderBase, Codec
from src.models.components.layers import Activation
from src.runtime.ranges import NonNegativeFloat, PositiveInt
from src.spec import DataSpec
from src.tasks import Task


class Autoencoder(AutoencoderBase):
    """An encoder, a code, a decoder. Without hidden layers and options it spans the space of principal components.

    Args:
        spec: what the data is; a table's categories go in and come out as ones among zeros.
        task: says what a row is as numbers, and how far what came back is from it.
        latent_size: of the code.
        hidden_sizes, channels, convolutional, activation: see Codec.
        noise: of the input, in training only: the standard deviation in standard units, or the share of hidden numbers.
        noise_kind: gaussian, or mask (numbers become 0, which is their mean).
        sparsity: weight of the code's mean absolute value in the loss.
    """

    tasks = ("reconstruction",)

    def __init__(
        self,
        spec: DataSpec,
        task: Task,
        *,
        latent_size: PositiveInt = 8,
        hidden_sizes: list[PositiveInt],
        channels: list[PositiveInt],
        convolutional: bool = False,
        activation: Activation = "relu",
        noise: NonNegativeFloat = 0.0,
        noise_kind: Literal["gaussian", "mask"] = "gaussian",
        sparsity: NonNegativeFloat = 0.0,
    ) -> None:
        super().__init__(spec, task)
        if noise_kind == "mask" and noise >= 1:
            raise UserError(f"model.noise={noise}: of noise_kind=mask a share below 1")
        self.noise, self.noise_kind, self.sparsity = noise, noise_kind, sparsity
        self.codec = Codec(
            spec,
            self.task.size,
            codes=latent_size,
            latent_size=latent_size,
            hidden_sizes=hidden_sizes,
            channels=channels,
            convolutional=convolutional,
            activation=activation,
        )
        self.head = self.codec.head()

    def forward(self, x: Tensor) -> Tensor:
        """Raw rows (B, ...) to the task's outputs (B, D + 3)."""
        target = self.target(x)
        seen = self.seen(x, target)
        if self.training and self.noise:
            if self.noise_kind == "mask":
                seen = seen * (torch.rand_like(seen) >= self.noise)
            else:
                seen = seen + self.noise * torch.randn_like(seen)
        code = self.codec.encoder(seen)
        made, error = self.task.fit(self.head(self.codec.decoder(code)), target)
        cost = code.abs().mean(1)
        return torch.cat([made, torch.stack([error, cost, error + self.sparsity * cost], 1)], 1)

    @override
    def code(self, x: Tensor) -> Tensor:
        return self.codec.encoder(self.seen(x, self.target(x)))

    @override
    def decode(self, code: Tensor) -> Tensor:
        made = self.head(self.codec.decoder(code))
        return self.task.fit(made, torch.zeros_like(made))[0]
