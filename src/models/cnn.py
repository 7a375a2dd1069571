"""Convolutional network on images from 8x8 to 224x224 and more, with optional residual blocks.

Stages of 3x3 convolutions with halved resolution between them (Simonyan and Zisserman 2014, arXiv:1409.1556), batch
normalisation (Ioffe and Szegedy 2015, arXiv:1502.03167), residual blocks (He et al. 2015, arXiv:1512.03385), outputs
averaged over an image and its mirror image (as Krizhevsky et al. 2012 do at test time).
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from src.errors import UserError
from src.models.base import Model
from src.models.layers import ACTIVATIONS, Activation, BatchNorm2d, initialize
from src.spec import DataSpec
from src.tasks import Task


class CNN(Model):
    """A stem, one stage a channel count with max-pooling between stages, a small grid of features, a linear head.

    Pooling stops where the image is 2 pixels small, so the same stages serve 8x8 scans and photographs.

    Args:
        spec: what the data is; input (C, H, W).
        task: gives the number of outputs.
        channels: channels of each stage.
        blocks_per_stage: blocks in each stage.
        kernel_size: odd, of every convolution but a strided stem's.
        residual: blocks of two convolutions around a shortcut, instead of single convolutions.
        activation: after each convolution.
        norm: after each convolution, before the activation.
        dropout: share of the pooled features dropped in training.
        pool_size: the last stage is averaged to about this many cells each way, so that the head sees where a feature
            is and does not grow with the image; null is 3 where that stage is 6 pixels or more, else 1 (the mean).
        stem_stride: how much the stem shrinks the image; null picks 1 below 64 pixels, 2 below 128, else 4.
        mirror: outputs are the mean over the image and its mirror image, in evaluation only, at twice the work.
    """

    kinds = ("image",)
    tasks = ("classification", "binary", "regression")

    def __init__(
        self,
        spec: DataSpec,
        task: Task,
        *,
        channels: list[int],
        blocks_per_stage: int = 1,
        kernel_size: int = 3,
        residual: bool = False,
        activation: Activation = "relu",
        norm: Literal["none", "batch"] = "batch",
        dropout: float = 0.0,
        pool_size: int | None = None,
        stem_stride: int | None = None,
        mirror: bool = False,
    ) -> None:
        super().__init__(spec, task)
        if not 0 <= dropout < 1:
            raise UserError(f"model.dropout={dropout}: a share from 0 up to 1")
        self.body, size = convolutions(
            spec,
            channels=channels,
            blocks_per_stage=blocks_per_stage,
            kernel_size=kernel_size,
            residual=residual,
            activation=activation,
            norm=norm,
            pool_size=pool_size,
            stem_stride=stem_stride,
        )
        self.mirror = mirror
        self.dropout = nn.Dropout(dropout) if dropout else nn.Identity()
        self.head = nn.Linear(size, task.num_outputs)
        initialize(self.body, activation)

    def forward(self, x: Tensor) -> Tensor:
        """Raw images (B, C, H, W) to outputs (B, num_outputs)."""
        x = self.normalize(x)
        outputs = self._outputs(x)
        return (outputs + self._outputs(x.flip(-1))) / 2 if self.mirror and not self.training else outputs

    def _outputs(self, x: Tensor) -> Tensor:
        return self.head(self.dropout(self.body(x)))


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
    """The stem and the stages for images (B, C, H, W), flat at the end, with torch's own weights; and how many features
    come out: (B, features). Options as of CNN.

    Raises:
        UserError: an option that makes no net.
    """
    if not channels or any(c < 1 for c in channels):
        raise UserError(f"model.channels={list(channels)}: one or more positive numbers, one a stage")
    if kernel_size < 1 or kernel_size % 2 == 0:
        raise UserError(f"model.kernel_size={kernel_size}: an odd number, so that stages keep the image's size")
    if pool_size is not None and pool_size < 1:
        raise UserError(f"model.pool_size={pool_size}: at least 1, or null")
    in_channels, height, width = spec.input_shape
    side = min(height, width)
    if stem_stride is None:
        stem_stride = 1 if side < 64 else 2 if side < 128 else 4
    if not 1 <= stem_stride <= side:
        raise UserError(f"model.stem_stride={stem_stride}: from 1 to the image's shorter side, {side}")
    shape = [-(-side // stem_stride) for side in (height, width)]
    block = _Residual if residual else _Convolution
    stem_kernel = kernel_size if stem_stride == 1 else 2 * stem_stride - 1
    layers: list[nn.Module] = [_Convolution(in_channels, channels[0], stem_kernel, activation, norm, stem_stride)]
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
    return nn.Sequential(*layers, nn.AvgPool2d(window), nn.Flatten()), size * cells[0] * cells[1]


class _Convolution(nn.Sequential):
    """Convolution, norm, activation; (B, C, H, W) to (B, out, H / stride, W / stride)."""

    def __init__(self, size: int, out: int, kernel: int, activation: str, norm: str, stride: int = 1) -> None:
        batch_norm = norm == "batch"
        layers: list[nn.Module] = [nn.Conv2d(size, out, kernel, stride, kernel // 2, bias=not batch_norm)]
        if batch_norm:
            layers.append(BatchNorm2d(out))
        layers.append(ACTIVATIONS[activation]())
        super().__init__(*layers)


class _Residual(nn.Module):
    """Two convolutions around a shortcut, which is a 1x1 convolution where the channel count changes."""

    def __init__(self, size: int, out: int, kernel: int, activation: str, norm: str) -> None:
        super().__init__()
        self.first = _Convolution(size, out, kernel, activation, norm)
        self.second = nn.Sequential(*list(_Convolution(out, out, kernel, activation, norm))[:-1])
        self.shortcut = nn.Identity() if size == out else nn.Conv2d(size, out, 1, bias=False)
        self.activation = ACTIVATIONS[activation]()

    def forward(self, x: Tensor) -> Tensor:
        return self.activation(self.second(self.first(x)) + self.shortcut(x))
