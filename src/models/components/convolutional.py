"""Convolution blocks: plain and residual."""

from __future__ import annotations

from torch import Tensor, nn

from src.errors import UserError
from src.models.components.layers import ACTIVATIONS, Activation, BatchNorm2d
from src.spec import DataSpec


def convolutions(
    spec: DataSpec,
    *,
    channels: list[int],
    blocks_per_stage: int,
    kernel_size: int,
    residual: bool,
    activation: Activation,
    norm: str,
    pool_size: int | None,
    stem_stride: int | None,
) -> tuple[nn.Sequential, int]:
    """Build the stem and the stages for images (B, C, H, W), flat at the end, with torch's own initial weights.

    Options: see CNN.

    Returns:
        The layers, and the number of features of their output (B, features).

    Raises:
        UserError: an option that makes no net.
    """
    if not channels:
        raise UserError("model.channels=[]: one or more positive numbers, one a stage")
    if kernel_size % 2 == 0:
        raise UserError(f"model.kernel_size={kernel_size}: an odd number, so that stages keep the image's size")
    in_channels, height, width = spec.input_shape
    side = min(height, width)
    if stem_stride is None:
        stem_stride = 1 if side < 64 else 2 if side < 128 else 4
    if stem_stride > side:
        raise UserError(f"model.stem_stride={stem_stride}: from 1 to the image's shorter side, {side}")
    shape = [-(-side // stem_stride) for side in (height, width)]
    block = Residual if residual else Convolution
    stem_kernel = kernel_size if stem_stride == 1 else 2 * stem_stride - 1
    layers: list[nn.Module] = [Convolution(in_channels, channels[0], stem_kernel, activation, norm, stem_stride)]
    size = channels[0]
    for stage, stage_size in enumerate(channels):
        if stage and min(shape) > 2:
            layers.append(nn.MaxPool2d(2))
            shape = [side // 2 for side in shape]
        for _ in range(blocks_per_stage):
            layers.append(block(size, stage_size, kernel_size, activation, norm))
            size = stage_size
    if pool_size is None:
        pool_size = 3 if min(shape) >= 6 else 1
    # windows of a fixed size: adaptive pooling has no deterministic gradient on CUDA
    window = [max(1, side // pool_size) for side in shape]
    cells = [side // size for side, size in zip(shape, window, strict=True)]
    return nn.Sequential(*layers, nn.AvgPool2d((window[0], window[1])), nn.Flatten()), size * cells[0] * cells[1]


class Convolution(nn.Sequential):
    """Convolution, norm, activation; (B, C, H, W) to (B, out, H / stride, W / stride)."""

    def __init__(self, size: int, out: int, kernel: int, activation: str, norm: str, stride: int = 1) -> None:
        batch_norm = norm == "batch"
        layers: list[nn.Module] = [nn.Conv2d(size, out, kernel, stride, kernel // 2, bias=not batch_norm)]
        if batch_norm:
            layers.append(BatchNorm2d(out))
        layers.append(ACTIVATIONS[activation]())
        super().__init__(*layers)


class Residual(nn.Module):
    """Two convolutions around a shortcut, which is a 1x1 convolution where the channel count changes."""

    def __init__(self, size: int, out: int, kernel: int, activation: str, norm: str) -> None:
        super().__init__()
        self.first = Convolution(size, out, kernel, activation, norm)
        self.second = nn.Sequential(*list(Convolution(out, out, kernel, activation, norm))[:-1])
        self.shortcut = nn.Identity() if size == out else nn.Conv2d(size, out, 1, bias=False)
        self.activation = ACTIVATIONS[activation]()

    def forward(self, x: Tensor) -> Tensor:
        """Feature maps (B, C, H, W) to (B, out, H, W)."""
        return self.activation(self.second(self.first(x)) + self.shortcut(x))
