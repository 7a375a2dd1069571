"""Series of numbers over time, to be forecast: windows of what was, and of what came next."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, Unpack

import numpy as np
import torch

from src.data.core import subset
from src.data.core.files import data_root, download, own_file
from src.data.core.module import DataModule
from src.data.core.options import Fraction, LoaderOptions, with_defaults
from src.data.core.splits import Split, moments
from src.data.series.reader import Gaps, Timetable, read_timetable
from src.data.series.windows import Windows
from src.errors import UserError, suggest
from src.runtime.ranges import PositiveInt
from src.spec import DataSpec, Horizon, InputSpec, SeriesSpec

Source = Literal["file", "ett", "airline", "sp500"]
Transform = Literal["none", "log", "diff", "log_diff"]

SOURCES = ("file", "ett", "airline", "sp500")
TRANSFORMS = ("none", "log", "diff", "log_diff")


class Series(DataModule):
    """Windows over the rows of a csv file, split by time into train, val and test, in this order.

    A batch is `{"input": (B, context, F), "target": (B, horizon, targets)}`, both in the units of the file (or of the
    transform). A window belongs to the part that its target lies in, with all of it: windows of val and test reach back
    for their context into what came before. Mean and deviation are those of the training rows. A share of the training
    part (`train_fraction`) is its latest rows, whatever the seed.

    Args:
        source: `ett` (hourly load and oil temperature of a transformer, Zhou et al. 2021, arXiv:2012.07436), `airline`
            (passengers a month, Box and Jenkins 1970), `sp500` (daily quotes), each downloaded once, or `file`.
        path: of a csv file with a header, where the source is a file.
        root: folder for downloads; null: LABBOOK_DATA_ROOT, else data/ in the project.
        time: name of the column of times: dates, dates with hours, months (1949-01) or numbers.
        targets: columns to be forecast; null: all that are neither times nor covariates.
        covariates: further columns that a forecast may look at, in the past.
        context: steps that a forecast looks at.
        horizon: steps that are forecast.
        stride: between the starts of two training windows; all windows of val and test are used.
        season: steps after which the series repeats itself, for the naive forecast; null: none.
        transform: of every column: none, log, diff (the change from the row before) or log_diff.
        gaps: whether rows may be missing: error or allow.
        rows: of the file to be used, from the first one on; null: all.
        val_rows, test_rows: of these parts; null: as the fractions say.

    Raises:
        UserError: an option out of its range, a file that is not as `read_timetable` wants it, a logarithm of what is
            not positive (line named), or a part shorter than a window.
    """

    inputs = (SeriesSpec,)
    tasks = ("forecasting",)

    def __init__(
        self,
        *,
        source: Source = "file",
        path: str | None = None,
        root: str | None = None,
        time: str = "date",
        targets: list[str] | None = None,
        covariates: list[str] | None = None,
        context: PositiveInt = 24,
        horizon: PositiveInt = 1,
        stride: PositiveInt = 1,
        season: PositiveInt | None = None,
        transform: Transform = "none",
        gaps: Gaps = "error",
        rows: PositiveInt | None = None,
        val_rows: PositiveInt | None = None,
        test_rows: PositiveInt | None = None,
        val_fraction: Fraction = 0.15,
        test_fraction: Fraction = 0.15,
        **common: Unpack[LoaderOptions],
    ) -> None:
        super().__init__(
            val_fraction=val_fraction,
            test_fraction=test_fraction,
            standardize=False,  # of windows; _measure_input takes the rows
            **with_defaults(common, eval_batch_size=256),
        )
        _check_known(source=(source, SOURCES), transform=(transform, TRANSFORMS), gaps=(gaps, ("error", "allow")))
        if season is not None and season > context:
            raise UserError(f"data.season={season}: the naive forecast needs data.context={context} to be as long")
        self.name = "series" if source == "file" else source
        self.path = own_file(source, path)
        self.root = data_root(root)
        self.time, self.targets, self.covariates = time, targets, list(covariates or ())
        self.context, self.horizon, self.stride, self.season = context, horizon, stride, season
        self.transform: Transform = transform
        self.gaps: Gaps = gaps
        self.rows = rows
        self.feature_names: tuple[str, ...] = ()
        self.part_rows = {"val": val_rows, "test": test_rows}

    def prepare_data(self) -> None:
        if self.name != "series":
            self.path = download(self.name, self.root)[0]

    def load(self) -> dict[str, Split]:
        self.prepare_data()
        self.source = str(self.path)
        wanted = None if self.targets is None else [*self.targets, *self.covariates]
        table = read_timetable(self.path, self.time, wanted, self.gaps)
        table = self._targets_first(table)
        self.feature_names = table.columns
        self.times = table.times
        self._values = torch.from_numpy(transformed(table, self.transform, self.path).astype(np.float32))
        return self._windows()

    def whole(self, spec: DataSpec) -> Split:
        """Every window of the file, in the order of the training series' columns."""
        self.prepare_data()
        table = read_timetable(self.path, self.time, spec.input.feature_names, self.gaps)
        values = torch.from_numpy(transformed(table, self.transform, self.path).astype(np.float32))
        starts = torch.arange(self.context, len(values) - self.horizon + 1)
        if not len(starts):
            raise UserError(
                f"data.path: {self.path} has {len(table.values)} rows, data.context + data.horizon needs more than that"
            )
        return self._cut(values, starts, len(spec.target.naive_errors))

    def _cut(self, values: torch.Tensor, starts: torch.Tensor, targets: int) -> Split:
        return {
            "input": Windows(values, starts - self.context, self.context),
            "target": Windows(values[:, :targets], starts, self.horizon),
        }

    def _targets_first(self, table: Timetable) -> Timetable:
        for name in self.covariates:
            if name not in table.columns:
                raise UserError(f"data.covariates: {self.path} has no column {name}{suggest(name, table.columns)}")
        names = self.targets or [name for name in table.columns if name not in self.covariates]
        both = set(names) & set(self.covariates)
        if both or not names:
            what = f"{min(both)} is among data.targets too" if both else "no column is left to be forecast"
            raise UserError(f"data.covariates={self.covariates}: {what}")
        self._num_targets = len(names)
        order = [table.columns.index(name) for name in (*names, *self.covariates)]
        rows = len(table.values) if self.rows is None else self.rows
        if rows > len(table.values):
            raise UserError(f"data.rows={rows}: {self.path} has {len(table.values)}")
        return Timetable(table.values[:rows, order], (*names, *self.covariates), table.lines[:rows], table.times[:rows])

    def _windows(self) -> dict[str, Split]:
        total = len(self._values)
        shares = {"val": self.val_fraction, "test": self.test_fraction}
        sizes = {name: self.part_rows[name] or round(total * share) for name, share in shares.items()}
        self._train_rows = max(0, total - sum(sizes.values()))
        least = {"train": self.context + self.horizon, "val": self.horizon, "test": self.horizon}
        splits: dict[str, Split] = {}
        begin = self._train_begin = subset.latest(self._train_rows, self.train_fraction)
        self._is_share = True
        for name, size in {"train": self._train_rows - begin, **sizes}.items():
            if size < least[name]:
                window = "data.context + data.horizon" if name == "train" else "data.horizon"
                of = f" (train_fraction={self.train_fraction})" if name == "train" and self.train_fraction != 1 else ""
                raise UserError(
                    f"data={self.name}: the {name} split has {size} of {total} rows{of}, {window} needs {least[name]}"
                )
            first = begin + self.context if name == "train" else begin  # where a target can start
            starts = torch.arange(first, begin + size - self.horizon + 1, self.stride if name == "train" else 1)
            splits[name] = self._cut(self._values, starts, self._num_targets)
            begin += size
        return splits

    def _split(self, splits: dict[str, Split]) -> dict[str, Split]:
        return splits  # by time

    @property
    def _differenced(self) -> bool:
        return self.transform.endswith("diff")

    def _measure_input(self, **more: Any) -> InputSpec:
        mean, std = moments(self._values[self._train_begin : self._train_rows])
        facts = {"season": self.season or 0, "differenced": self._differenced, "feature_names": self.feature_names}
        return super()._measure_input(mean=mean, std=std, **facts, **more)

    def _measure_target(self) -> Horizon:
        targets = self._values[self._train_begin : self._train_rows, : self._num_targets].double()
        lag = self.season or 1
        errors = (targets if self._differenced else targets[lag:] - targets[:-lag]).abs().mean(0).tolist()
        return Horizon(self.horizon, tuple(error or 1.0 for error in errors))  # a constant channel


def transformed(table: Timetable, transform: Transform, path: Path) -> np.ndarray:
    """The table's values (T, F) as the transform makes them, one row fewer where it takes changes.

    Raises:
        UserError: a value that has no logarithm (line named).
    """
    values = table.values
    if transform.startswith("log"):
        if (values <= 0).any():
            row, column = np.argwhere(values <= 0)[0]
            raise UserError(
                f"data.transform={transform}: {path}, line {table.lines[row]}, column "
                f"{table.columns[column]}: {values[row, column]:g} has no logarithm, it is not above 0"
            )
        values = np.log(values)
    return np.diff(values, axis=0) if transform.endswith("diff") else values


def _check_known(**options: tuple[str, tuple[str, ...]]) -> None:
    for option, (value, known) in options.items():
        if value not in known:
            raise UserError(f"data.{option}={value} is not known{suggest(value, known)}")
