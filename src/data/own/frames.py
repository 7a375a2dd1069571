"""Tables in memory, such as DataFrames, read by the code that reads tables in files."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal, Unpack

import pyarrow as pa
from typing_extensions import override

from src.data.core.options import SplitOptions
from src.data.own.items import TARGETS
from src.data.tables.csv import Csv
from src.data.tables.reader import MISSING, Table
from src.errors import UserError
from src.runtime.ranges import PositiveInt

INDEX = re.compile(r"__index_level_\d+__$")  # columns that tables made from those of pandas may have
_ROWS = 1 << 13  # in a piece


class Frame(Table):
    """A table in memory."""

    def __init__(self, table: pa.Table, origin: str, where: str, missing: Sequence[str] = MISSING) -> None:
        super().__init__(origin, where, missing)
        self.table, self.columns = table, tuple(table.column_names)
        self._check_names()

    @override
    def pieces(self) -> Iterator[pa.RecordBatch]:
        return iter(self.table.to_batches(max_chunksize=_ROWS))

    @override
    def _clean(self, cells: pa.Array, name: str) -> pa.Array:
        if isinstance(cells, pa.DictionaryArray):  # as pyarrow casts none of polars, whose categories are string_view
            cells = cells.dictionary.cast(pa.string()).take(cells.indices)
        return super()._clean(cells, name)


class Frames(Csv):
    """Tables of a user's own by split, or one of all rows.

    Args:
        made: the tables.
        title: their name.
        max_rows: of an iterable that they were read from.
        target: the column to be learnt; null: one called target, y, label or the like, else the last one.
        split_column, folds, fold, missing, types, ignore, labels, numbers, max_categories, task, in_memory: as of
            data=csv.

    Raises:
        UserError: as of data=csv, with the row's number in its table, counted from 1.
    """

    what = "tables"

    def __init__(
        self,
        *,
        made: Mapping[str, pa.Table],
        title: str,
        target: str | int | None = None,
        split_column: str | int | None = None,
        folds: int | None = None,
        fold: int = 0,
        missing: list[str | int | float] | None = None,
        types: dict[str, str] | None = None,
        ignore: list[str | int] | None = None,
        labels: dict[str, str | int] | None = None,
        numbers: Literal["standard", "quantile"] = "standard",
        max_categories: PositiveInt = 1000,
        task: str = "auto",
        in_memory: bool | None = None,
        anomalies: list[str | int] | None = None,
        max_rows: PositiveInt | None = None,
        **common: Unpack[SplitOptions],
    ) -> None:
        made = {
            split: table.select([n for n in table.column_names if not INDEX.match(n)]) for split, table in made.items()
        }
        main = "all" if "all" in made else "train"
        self._tables = {"path" if name == main else f"{name}_path": (name, table) for name, table in made.items()}
        names = self._tables["path"][1].column_names
        usual = next((name for name in names if name.lower() in TARGETS), names[-1] if names else None)
        super().__init__(
            path=title,
            target=usual if target is None else target,
            **{option: title for option in ("val_path", "test_path") if option in self._tables},  # type: ignore[arg-type]
            split_column=split_column,
            folds=folds,
            fold=fold,
            missing=missing,
            types=types,
            ignore=ignore,
            labels=labels,
            numbers=numbers,
            max_categories=max_categories,
            task=task,
            in_memory=in_memory,
            anomalies=anomalies,
            **common,
        )
        self.name = title

    @override
    def prepare_data(self) -> None:
        pass

    @override
    def _open(self, option: str) -> Frame:
        split, table = self._tables[option]
        where = f"data={self.name}" if split == "all" else f"data={self.name}, {split}"
        return Frame(table, self.name, where, self.reading["missing"])

    @override
    def row_name(self, split: str, row: int) -> str:
        return f"{split} row {int(self._index[split][row]) + 1}"


def frame_of(made: object, where: str) -> pa.Table | None:
    """A table of what holds one (pandas, polars, pyarrow and others that speak Arrow); None: it holds none.

    Raises:
        UserError: values that are of no one type in a column.
    """
    if isinstance(made, pa.Table):
        return made
    if hasattr(made, "to_frame"):  # one column
        return None
    try:
        if hasattr(made, "iloc") and hasattr(made, "columns"):
            # the index is no column: it numbers rows, or names them
            names = made.set_axis([str(name) for name in made.columns], axis=1)  # type: ignore[attr-defined]
            return pa.Table.from_pandas(names, preserve_index=False)
        if hasattr(made, "__arrow_c_stream__"):
            return pa.table(made)
    except (pa.ArrowException, TypeError, ValueError) as error:
        told = " ".join(str(part) for part in error.args) or type(error).__name__
        raise UserError(f"{where} makes a table that cannot be read: {told}") from None
    return None
