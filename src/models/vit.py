"""ViT: a Transformer over patches of an image or of a series (Dosovitskiy et al. 2020, arXiv:2010.11929)."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Literal

from torch import Tensor, nn

from src.errors import UserError
from src.models.base import Model
from src.models.components.transformer import NormPlace, Positions, Transformer
from src.runtime.ranges import PositiveFloat, PositiveInt, Share
from src.spec import DataSpec, ImageSpec, SeriesSpec
from src.tasks import Task
from src.tasks.abilities import AttendedPatches


class ViT(Model):
    """Patches, projected; blocks in which all see each other; their mean, or one more patch, into a linear head.

    Args:
        spec: what the data is; input (C, H, W) or (T, F).
        task: gives the number of outputs.
        patch_size: pixels each way, or steps; what does not fill a patch at the right and lower edge is padded with
            the mean. null: an eighth of the shorter side, at least 2.
        width, num_layers, num_heads, dropout, norm, positions, mlp_ratio: of the stack.
        pooling: mean over the patches (Beyer et al. 2022, arXiv:2205.01580), or `first`, an additional learned patch.

    Raises:
        UserError: a value out of its range.
    """

    inputs = (ImageSpec, SeriesSpec)
    tasks = ("classification", "binary", "regression", "forecasting")

    def __init__(
        self,
        spec: DataSpec,
        task: Task,
        *,
        patch_size: PositiveInt | None = None,
        width: PositiveInt = 64,
        num_layers: PositiveInt = 4,
        num_heads: PositiveInt = 4,
        dropout: Share = 0.1,
        norm: NormPlace = "pre",
        positions: Positions = "learned",
        mlp_ratio: PositiveFloat = 4.0,
        pooling: Literal["mean", "first"] = "mean",
    ) -> None:
        super().__init__(spec, task)
        sides = spec.input_shape[1:] if isinstance(spec.input, ImageSpec) else spec.input_shape[:1]
        size = patch_size or max(2, min(sides) // 8)
        if not 1 <= size <= min(sides):
            raise UserError(f"model.patch_size={patch_size}: from 1 to the input's shorter side, {min(sides)}")
        if pooling not in ("mean", "first"):
            raise UserError(f"model.pooling={pooling}: mean or first")
        self.patch_size = size
        # at the end of each side, the last side first, as torch's pad takes them
        self.fill = [amount for side in reversed(sides) for amount in (0, -side % size)]
        self.grid = tuple(-(-side // size) for side in sides)
        patches = prod(self.grid)
        image = isinstance(spec.input, ImageSpec)
        channels = spec.input_shape[0] if image else spec.input_shape[1]
        self.patches = (nn.Conv2d if image else nn.Conv1d)(channels, width, size, stride=size)
        self.first = nn.Embedding(1, width) if pooling == "first" else None
        self.body = Transformer(
            width=width,
            num_layers=num_layers,
            num_heads=num_heads,
            max_length=patches + (pooling == "first"),
            dropout=dropout,
            norm=norm,
            positions=positions,
            mlp_ratio=mlp_ratio,
            init="xavier",
        )
        self.head = nn.Linear(width, task.num_outputs)
        if self.first is not None:
            nn.init.normal_(self.first.weight, std=0.02)

    def forward(self, x: Tensor) -> Tensor:
        """Raw images (B, C, H, W) or series (B, T, F) to outputs (B, num_outputs)."""
        return self.head(self.pooled(self.body(self.embed_input(x))))

    def embed_input(self, x: Tensor) -> Tensor:
        """Patches as vectors (B, P, width), row by row."""
        x = self.normalize(x)
        x = x if isinstance(self.spec.input, ImageSpec) else x.mT
        x = self.patches(nn.functional.pad(x, self.fill)).flatten(2).mT
        if self.first is None:
            return x
        return nn.functional.pad(x, (0, 0, 1, 0)) + nn.functional.pad(self.first.weight, (0, 0, 0, x.shape[1]))

    def attention(self, batch: Mapping[str, Tensor]) -> dict[str, AttendedPatches]:
        """Attention weights of each layer over the patches of raw rows (B, ...)."""
        weights = self.body.attention_maps(self.embed_input(batch["input"]))[0]
        return {"attention": AttendedPatches(weights, self.grid, self.patch_size)}

    def pooled(self, x: Tensor) -> Tensor:
        """(B, P, width) to (B, width)."""
        return x.mean(1) if self.first is None else x[:, 0]
