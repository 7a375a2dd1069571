"""Convolutional network on images from 8x8 to 224x224 and more, with optional residual blocks.

Stages of 3x3 convolutions with halved resolution between them (Simonyan and Zisserman 2014, arXiv:1409.1556), batch
normalisation (Ioffe and Szegedy 2015, arXiv:1502.03167), residual blocks (He et al. 2015, arXiv:1512.03385), outputs
averaged over an image and its mirror image (as Krizhevsky et al. 2012 do at test time).
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from src.models.base import Model
from src.models.components.convolutional import convolutions
from src.models.components.layers import Activation, initialize
from src.runtime.ranges import NonNegativeInt, PositiveInt, Share
from src.spec import DataSpec, ImageSpec
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

    inputs = (ImageSpec,)
    tasks = ("classification", "binary", "regression")

    def __init__(
        self,
        spec: DataSpec,
        task: Task,
        *,
        channels: list[PositiveInt],
        blocks_per_stage: NonNegativeInt = 1,
        kernel_size: PositiveInt = 3,
        residual: bool = False,
        activation: Activation = "relu",
        norm: Literal["none", "batch"] = "batch",
        dropout: Share = 0.0,
        pool_size: PositiveInt | None = None,
        stem_stride: PositiveInt | None = None,
        mirror: bool = False,
    ) -> None:
        super().__init__(spec, task)
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
