"""Predictions as a table: written row by row to csv or Parquet, or as arrays, and its beginning to the terminal."""

from __future__ import annotations

import csv
import os
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from src.errors import UserError
from src.runtime import output as outputs
from src.runtime.console import say

if TYPE_CHECKING:
    import pyarrow as pa

HEAD = 10  # rows shown
FORMS = (".csv", ".parquet", ".npz")

Columns = Mapping[str, Sequence[Any]]


class Output:
    """A table that is written some rows at a time and there only when it is whole.

    Args:
        path: of a .csv or .parquet file, or of an .npz with an array for each column.
        force: write over one that exists.

    Attributes:
        rows: written so far.
        head: the first of them.

    Raises:
        UserError: another ending, a folder that is not there, a file that exists.
    """

    def __init__(self, path: Path, *, force: bool = False) -> None:
        self.path = path.expanduser().absolute()
        if self.path.suffix not in FORMS:
            raise UserError(f"output={path}: a name that ends in {', '.join(FORMS[:-1])} or {FORMS[-1]}")
        outputs.check_folder(self.path, shown=path)
        outputs.check(self.path, force, shown=f"output={path}")
        self.rows = 0
        self.head: dict[str, list[Any]] = {}
        self._temporary = self.path.with_name(f".{self.path.name}.{os.getpid()}.tmp")
        self._file: Any = None
        self._table: Any = None

    def __enter__(self) -> Output:
        return self

    def write(self, columns: Columns) -> None:
        """Append rows, with the columns of the first ones."""
        if self._table is None:
            self._open(columns)
        if self.rows < HEAD:
            more = HEAD - self.rows
            self.head = {name: [*self.head.get(name, ()), *values[:more]] for name, values in columns.items()}
        self.rows += len(next(iter(columns.values())))
        if self.path.suffix == ".csv":
            self._table.writerows(map(_cells, zip(*columns.values(), strict=True)))
        elif self.path.suffix == ".npz":
            for name, values in columns.items():
                self._table[name].extend(values)
        else:
            self._table.write_batch(_record(columns, self._table.schema))

    def _open(self, columns: Columns) -> None:
        try:
            if self.path.suffix == ".csv":
                self._file = open(self._temporary, "w", newline="", encoding="utf-8")  # noqa: SIM115 (closed by __exit__)
                self._table = csv.writer(self._file)
                self._table.writerow(columns)
            elif self.path.suffix == ".npz":
                self._file = open(self._temporary, "wb")  # noqa: SIM115 (closed by __exit__)
                self._table = {name: [] for name in columns}
            else:
                import pyarrow as pa  # noqa: PLC0415 - takes a while, and csv does without
                from pyarrow import parquet  # noqa: PLC0415 - the same

                schema = _record(columns).schema
                for place, field in enumerate(schema):
                    if pa.types.is_null(field.type):  # as yet: what comes later is written as text
                        schema = schema.set(place, field.with_type(pa.string()))
                self._file = self._table = parquet.ParquetWriter(str(self._temporary), schema)
        except OSError as error:
            raise UserError(f"output={self.path} cannot be written ({error.strerror or error})") from None

    def _write_arrays(self) -> None:
        """Write the arrays as np.savez does, which would take a column named `file` for an argument of its own."""
        with zipfile.ZipFile(self._file, "w") as archive:
            for name, values in self._table.items():
                with archive.open(f"{name}.npy", "w", force_zip64=True) as entry:
                    np.lib.format.write_array(entry, _array(values), allow_pickle=False)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            if error is None and self.path.suffix == ".npz":
                self._write_arrays()
            self._file.close()
            if error is None:
                os.replace(self._temporary, self.path)
            else:
                self._temporary.unlink(missing_ok=True)


def _cells(row: Sequence[Any]) -> list[Any]:
    # eight digits are what a float32 has, and no more
    return [f"{value:.8g}" if isinstance(value, float) else value for value in row]


def _array(values: Sequence[Any]) -> np.ndarray:
    array = np.array(values)
    if array.dtype == object:  # what is missing: text, since objects would have to be unpickled
        return array.astype(str)
    return array.astype(np.float32) if array.dtype == np.float64 else array


def _record(columns: Columns, schema: pa.Schema | None = None) -> pa.RecordBatch:
    import pyarrow as pa  # noqa: PLC0415 - takes a while, and csv does without

    arrays = [pa.array(list(values)) for values in columns.values()]
    if schema is not None:
        arrays = [array.cast(kind) for array, kind in zip(arrays, schema.types, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, names=list(columns))


def print_rows(console: Console, columns: Columns) -> None:
    """Print a table of the rows; a single row as a line for each column, where texts keep their own lines."""
    count = len(next(iter(columns.values()), ()))
    if count == 1:
        for name, (value,) in columns.items():
            say(console, Text.assemble((name, "bold"), " ", _shown(value)))
        return
    table = Table()
    # the probabilities of many classes, the attributions to many columns would leave no room for the rest
    wide = len(columns) > 8 or "embedding" in columns
    names = [name for name in columns if not wide or not name.startswith(("P(", "why(", "embedding"))]
    for name in names:
        table.add_column(
            escape(name), justify="right" if isinstance(next(iter(columns[name]), None), int | float) else "left"
        )
    for row in zip(*(columns[name] for name in names), strict=True):
        table.add_row(*(escape(_shown(value)) for value in row))
    console.print(table)


def _shown(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
