"""Columns of a table: the type of each, what the training rows fit to it, and its cells as numbers for a model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import Tensor

from src.data.tables.reader import NUMBER, numbers, texts
from src.errors import UserError
from src.spec import ColumnSchema, TableSpec
from src.spec.table import DATE_PARTS

TYPES = ("number", "category", "date", "text", "ignore")
QUANTILES = 256
DISTINCT = 100_000  # values of a column that are kept apart while its type is sought
SAMPLE = 20_000  # training rows from which medians and quantiles come

_INFINITE = r"^(?i:[+-]?inf(inity)?)$"
_ISO = "ISO8601"
_FORMATS = (_ISO, "%Y/%m/%d", "%m/%d/%Y", "%d/%m/%Y", "%d.%m.%Y", "%d-%m-%Y", "%d.%m.%Y %H:%M", "%m/%d/%Y %H:%M")
_MOSTLY = 0.9  # share of numbers or dates from which on the other cells are mistakes
_FEW = 20  # distinct values that are categories whatever their share
_PROBED = 1_000  # distinct values that are tried as dates

Place = Callable[[int, str], str]


# the type of a column -------------------------------------------------------------------------------------------------


class Survey:
    """What the cells of one column look like, over all rows.

    Attributes:
        kind: type, once `decide` was called; `ignore` where nothing can be learnt from it.
        format: of dates.
        reason: why a column is left out, or how it is used though nobody asked for it.
    """

    def __init__(self) -> None:
        self.kind, self.format, self.reason = "", "", ""
        self._rows = self._present = self._numeric = self._infinite = 0
        self._last: float | None = None
        self._counts_rows = True
        self._distinct: dict[str, None] = {}

    @property
    def missing(self) -> float:
        """Share of the cells without a value."""
        return 1 - self._present / max(1, self._rows)

    def update(self, cells: pa.Array) -> None:
        values, wrong = numbers(cells)
        finite = np.isfinite(values)
        self._rows += len(cells)
        self._present += len(cells) - cells.null_count
        self._numeric += int(finite.sum())
        before = values[:1] - 1 if self._last is None else [self._last]
        self._counts_rows &= bool((np.diff(values, prepend=before) == 1).all())
        self._last = values[-1]
        if not pa.types.is_string(cells.type):
            self._infinite += int(wrong.sum())
            return
        odd = cells.filter(pa.array(wrong))
        self._infinite += pc.sum(pc.match_substring_regex(odd, f"{NUMBER}|{_INFINITE}")).as_py() or 0
        if len(self._distinct) <= (_FEW if self._mostly_numbers() else DISTINCT):
            self._distinct.update(dict.fromkeys(pc.unique(cells.drop_null()).to_pylist()))

    def decide(self, given: str | None) -> None:
        """Takes the type that was asked for, or infers it."""
        if given is not None:
            self.kind, self.format = ("date", given) if "%" in given else (given, "")
            if given == "date":
                self.format = self._date_format(least=0.0) or _ISO
            return
        self.kind, self.reason = self._infer()

    def _infer(self) -> tuple[str, str]:
        distinct = len(self._distinct)
        if not self._present:
            return "ignore", "empty"
        if self._numeric + self._infinite == self._present:
            if self._counts_rows and self._rows > 2:
                return "ignore", "row numbers"
            return "number", ""
        if self._mostly_numbers() and distinct > _FEW:
            return "number", ""  # the others are mistakes, each named when it is met
        self.format = self._date_format(_MOSTLY) or ""
        if self.format:
            return "date", ""
        if distinct > DISTINCT or distinct > max(_FEW, 0.5 * self._present):
            return "text", "text, hardly a value twice"
        return "category", ""

    def _mostly_numbers(self) -> bool:
        return self._numeric + self._infinite >= _MOSTLY * self._present

    def _date_format(self, least: float) -> str | None:
        """The format in which most values are dates, if more than that share of them are."""
        probe = list(self._distinct)[:_PROBED]
        if not any(mark in value for value in probe for mark in "-/."):
            return None
        shares = {form: float(np.mean(~np.isnat(_moments(probe, form)))) for form in _FORMATS}
        best = max(shares, key=shares.__getitem__)
        return best if shares[best] > least else None


def _moments(values: list[str | None], form: str) -> np.ndarray:
    """datetime64 (N,) in UTC, NaT where a value is none in that format."""
    import pandas as pd

    return pd.to_datetime(pd.Series(values, dtype=object), format=form, errors="coerce", utc=True).to_numpy(
        dtype="datetime64[s]"
    )


# cells as raw numbers -------------------------------------------------------------------------------------------------


def _raw(column: ColumnSchema | Survey, name: str, kind: str, cells: pa.Array, row: int, place: Place) -> np.ndarray:
    """Features (N, K) float64 before they are filled and scaled, NaN where a value is missing."""
    if kind == "number":
        values, wrong = numbers(cells)
        if wrong.any():
            at = int(wrong.argmax())
            raise UserError(
                f"{place(row + at, name)}: {str(cells[at])!r} is no finite number; mend it, or name it in "
                f"data.missing, or set data.types.{name}=category"
            )
        return values[:, None]
    if kind == "date":
        return _date_parts(column.format, name, cells, row, place)
    return np.empty((len(cells), 0))


def _date_parts(form: str, name: str, cells: pa.Array, row: int, place: Place) -> np.ndarray:
    import pandas as pd

    values = texts(cells).to_pylist()
    moments = _moments(values, form)
    present = cells.is_valid().to_numpy(zero_copy_only=False)
    wrong = np.isnat(moments) & present
    if wrong.any():
        at = int(wrong.argmax())
        raise UserError(
            f"{place(row + at, name)}: {values[at]!r} is no date of the form {form}; mend it, or set "
            f"data.types.{name} to another form or to category"
        )
    index = pd.DatetimeIndex(moments)
    days = moments.astype("int64") / 86_400
    splits = [index.year, index.month, index.day, index.day_of_week, index.hour, days]
    return np.where(present[:, None], np.stack([np.asarray(split, dtype=np.float64) for split in splits], 1), np.nan)


# fitting --------------------------------------------------------------------------------------------------------------


class Fit:
    """Gathers, piece by piece, what the training rows say about one column.

    Args:
        name: of the column.
        survey: its type.
        quantiles: map numbers by their quantiles.
        max_categories: that get a code.
    """

    def __init__(self, name: str, survey: Survey, *, quantiles: bool, max_categories: int) -> None:
        self.name, self.survey = name, survey
        self._quantiles, self._most = quantiles, max_categories
        self._missing = False
        self._counts: Counter[str] = Counter()
        self._n: Any = 0
        self._mean: Any = 0.0
        self._squares: Any = 0.0
        self._sample: list[np.ndarray] = []

    def update(self, cells: pa.Array, train: np.ndarray, sampled: np.ndarray, row: int, place: Place) -> None:
        """A piece of the file; `train` and `sampled` (N,) say which rows count, and which are kept for medians."""
        kind = self.survey.kind
        raw = _raw(self.survey, self.name, kind, cells, row, place)
        rows = cells.filter(pa.array(train))
        if kind == "category":
            counted = pc.value_counts(pc.fill_null(texts(rows), ""))
            self._counts.update({item["values"]: item["counts"] for item in counted.to_pylist()})
            return
        self._missing |= rows.null_count > 0
        values = raw[train]
        values = values[~np.isnan(values).any(1)]
        if not values.size:
            return
        # Chan, Golub and LeVeque 1979: the moments of two sets together
        n, mean = len(values), values.mean(0)
        squares, off = ((values - mean) ** 2).sum(0), mean - self._mean
        self._squares += squares + off**2 * self._n * n / (self._n + n)
        self._mean += off * n / (self._n + n)
        self._n += n
        if kind == "number":
            kept = raw[sampled, 0]
            self._sample.append(kept[~np.isnan(kept)])

    def column(self) -> ColumnSchema:
        kind = self.survey.kind
        if kind == "category":
            ranked = sorted(self._counts.items(), key=lambda item: (-item[1], item[0]))
            # what stands there once teaches the code of the unknown
            known = tuple(value for value, count in ranked[: self._most] if count > 1)
            return ColumnSchema(self.name, kind, categories=known)
        features = {"number": 1, "date": len(DATE_PARTS)}.get(kind, 0)
        mean = np.broadcast_to(self._mean, features)
        std = np.sqrt(np.broadcast_to(self._squares, features) / max(1, self._n))
        std = np.where(std <= 1e-12 * np.maximum(1.0, np.abs(mean)), 1.0, std)
        fill, quantiles = mean, np.empty(0)
        sample = np.concatenate(self._sample) if self._sample else np.empty(0)
        if sample.size:
            fill = np.median(sample, keepdims=True)
            if self._quantiles:
                quantiles = np.quantile(sample, np.linspace(0, 1, min(QUANTILES, len(sample))))
        plain = [tuple(array.tolist()) for array in (fill, mean, std, quantiles)]
        return ColumnSchema(self.name, kind, self.survey.format, (), self._missing, *plain)


# encoding -------------------------------------------------------------------------------------------------------------


def _unplaced(row: int, column: str) -> str:
    return f"row {row}, column {column}"


def encoded(
    spec: TableSpec, table: pa.Table, row: int = 1, place: Place = _unplaced
) -> tuple[dict[str, Tensor], dict[str, int]]:
    """A piece of a further table as a model for `spec` takes it; the target's column may be missing.

    Args:
        spec: of the input of data that `src.data.tables.csv` read.
        table: as a `TableFile` gives it.
        row: number of its first row.
        place: says where a cell of a row and a column is.

    Returns:
        `{"input": (N, F) float32}`, and for each column of categories how many cells were not known in training.

    Raises:
        UserError: a column is missing, or a cell is no number or date where training had them (row named).
    """
    values, unknown = encode(spec.columns, table, row, place)
    return {"input": values}, unknown


def encode(
    columns: Sequence[ColumnSchema], table: pa.Table, row: int = 1, place: Place = _unplaced
) -> tuple[Tensor, dict[str, int]]:
    """Numbers of all columns, then the codes of all categories (N, F) float32; see `encoded`."""
    numeric: list[np.ndarray] = []
    codes: list[np.ndarray] = []
    unknown = {}
    for column in columns:
        if column.name not in table.column_names:
            raise UserError(f"{place(row, column.name)}: there is no such column, the model was trained with it")
        cells = table.column(column.name).combine_chunks()
        if column.type == "category":
            code = _codes(column, cells)
            unknown[column.name] = int(((code == 0) & cells.is_valid().to_numpy(zero_copy_only=False)).sum())
            codes.append(code[:, None])
        else:
            numeric.append(_scaled(column, _raw(column, column.name, column.type, cells, row, place), cells))
    splits = [*numeric, *codes]
    together = np.concatenate(splits, 1) if splits else np.empty((len(table), 0))
    return torch.from_numpy(together.astype(np.float32)), unknown


def _codes(column: ColumnSchema, cells: pa.Array) -> np.ndarray:
    known = pc.index_in(pc.fill_null(texts(cells), ""), value_set=pa.array(column.categories, pa.string()))
    return pc.add(pc.fill_null(known, -1), 1).to_numpy(zero_copy_only=False)


def _scaled(column: ColumnSchema, raw: np.ndarray, cells: pa.Array) -> np.ndarray:
    values = np.where(np.isnan(raw), np.asarray(column.fill), raw) if raw.shape[1] else raw
    if column.quantiles:
        values = _normal(values, np.asarray(column.quantiles))
    elif raw.shape[1]:
        values = (values - column.mean) / column.std
    if not column.missing:
        return values
    return np.concatenate([values, cells.is_null().to_numpy(zero_copy_only=False)[:, None]], 1)


def _normal(values: np.ndarray, quantiles: np.ndarray) -> np.ndarray:
    """Values (N, 1) in the normal distribution's units by their rank; ties get the middle of their ranks."""
    steps = np.linspace(0, 1, len(quantiles))
    flat = values[:, 0]
    rank = (np.interp(flat, quantiles, steps) - np.interp(-flat, -quantiles[::-1], -steps[::-1])) / 2
    least = 0.5 / len(quantiles)
    return torch.special.ndtri(torch.from_numpy(rank.clip(least, 1 - least))).numpy()[:, None]
