"""Tables in files (csv, tsv, either gzipped, Parquet), read piece by piece: text without outer spaces, and nulls."""

from __future__ import annotations

import csv
import gzip
import re
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from typing_extensions import override

from src.errors import UserError

if TYPE_CHECKING:
    from pyarrow.csv import InvalidRow

MISSING = ("NA", "N/A", "#N/A", "nan", "null", "none", "?")  # beside the empty cell; capitals or not is the same
NUMBER = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$"

_SEPARATORS = (",", "\t", ";", "|")
_HEAD = 1 << 18  # bytes by which separator and header are judged
_BLOCK = 1 << 20  # bytes of csv in a piece
_ROWS = 1 << 13  # of Parquet in a piece
_UTF8 = "utf-8"
_FALLBACK = "cp1252"  # what spreadsheets write where it is not UTF-8


class Table:
    """A table, read anew each time it is iterated: pairs of a first row's number and a `pyarrow.Table`.

    Rows count from 1. Cells of text are stripped, those that say that a value is missing are null, as are NaN; columns
    of numbers stay numbers.

    Args:
        origin: what messages call it, such as the path of its file.
        where: beginning of messages.
        missing: what stands for a missing value beside the empty cell, in capitals or not.

    Attributes:
        columns: names, in their order.
        header: whether the first line of a file names the columns.
        separator: of the cells of a line of a file.
    """

    columns: tuple[str, ...] = ()
    header = False
    separator: str | None = None

    def __init__(self, origin: str, where: str, missing: Sequence[str] = MISSING) -> None:
        self.origin, self.where = origin, where
        self._missing = pa.array(sorted({"", *(str(word).strip().lower() for word in missing)}))

    @property
    def name(self) -> str:
        """What it is called where there is no room for more."""
        return Path(self.origin).name

    def place(self, row: int, column: str) -> str:
        """Name a cell by table, row and column, as the beginning of an error message."""
        return f"{self.where}, row {row}, column {column}"

    def pieces(self) -> Iterator[pa.RecordBatch]:
        """Some rows after others, as they stand there.

        Raises:
            UserError: rows that cannot be read.
        """
        raise NotImplementedError

    def __iter__(self) -> Iterator[tuple[int, pa.Table]]:
        row = 1
        for piece in self.pieces():
            if piece.num_rows:
                arrays = [self._clean(column, name) for name, column in zip(self.columns, piece.columns, strict=True)]
                yield row, pa.table(arrays, list(self.columns))
                row += piece.num_rows

    def _check_names(self) -> None:
        for name, count in Counter(self.columns).items():
            if count > 1:
                raise UserError(f"{self.where} has {count} columns called {name}: give each its own name")

    def _clean(self, cells: pa.Array, name: str) -> pa.Array:
        kind = cells.type
        if pa.types.is_decimal(kind):
            return cells.cast(pa.float64())
        if pa.types.is_integer(kind):
            return cells
        if pa.types.is_floating(kind):
            cells = cells.cast(pa.float64())
            return pc.if_else(pc.is_nan(cells), None, cells)
        try:
            cells = pc.utf8_trim_whitespace(cells.cast(pa.string()))
        except pa.ArrowException:
            told = f"{self.where}: column {name} holds {kind}, no single values; leave it out: data.ignore"
            raise UserError(told) from None
        if self.separator == ";":  # it stands where the comma is taken
            cells = pc.replace_substring_regex(cells, r"^([+-]?\d+),(\d+)$", r"\1.\2")
        return pc.if_else(pc.is_in(pc.utf8_lower(cells), self._missing), None, cells)


class TableFile(Table):
    """A table in a file; a header is no row of it.

    Blank lines are skipped. Between semicolons, a number may have a decimal comma. Only the piece in hand is in memory.

    Args:
        path: of the file; gzip and Parquet are known by their first bytes.
        separator: of the cells of a line; None: the one of comma, tab, semicolon and bar that fits the first lines.
        header: whether the first line names the columns, which else are called 0, 1, 2 ...; None: not where it holds
            a number, nor where one of its cells stands in the same column again.
        encoding: None: UTF-8 (or UTF-16 with its mark), or Windows-1252 where no line is UTF-8 beyond ASCII.
        missing: what stands for a missing value beside the empty cell, in capitals or not.
        known: names that columns are called by; a first line with one of them is a header, unless it is the number of
            a column. So is a line of 0, 1, 2 ...
        option: that gave the path.

    Attributes:
        columns: names, in the order of the file.

    Raises:
        UserError: a file that cannot be read or is empty, a name that stands there twice, and in the course of
            reading a row with too many or too few cells, or bytes of another encoding; file and row or line named.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        separator: str | None = None,
        header: bool | None = None,
        encoding: str | None = None,
        missing: Sequence[str] = MISSING,
        known: Sequence[str] = (),
        option: str = "path",
    ) -> None:
        self.path = Path(path)
        super().__init__(str(self.path), f"data.{option}: {self.path}", missing)
        try:
            with self.path.open("rb") as file:
                magic = file.read(4)
            self.parquet, self._gzipped = magic == b"PAR1", magic[:2] == b"\x1f\x8b"
            if self.parquet:
                self.separator, self.header, self.encoding = None, True, None
                names = self._schema().names
            else:
                self.encoding = encoding or self._find_encoding()
                lines = self._head()
                self.separator = _separator(separator, lines, self.path)
                rows = [row for row in csv.reader(lines, delimiter=self.separator, skipinitialspace=True) if row]
                cells = [cell.strip() for cell in rows[0]]
                self.header = _is_header(cells, rows[1:], known) if header is None else header
                width = len(cells) if self.header else Counter(map(len, rows)).most_common(1)[0][0]
                names = [name or str(i) for i, name in enumerate(cells)] if self.header else map(str, range(width))
        except (OSError, EOFError, zlib.error, pa.ArrowInvalid, csv.Error, LookupError) as error:
            raise self._unreadable(error) from None
        self.columns = tuple(names)
        self._check_names()

    @override
    def pieces(self) -> Iterator[pa.RecordBatch]:
        row = 1
        pieces = self._parquet() if self.parquet else self._csv()
        while True:
            try:
                piece = next(pieces, None)
            except (OSError, EOFError, zlib.error, pa.ArrowException, UnicodeError) as error:
                raise self._unreadable(error, row) from None
            if piece is None:
                return
            yield piece
            row += piece.num_rows

    # csv -------------------------------------------------------------------------------------------------------------

    def _bytes(self) -> BinaryIO | gzip.GzipFile:
        return gzip.open(self.path) if self._gzipped else self.path.open("rb")

    def _find_encoding(self) -> str:
        bad = good = 0
        with self._bytes() as file:
            for number, line in enumerate(file, start=1):
                if number == 1:
                    if line[:2] in (b"\xff\xfe", b"\xfe\xff"):
                        return "utf-16"
                    if line[:2] == b"PK" or b"\0" in line:
                        raise UserError(f"{self.where} is neither text nor Parquet; save a spreadsheet as csv")
                if line.isascii():
                    continue
                try:
                    line.decode()
                    good = good or number
                except UnicodeDecodeError:
                    bad = bad or number
        if bad and good:
            raise UserError(
                f"{self.where}, line {bad} is not UTF-8, line {good} is: save it in one encoding, or name it by "
                "data.encoding"
            )
        return _FALLBACK if bad else "utf-8"

    def _head(self) -> list[str]:
        """Read the first lines as text, without a last one that may be cut off."""
        with self._bytes() as file:
            content = file.read(_HEAD)
        text = content.decode(self.encoding or _UTF8, errors="replace").removeprefix("\ufeff")
        lines = [line for line in text.splitlines(keepends=True) if line.strip()]
        if not lines:
            raise UserError(f"{self.where} is empty")
        return lines[:-1] if len(content) == _HEAD and len(lines) > 1 else lines

    def _csv(self) -> Iterator[pa.RecordBatch]:
        from pyarrow.csv import ConvertOptions, ParseOptions, ReadOptions, open_csv  # noqa: PLC0415 (only for such files)

        ragged = []

        def note(row: InvalidRow) -> str:
            ragged.append(row)
            return "skip"

        with pa.input_stream(str(self.path), compression="gzip" if self._gzipped else None) as stream:
            reader = open_csv(
                stream,
                # by one thread, which knows the number of a row
                ReadOptions(
                    use_threads=False,
                    block_size=_BLOCK,
                    column_names=list(self.columns),
                    skip_rows_after_names=int(self.header),
                    encoding={"utf-8": "utf8"}.get(self.encoding or _UTF8, self.encoding or _UTF8),
                ),
                ParseOptions(delimiter=self.separator, newlines_in_values=True, invalid_row_handler=note),
                ConvertOptions(column_types=dict.fromkeys(self.columns, pa.string()), strings_can_be_null=False),
            )
            for piece in chain(reader, [None]):
                if ragged:
                    row, number = ragged[0], ragged[0].number
                    place = "" if number is None else f", row {number - self.header}"
                    raise UserError(
                        f"{self.where}{place}: {row.actual_columns} cells, there are {row.expected_columns} columns"
                    )
                if piece is not None:
                    yield piece

    # Parquet ---------------------------------------------------------------------------------------------------------

    def _schema(self) -> pa.Schema:
        import pyarrow.parquet as pq  # noqa: PLC0415 (only for such files)

        return pq.read_schema(self.path)

    def _parquet(self) -> Iterator[pa.RecordBatch]:
        import pyarrow.parquet as pq  # noqa: PLC0415 (only for such files)

        with pq.ParquetFile(self.path) as file:
            for group in range(file.num_row_groups):  # asked for all at once, it reads far ahead
                yield from file.iter_batches(batch_size=_ROWS, row_groups=[group])

    def _unreadable(self, error: Exception, row: int | None = None) -> UserError:
        if "UTF8" in str(error) or isinstance(error, UnicodeError):
            found = re.search(r"Row #(\d+)", str(error))
            place = f", row {int(found[1]) - self.header}" if found else "" if row is None else f", row {row} or later"
            return UserError(f"{self.where}{place}: bytes that are not {self.encoding}: name it by data.encoding")
        if isinstance(error, LookupError):
            return UserError(f"data.encoding={self.encoding}: there is no such encoding, a common one is latin-1")
        reason = getattr(error, "strerror", None) or str(error).splitlines()[0].rstrip(".")
        return UserError(f"{self.where} cannot be read ({reason})")


def _separator(given: str | None, lines: list[str], path: Path) -> str:
    """Separator as given, or that by which most of the first lines have the same number of cells, and the most."""
    if given is not None:
        character = {"tab": "\t", "\\t": "\t"}.get(given, given)
        if len(character) != 1:
            raise UserError(f"data.separator={given}: one character, or tab")
        return character

    def fit(separator: str) -> tuple[float, int]:
        widths = Counter(len(row) for row in csv.reader(lines[:200], delimiter=separator, skipinitialspace=True))
        width, count = widths.most_common(1)[0]
        return (count / widths.total() if width > 1 else 0.0, width)

    first = ("\t", *_SEPARATORS) if ".tsv" in path.suffixes else _SEPARATORS
    return max(dict.fromkeys(first), key=fit)


def _is_header(first: list[str], rows: list[list[str]], known: Sequence[str]) -> bool:
    count = [str(i) for i in range(len(first))]  # the names of columns without a header say nothing about one ...
    if first == count or set(first) & (set(known) - set(count)):  # ... but where they stand in order
        return True
    if any(re.fullmatch(NUMBER, cell) for cell in first):
        return False
    return not any(
        cell and any(i < len(row) and row[i].strip() == cell for row in rows) for i, cell in enumerate(first)
    )


def numbers(cells: pa.Array) -> tuple[np.ndarray, np.ndarray]:
    """(values float64, NaN where missing or no number; which cells are there and no finite number), each (N,)."""
    try:
        values = cells.cast(pa.float64(), safe=False)  # large whole numbers lose their last digits, as those of text do
    except pa.ArrowInvalid:
        values = pc.if_else(pc.match_substring_regex(cells, NUMBER), cells, None).cast(pa.float64())
    array = np.array(values.to_numpy(zero_copy_only=False), dtype=np.float64)
    wrong = cells.is_valid().to_numpy(zero_copy_only=False) & ~np.isfinite(array)
    array[wrong] = np.nan
    return array, wrong


def texts(cells: pa.Array) -> pa.Array:
    """Cells as text; whole numbers without a fraction."""
    return cells.cast(pa.string())
