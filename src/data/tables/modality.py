"""Tables as a modality."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor
from typing_extensions import override

from src import plots
from src.data.core.chunks import Split
from src.data.core.modality import Field, Listing, Modality, Source, register_modality
from src.data.tables.inputs import Arrays, Table
from src.runtime.format import listed, number
from src.spec import ColumnSchema, TableSpec

if TYPE_CHECKING:
    from src.data.core.inputs import Inputs
    from src.data.core.lazy import Column
    from src.plots.base import Figure

READING = ("separator", "header", "encoding", "missing")  # options of a table's file
ARRAYS = ("inputs", "split")  # of an .npz archive
CONTENT = 30  # columns up to which an example's own are shown


def archived(source: Source, modality: Modality) -> Arrays:
    """Rows of an .npz archive."""
    given: dict[str, Any] = {"inputs": source.trained.get("inputs")} | dict(source.options)
    return Arrays(modality.spec, path=source.path, **given)


def handed_array(modality: Modality, values: np.ndarray, folder: Path) -> Arrays:
    """Write raw values (N, ...) to an archive in that folder, and read it."""
    np.savez(folder / "rows.npz", inputs=values)
    return Arrays(modality.spec, path=folder / "rows.npz", inputs="inputs")


@register_modality("table")
class TableModality(Modality):
    """Rows of numbers and codes of categories, from a file or an archive of arrays."""

    @property
    def form(self) -> TableSpec:
        """The spec's input."""
        return self.spec.input_as(TableSpec)

    # new rows -------------------------------------------------------------------------------------------------------

    @override
    def options(self, path: Path) -> tuple[str, ...]:
        return ARRAYS if path.suffix == ".npz" else ("keep", *READING)

    @override
    def inputs(self, source: Source) -> Inputs:
        if source.path.suffix == ".npz":
            return archived(source, self)
        reading = {name: source.trained.get(name) for name in READING} | dict(source.options)
        keep, target = reading.pop("keep", None), source.trained.get("target")
        if reading["missing"] is None:
            del reading["missing"]
        return Table(
            self.spec,
            path=source.path,
            target=None if target is None else str(target),
            keep=None if keep is None else [str(name) for name in keep],
            reading=reading,
        )

    def from_memory(self, rows: Any, folder: Path) -> Inputs:
        """Read an array (N, F), or a DataFrame by its columns' names."""
        if not hasattr(rows, "to_csv"):
            return handed_array(self, np.asarray(rows), folder)
        rows.to_csv(folder / "rows.csv", index=False)
        return Table(self.spec, path=folder / "rows.csv", reading={"separator": ",", "header": True})

    @override
    def signature(self) -> list[Field] | None:
        types = {column.name: column.type for column in self.form.columns}
        types = types or dict.fromkeys(self.form.feature_names, "number")
        return [Field(name, numeric=kind == "number") for name, kind in types.items()]

    # in words -------------------------------------------------------------------------------------------------------

    def columns(self, described: Mapping[str, Any]) -> Listing | None:
        """Type of each column and its statistics over the training rows, or its scaling."""
        if "columns" not in described:
            return scaled_columns(self)
        fitted = {column.name: column for column in self.form.columns}
        rows = []
        for name, column in described["columns"].items():
            share = f"{100 * column['missing']:.1f} %" if column["missing"] else "-"
            rows.append([name, column["type"], share, column["note"] or _fitted(fitted.get(name))])
        return Listing(("column", "type", "missing", "training rows, or why not"), rows, ("missing",), "columns")

    @override
    def content(self, inputs: Tensor) -> list[dict[str, str]]:
        names = self.column_names(inputs.shape[1])
        if len(names) > CONTENT:
            return super().content(inputs)
        return [dict(zip(names, self.cells(row), strict=True)) for row in inputs.tolist()]

    def cells(self, row: Sequence[float]) -> list[str]:
        """The cells of a row as its file has them: categories by name, numbers and the parts of dates in their own
        unit. Numbers that were mapped by their quantiles stay in standard units.
        """
        found, names = [f"{value:.4g}" for value in row], list(self.form.feature_names)
        for column in self.form.columns:
            if column.type == "category":
                place = names.index(column.name)
                found[place] = ("unknown", *column.categories)[int(row[place])] or "missing"
            elif column.type == "number" and not column.quantiles:
                place = names.index(column.name)
                (mean,), (std,) = column.mean, column.std
                value = row[place] * std + mean
                found[place] = f"{value:.4g}" if abs(value) > 1e-5 * std else "0"  # float32 hardly gives a 0 back
            elif column.type == "date":
                first = names.index(f"{column.name} year")
                for place, (mean, std) in enumerate(zip(column.mean, column.std, strict=True), first):
                    found[place] = f"{row[place] * std + mean:.6g}"
        return found

    # columns --------------------------------------------------------------------------------------------------------

    @override
    def column_rows(self, train: Split) -> Tensor | Column | None:
        return train["input"] if len(train["input"].shape) == 2 else None

    @override
    def numeric_columns(self, count: int) -> int:
        return count - len(self.form.cardinalities)

    @override
    def units(self, count: int) -> tuple[list[float], list[float]]:
        if not self.form.columns:
            return super().units(count)
        mean: list[float] = []
        std: list[float] = []
        for column in self.form.columns:
            if column.type != "category":
                scaled = not column.quantiles
                flag = [column.missing] if column.missing else []
                mean += [*(column.mean if scaled else [0.0] * len(column.mean)), *(0.0 for _ in flag)]
                std += [*(column.std if scaled else [1.0] * len(column.std)), *(1.0 for _ in flag)]
        return mean, std

    @override
    def categories(self) -> dict[str, list[str]]:
        return {
            column.name: ["others", *(name or "(missing)" for name in column.categories)]
            for column in self.form.columns
            if column.type == "category"
        }

    def may_be_constant(self) -> Collection[str]:
        """Parts of dates: hours and years may never change; the days tell whether a date does."""
        dates = [column.name for column in self.form.columns if column.type == "date"]
        return {f"{name} {part}" for name in dates for part in ("year", "month", "day", "weekday", "hour")}

    @property
    @override
    def outlier_remedy(self) -> str:
        return "; data.numbers=quantile evens them out" if self.form.columns else ""

    # attributions ---------------------------------------------------------------------------------------------------

    @property
    def methods(self) -> tuple[str, ...]:
        """Integrated gradients; ablation, column by column, if there are categories, which have no gradient."""
        return ("ablation",) if self.form.cardinalities else ("integrated gradients",)

    @override
    def baseline(self, x: Tensor, mean: Tensor | None) -> Tensor:
        values = super().baseline(x, mean)
        if mean is not None and self.form.cardinalities:
            values[:, -len(self.form.cardinalities) :] = 0
        return values

    @property
    @override
    def has_columns(self) -> bool:
        return True

    @override
    def draw_attributions(self, x: Tensor, found: Mapping[str, Tensor], titles: Sequence[str]) -> Figure:
        ((method, values),) = found.items()
        names, cells = self.column_names(x.shape[1]), [self.cells(row) for row in x.tolist()]
        return plots.attribution.bars(names, cells, values.numpy(), titles, method)


def scaled_columns(modality: Modality, errors: Sequence[float] = ()) -> Listing | None:
    """Mean and deviation of each column; None where none were measured.

    Args:
        errors: of the naive forecast, for the first columns.
    """
    form = modality.spec.input
    if not form.mean:
        return None
    headings = ("column", "mean", "deviation", *(["naive error"] if errors else []))
    rows = [
        [name, *map(number, [form.mean[place], form.std[place], *errors[place : place + 1]])]
        for place, name in enumerate(modality.column_names(len(form.mean)))
    ]
    rows = [row + [number(None)] * (len(headings) - len(row)) for row in rows]
    return Listing(headings, rows, headings[1:], "columns")


def _fitted(column: ColumnSchema | None) -> str:
    if column is None:
        return "-"
    if column.type == "category":
        names = [name or "(missing)" for name in column.categories]
        return f"{len(names):,} categories: {listed(names, 4)}" if names else "no category twice"
    if column.type == "number":
        return f"mean {number(column.mean[0])}, deviation {number(column.std[0])}"
    return column.format or "-"
