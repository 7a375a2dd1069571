"""A modality, a dataset and a model of one's own, as a user would write them in a file beside their data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from src import plots
from src.data.core.inputs import Inputs, Rows
from src.data.core.modality import Modality, Source, register_modality
from src.data.core.module import DataModule
from src.errors import UserError
from src.models import Model
from src.plots.base import Figure
from src.runtime.ranges import PositiveInt
from src.spec import DataSpec, InputSpec
from src.tasks import Task


@dataclass(frozen=True)
class CloudSpec(InputSpec):
    """Points of a plane in no order, float32 (P, 2).

    Attributes:
        radius: of the largest cloud of the training split.
    """

    modality = "cloud"

    radius: float = 1.0


class Clouds(DataModule):
    """Rings and discs.

    Args:
        rows: of the training split.
        columns: points of a cloud.
        val_rows, test_rows: of the other splits.
    """

    name = "clouds"
    inputs = (CloudSpec,)
    tasks = ("classification",)
    class_names = ("disc", "ring")
    source = "drawn at random"
    ordered = False

    def __init__(
        self,
        *,
        rows: PositiveInt = 64,
        columns: PositiveInt = 12,
        val_rows: int = 32,
        test_rows: int = 32,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.sizes, self.points = {"train": rows, "val": val_rows, "test": test_rows}, columns

    def load(self) -> dict[str, Mapping[str, Tensor]]:
        random = torch.Generator().manual_seed(self.split_seed)
        return {name: self._drawn(rows, random) for name, rows in self.sizes.items()}

    def _drawn(self, rows: int, random: torch.Generator) -> dict[str, Tensor]:
        target = torch.arange(rows) % 2
        angle, radius = 2 * torch.pi * torch.rand(2, rows, self.points, generator=random)
        radius = torch.where(target[:, None] == 1, 1.0, radius / (2 * torch.pi))
        return {"input": torch.stack([radius * angle.cos(), radius * angle.sin()], 2), "target": target}

    def _measure_input(self, **more: Any) -> InputSpec:
        radius = self.splits["train"]["input"].norm(dim=2).max().item()
        return super()._measure_input(mean=(), std=(), radius=radius, **more)


@dataclass
class CloudFile(Inputs):
    """Clouds of a file, one a line: `x y x y ...`."""

    path: Path = Path()
    scale: float = 1.0

    def batches(self, size: int) -> Iterator[Rows]:
        clouds = [[float(cell) for cell in line.split()] for line in self.path.read_text().splitlines()]
        shape = self.spec.input_shape
        for start in range(0, len(clouds), size):
            x = torch.tensor(clouds[start : start + size]).view(-1, *shape) * self.scale
            yield Rows({"row": list(range(start + 1, start + len(x) + 1))}, x)


@dataclass
class CloudArray(Inputs):
    """Clouds (N, P, 2) of a program."""

    values: np.ndarray = field(default_factory=lambda: np.zeros((0, 1, 2)))

    def batches(self, size: int) -> Iterator[Rows]:
        if self.values.shape[1:] != self.spec.input_shape:
            raise UserError(f"clouds of shape {self.values.shape[1:]}, not {self.spec.input_shape}")
        for start in range(0, len(self.values), size):
            x = torch.tensor(self.values[start : start + size], dtype=torch.float32)
            yield Rows({"row": list(range(start + 1, start + len(x) + 1))}, x)


@register_modality("cloud")
class CloudModality(Modality):
    """Clouds, of which an attribution may remove points."""

    def options(self, path: Path) -> tuple[str, ...]:
        return ("scale",)

    def inputs(self, source: Source) -> Inputs:
        return CloudFile(self.spec, path=source.path, scale=float(source.options.get("scale", 1)))

    def from_memory(self, rows: Any, folder: Path) -> Inputs:
        return CloudArray(self.spec, values=np.asarray(rows))

    def describe(
        self, splits: Mapping[str, Any], described: Mapping[str, Any], times: Sequence[str]
    ) -> Iterator[tuple[str, str]]:
        yield "points", f"{self.spec.input_shape[0]} in a circle of {self.spec.input_as(CloudSpec).radius:.2f}"

    def draw(self, data: DataModule) -> Figure:
        return plots.samples.channels(data.head("train", 1)["input"][0].numpy(), {}, ["x", "y"])

    def content(self, inputs: Tensor) -> list[dict[str, str]]:
        return [{"centre": f"{x:.2f} {y:.2f}"} for x, y in inputs.mean(1).tolist()]

    @property
    def methods(self) -> tuple[str, ...]:
        return ("integrated gradients",)

    def removable(self, x: Tensor) -> Tensor:
        return torch.ones(x.shape[:2], dtype=torch.bool, device=x.device)

    def spread(self, mask: Tensor, x: Tensor) -> Tensor:
        return mask.unsqueeze(2).expand_as(x)

    def per_cell(self, values: Tensor) -> Tensor:
        return values.sum(2)

    def cell_names(self, x: Tensor) -> list[list[str]]:
        return [[f"({a:.1f} {b:.1f})" for a, b in cloud] for cloud in x.tolist()]

    def draw_attributions(self, x: Tensor, found: Mapping[str, Tensor], titles: Sequence[str]) -> Figure:
        ((method, values),) = found.items()
        return plots.attribution.words(self.cell_names(x), values.tolist(), titles, method)


class PointNet(Model):
    """The largest feature of all points (Qi et al. 2017, arXiv:1612.00593).

    Args:
        width: features of a point.
    """

    inputs = (CloudSpec,)
    tasks = ("classification", "binary")

    def __init__(self, spec: DataSpec, task: Task, *, width: PositiveInt = 32) -> None:
        super().__init__(spec, task)
        self.point = nn.Sequential(nn.Linear(2, width), nn.ReLU(), nn.Linear(width, width))
        self.head = nn.Linear(width, task.num_outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Raw clouds (B, P, 2) to outputs (B, num_outputs)."""
        return self.head(self.point(self.normalize(x)).amax(1))
