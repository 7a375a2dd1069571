"""Shared parts of autoencoders: rows to codes and back, dense or convolutional, and noise computed from the row."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from math import prod

import torch
from torch import Tensor, nn

from src.errors import UserError
from src.models.base import Model
from src.models.components.layers import ACTIVATIONS, Activation, initialize
from src.runtime.stateless_random import BITS, draws, mix
from src.spec import DataSpec, ImageSpec, TableSpec
from src.tasks.reconstruction.task import Reconstruction


class AutoencoderBase(Model):
    """A model of rows that go to a code and back. A family sets `codec` and `head` and defines `code` and `decode`."""

    inputs = (TableSpec, ImageSpec)
    task: Reconstruction
    codec: Codec
    head: nn.Module

    def target(self, x: Tensor) -> Tensor:
        """Targets (B, D) that raw rows (B, ...) should be reconstructed to, in the weights' dtype."""
        return self.task.target({"input": x}).to(next(self.parameters()).dtype)

    def seen(self, x: Tensor, target: Tensor) -> Tensor:
        """Input of the encoder: images (B, C, H, W) or rows (B, D), in standard units."""
        return self.normalize(x) if isinstance(self.spec.input, ImageSpec) else target

    def code(self, x: Tensor) -> Tensor:
        """Codes (B, L) of raw rows, without noise."""
        raise NotImplementedError(f"{type(self).__name__}.code")

    def decode(self, code: Tensor) -> Tensor:
        """Reconstructions (B, D) of codes (B, L), in the unit of the target."""
        raise NotImplementedError(f"{type(self).__name__}.decode")

    def images(self, values: Tensor) -> Tensor:
        """Values (B, D) as images (B, C, H, W) in [0, 1]."""
        return values.float().clamp(0, 1).unflatten(1, self.spec.input_shape)

    def sample_images(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Images (2 B, C, H, W), each followed by its reconstruction; empty where the rows are no images."""
        if not isinstance(self.spec.input, ImageSpec):
            return {}
        values = self.outputs(batch)[:, : self.task.size]
        pairs = torch.stack([self.images(self.target(batch["input"])), self.images(values)], 1)
        return {"reconstructions": pairs.flatten(0, 1)}


class Codec(nn.Module):
    """An encoder of rows, and a decoder but for its last layer, which `head` makes.

    Dense, a row goes through layers of `hidden_sizes` to its code, and back through the same in reverse. Convolutional,
    an image goes through 3x3 convolutions of stride 2 first, and back through transposed ones, whatever its height
    and width.

    Args:
        spec: what the data is.
        rows: D, size of the input of a dense encoder and of the decoder's output.
        codes: size of the encoder's output.
        latent_size: size of the decoder's input.
        hidden_sizes: units of the dense layers.
        channels: of each convolution; none are used unless `convolutional`.
        convolutional: for images.
        activation: between the layers.

    Raises:
        UserError: a size below 1, convolutions without channels or on a table.
    """

    def __init__(
        self,
        spec: DataSpec,
        rows: int,
        *,
        codes: int,
        latent_size: int,
        hidden_sizes: list[int],
        channels: list[int],
        convolutional: bool,
        activation: Activation,
    ) -> None:
        super().__init__()
        if convolutional and (not isinstance(spec.input, ImageSpec) or not channels):
            other = f"data={spec.name} is {spec.modality} data"
            what = "model.channels is empty" if isinstance(spec.input, ImageSpec) else other
            raise UserError(f"model.convolutional=true is for images, with a number of channels a layer; {what}")
        self.shapes: list[tuple[int, int, int]] = []
        if convolutional:
            deep, height, width = spec.input_shape
            self.shapes.append((deep, height, width))
        self.rows = rows
        convolutions: list[nn.Module] = []
        for size in channels if convolutional else ():
            before, height, width = self.shapes[-1]
            convolutions += [nn.Conv2d(before, size, 3, 2, 1), ACTIVATIONS[activation]()]
            self.shapes.append((size, (height + 1) // 2, (width + 1) // 2))
        flat = prod(self.shapes[-1]) if convolutional else rows
        self.encoder = nn.Sequential(
            *convolutions,
            nn.Flatten(),
            *_dense([flat, *hidden_sizes], activation),
            nn.Linear(([flat, *hidden_sizes])[-1], codes),
        )
        back = [latent_size, *reversed(hidden_sizes), *([flat] if convolutional else [])]
        upwards: list[nn.Module] = [nn.Unflatten(1, self.shapes[-1])] if convolutional else []
        for place in range(len(self.shapes) - 1, 1, -1):
            upwards += [self._up(place), ACTIVATIONS[activation]()]
        self.decoder = nn.Sequential(*_dense(back, activation), *upwards)
        self.last = back[-1]
        initialize(self, activation)

    def head(self) -> nn.Module:
        """The decoder's last layer."""
        if self.shapes:
            return nn.Sequential(self._up(1), nn.Flatten())
        return nn.Linear(self.last, self.rows)

    def _up(self, place: int) -> nn.Module:
        """Transposed convolution from one shape to the one before it; an even side needs a further row of pixels."""
        (size, *_), (before, height, width) = self.shapes[place], self.shapes[place - 1]
        further = ((height + 1) % 2, (width + 1) % 2)
        return nn.ConvTranspose2d(size, before, 3, 2, 1, output_padding=further)


def _dense(sizes: list[int], activation: Activation) -> list[nn.Module]:
    layers: list[nn.Module] = []
    for before, size in pairwise(sizes):
        layers += [nn.Linear(before, size), ACTIVATIONS[activation]()]
    return layers


# noise that follows from the row --------------------------------------------------------------------------------------


def fingerprints(x: Tensor) -> Tensor:
    """Fingerprint of each raw row (B, ...), int64 (B,): equal rows have the same, whatever stands beside them."""
    values = x.flatten(1)
    values = values.float().view(torch.int32).long() if values.is_floating_point() else values.long()
    weights = draws(torch.arange(values.shape[1], device=x.device), mix(1), 1)[0]
    return (values * (2 * weights + 1)).sum(1)  # int64 wraps round


def uniforms(rows: Tensor, key: int, count: int) -> Tensor:
    """Uniform numbers from 0 up to 1, float32 (B, count), computed from each fingerprint (B,)."""
    return draws(rows, mix(key), count).T.float() / (1 << BITS)


def normals(rows: Tensor, key: int, count: int) -> Tensor:
    """Standard normal numbers, float32 (B, count), computed from each fingerprint (B,)."""
    whole = draws(rows, mix(key), count).T
    # odd numbers, so that float32 holds each exactly and none becomes 1
    return torch.erfinv((2 * whole + 1 - (1 << BITS)).float() / (1 << BITS)) * 2**0.5
