"""Embedder: images as points on a sphere, near each other where the class is the same, also of classes never seen.

The embedding layer and the classes' vectors follow ArcFace (Deng et al. 2019, arXiv:1801.07698); with
`task.loss=supcon` (Khosla et al. 2020, arXiv:2004.11362) the embeddings of a batch are compared with each other.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from annotated_types import Ge
from torch import Tensor, nn
from typing_extensions import override

from src.models.base import Model
from src.models.components.convolutional import convolutions
from src.models.components.layers import Activation, BatchNorm1d, initialize
from src.runtime.ranges import NonNegativeInt, PositiveInt, Share
from src.spec import DataSpec, ImageSpec
from src.tasks import Task
from src.tasks.verification.task import Verification


class Embedder(Model):
    """The cnn's stem and stages, a linear layer to the embedding, and one vector for each class that training sees.

    Args:
        spec: what the data is; input (C, H, W).
        task: verification; its loss says whether there are vectors of classes.
        embedding_size: numbers of an embedding.
        channels, blocks_per_stage, kernel_size, residual, activation, norm, pool_size, stem_stride: see CNN.
        dropout: share of the pooled features dropped in training.
        mirror: in evaluation the embedding is the sum of the image's and its mirror image's, at twice the work.
    """

    inputs = (ImageSpec,)
    tasks = ("verification",)

    def __init__(
        self,
        spec: DataSpec,
        task: Task,
        *,
        embedding_size: Annotated[int, Ge(2)] = 64,
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
        assert isinstance(task, Verification)
        task.embedding_size = embedding_size
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
        self.dropout = nn.Dropout(dropout) if dropout else nn.Identity()
        # a bias would be taken away again by the norm
        self.embedding = nn.Sequential(nn.Linear(size, embedding_size, bias=False), BatchNorm1d(embedding_size))
        self.head = Classes(task.num_classes, embedding_size) if task.num_classes else None
        self.mirror = mirror
        initialize(self.body, activation)

    @classmethod
    @override
    def incompatibility(cls, spec: DataSpec) -> str | None:
        incompatibility = super().incompatibility(spec)
        if isinstance(spec.input, ImageSpec) and incompatibility and "classification" in spec.tasks:
            return f"{incompatibility}; with data.held_out_classes=N it offers verification"
        return incompatibility

    def forward(self, x: Tensor) -> Tensor:
        """Raw images (B, C, H, W) to the task's outputs (B, K + E): cosines to the classes, and the embedding."""
        embedding = self.embed(x)
        return embedding if self.head is None else torch.cat([self.head(embedding), embedding], 1)

    def outputs(self, batch: Mapping[str, Tensor]) -> Tensor:
        """Outputs (B, K + E) of images (B, C, H, W), or (B, 2, K + E) of listed pairs (B, 2, C, H, W)."""
        x = batch["input"]
        return self(x.flatten(0, 1)).unflatten(0, x.shape[:2]) if x.ndim == 5 else self(x)

    def embed(self, x: Tensor) -> Tensor:
        """Embeddings (B, E) of unit length."""
        x = self.normalize(x)
        embedding = self._embedded(x)
        if self.mirror and not self.training:
            embedding = F.normalize(embedding + self._embedded(x.flip(-1)), dim=1)
        return embedding

    def _embedded(self, x: Tensor) -> Tensor:
        return F.normalize(self.embedding(self.dropout(self.body(x))).to(x.dtype), dim=1)

    @override
    def on_validation_epoch_end(self) -> None:
        super().on_validation_epoch_end()
        if not self.trainer.sanity_checking:
            self.task.threshold = self.metrics["val"].metric("pairs").threshold


class Classes(nn.Module):
    """One direction for each class; cosines (B, K) of embeddings (B, E) of unit length to them, in full precision."""

    def __init__(self, classes: int, size: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(classes, size))
        nn.init.xavier_normal_(self.weight)

    def forward(self, embedding: Tensor) -> Tensor:
        """Embeddings (B, E) of unit length to cosines (B, K)."""
        with torch.autocast(embedding.device.type, enabled=False):
            return F.linear(embedding, F.normalize(self.weight, dim=1))
