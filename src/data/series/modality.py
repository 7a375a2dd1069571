"""Series as a modality: rows are windows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor
from typing_extensions import override

from src import plots
from src.data.core.chunks import Split
from src.data.core.modality import Listing, Modality, Source, register_modality
from src.data.core.splits import column_as
from src.data.series.windows import Windows
from src.data.tables.modality import ARRAYS, archived, handed_array, scaled_columns
from src.spec import Horizon, SeriesSpec

if TYPE_CHECKING:
    from src.data.core.inputs import Inputs
    from src.data.core.module import DataModule
    from src.plots.base import Figure


@register_modality("series")
class SeriesModality(Modality):
    """Windows of steps: cut from one long series, which is forecast, or each a row of its own."""

    @override
    def options(self, path: Path) -> tuple[str, ...]:
        return ARRAYS if path.suffix == ".npz" else ()

    @override
    def inputs(self, source: Source) -> Inputs:
        return archived(source, self) if source.path.suffix == ".npz" else super().inputs(source)

    def from_memory(self, rows: Any, folder: Path) -> Inputs:
        """Read windows (N, T, F)."""
        return handed_array(self, np.asarray(rows), folder)

    @override
    def describe(
        self, splits: Mapping[str, Split], described: Mapping[str, Any], times: Sequence[str]
    ) -> Iterator[tuple[str, str]]:
        form, target = self.spec.input_as(SeriesSpec), self.spec.target
        if isinstance(target, Horizon):
            yield "window", f"{target.steps} steps ahead from {form.shape[0]} known ones"
            yield "season", f"{form.season} steps" if form.season else "none was given (data.season=)"
            if len(times) > 1:
                yield "steps", f"{len(times):,} from {times[0]}, {times[1]} to {times[-1]}"

    @override
    def columns(self, described: Mapping[str, Any]) -> Listing | None:
        target = self.spec.target
        return scaled_columns(self, target.naive_errors) if isinstance(target, Horizon) else None

    def draw(self, data: DataModule) -> Figure:
        """The whole series with its splits, or one row."""
        if self.shares_rows:
            targets = {name: column_as(split, "target", Windows) for name, split in data.splits.items()}
            bounds = {name: (int(t.starts[0]), int(t.starts[-1]) + t.length) for name, t in targets.items()}
            values = column_as(data.splits["train"], "input", Windows).values.numpy()
            return plots.samples.channels(values, bounds, self.spec.input.feature_names)
        names = self.column_names(self.spec.input_shape[1])
        return plots.samples.channels(data.head("train", 1)["input"][0].numpy(), {}, names)

    def column_rows(self, train: Split) -> Tensor | None:
        """Steps of the series that windows are cut from."""
        if not self.shares_rows:
            return None
        target = train["target"]
        return train["input"].values[: int(target.starts[-1]) + target.length]

    @property
    def shares_rows(self) -> bool:
        """Windows of one series share their steps, and are split by time."""
        return isinstance(self.spec.target, Horizon)

    # attributions ---------------------------------------------------------------------------------------------------

    @property
    @override
    def methods(self) -> tuple[str, ...]:
        return ("integrated gradients",)

    def cell_names(self, x: Tensor) -> list[list[str]]:
        """The numbers of a window, step by step: `number at 3`."""
        names = self.column_names(x.shape[-1])
        return [[f"{name} at {step}" for step in range(x.shape[1]) for name in names]] * len(x)

    @override
    def draw_attributions(self, x: Tensor, found: Mapping[str, Tensor], titles: Sequence[str]) -> Figure:
        ((method, values),) = found.items()
        return plots.attribution.heat(values.numpy(), self.column_names(x.shape[-1]), titles, method)
