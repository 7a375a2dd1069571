"""New rows for a trained model: read as its spec says, in the order of the file, some at a time."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from src.data.files import read_text
from src.data.folder import FORMATS, ImageFiles, pictures
from src.data.sequences import Sequences
from src.data.series import transformed
from src.data.timetable import Timetable, following, read_timetable
from src.errors import UserError, suggest
from src.spec import DataSpec
from src.text import BOS, EOS, UNK, Tokenizer


@dataclass
class Rows:
    """Some rows: the columns that tell which they are, and what the model takes (B, ...)."""

    names: dict[str, list[Any]]
    input: Tensor


@dataclass
class Unseen:
    """Rows of a source that a model has not seen. `notes` are complete once all were read."""

    spec: DataSpec
    notes: list[str] = field(default_factory=list)

    def batches(self, size: int) -> Iterator[Rows]:
        """All rows, in order, at most `size` at a time."""
        raise NotImplementedError


@dataclass
class Pictures(Unseen):
    """A picture, or all below a folder, brought to the size and the channels that the model takes."""

    path: Path = Path()

    def batches(self, size: int) -> Iterator[Rows]:
        if not self.path.exists():
            raise UserError(f"data.path={self.path}: there is no such file or folder")
        files = pictures(self.path) if self.path.is_dir() else [self.path]
        if not files:
            raise UserError(f"data.path: no picture in {self.path} ({', '.join(FORMATS)})")
        root = self.path if self.path.is_dir() else self.path.parent
        channels, *shape = self.spec.input_shape
        column = ImageFiles(files, root, (shape[0], shape[1]), channels)
        for index in torch.arange(len(files)).split(size):
            names = [str(files[i].relative_to(root)) for i in index.tolist()]
            yield Rows({"file": names}, self._levels(column[index]))

    def _levels(self, x: Tensor) -> Tensor:
        """From 0 to 255, as files have them, to the levels of the training pictures."""
        most = self.spec.levels
        return x if most == 255 else (x.float() * (most / 255)).round().to(x.dtype)


@dataclass
class Table(Unseen):
    """A csv or tsv file with a header that has the columns of the training table; others are left alone."""

    path: Path = Path()
    keep: Sequence[str] = ()

    def batches(self, size: int) -> Iterator[Rows]:
        header, rows = _table(self.path)
        for name in (*self.spec.feature_names, *self.keep):
            if name not in header:
                raise UserError(f"data.path: {self.path} has no column {name}{suggest(name, header)}")
        places = [header.index(name) for name in self.spec.feature_names]
        kept = {name: header.index(name) for name in self.keep}
        names: dict[str, list[Any]] = {"row": []} | {name: [] for name in kept}
        values: list[list[float]] = []
        for number, (line, row) in enumerate(rows, start=1):
            values.append([self._number(row[place], line, header[place]) for place in places])
            names["row"].append(number)
            for name, place in kept.items():
                names[name].append(row[place])
            if len(values) == size:
                yield Rows(names, torch.tensor(values))
                names, values = {name: [] for name in names}, []
        if values:
            yield Rows(names, torch.tensor(values))

    def _number(self, cell: str, line: int, column: str) -> float:
        try:
            value = float(cell)
        except ValueError:
            value = float("nan")
        if value - value != 0:  # not finite
            raise UserError(f"data.path: {self.path}, line {line}, column {column}: {cell!r} is not a number")
        return value


@dataclass
class Texts(Unseen):
    """Texts as token ids: `[BOS] text [EOS]`, or `text [EOS]` for the source of a pair."""

    texts: Sequence[str] = ()

    def batches(self, size: int) -> Iterator[Rows]:
        tokenizer, longest = Tokenizer(self.spec.tokenizer), self.spec.input_shape[0]
        begin = [] if self.spec.kind == "pairs" else [BOS]
        room = longest - len(begin) - 1
        cut = unknown = 0
        for start in range(0, len(self.texts), size):
            texts = list(self.texts[start : start + size])
            encoded = tokenizer.encode(texts)
            cut += sum(len(ids) > room for ids in encoded)
            unknown += sum(UNK in ids for ids in encoded)
            rows = [[*begin, *ids[:room], EOS] for ids in encoded]
            column = Sequences.of(rows)
            numbers = list(range(start + 1, start + len(texts) + 1))
            yield Rows({"row": numbers, "text": texts}, column[torch.arange(len(texts))])
        if cut:
            self.notes.append(
                f"texts that were cut to {longest} tokens, the longest that the model was made for: {cut}"
            )
        if unknown:
            self.notes.append(f"texts with signs or words that the model's vocabulary lacks: {unknown}")


def read_lines(path: Path, column: str) -> list[str]:
    """The texts of a file: its lines, or the cells of a column where it is a csv or tsv file.

    Raises:
        UserError: a file that cannot be read, a column that is not there, an empty text (line named).
    """
    if {".csv", ".tsv"} & set(path.suffixes):
        header, rows = _table(path)
        if column not in header:
            raise UserError(
                f"data.path: {path} has no column {column}{suggest(column, header)}; name it: data.text=COLUMN"
            )
        texts = [(line, row[header.index(column)]) for line, row in rows]
    else:
        texts = list(enumerate(read_text(path).removesuffix("\n").split("\n"), start=1))
    for line, text in texts:
        if not text.strip():
            raise UserError(f"data.path: {path}, line {line} has no text")
    return [text.removesuffix("\r") for _, text in texts]


def _table(path: Path) -> tuple[list[str], Iterator[tuple[int, list[str]]]]:
    """The header of a csv or tsv file, and its rows with the number of the line that each ends in."""
    content = read_text(path)
    reader = csv.reader(content.splitlines(keepends=True), delimiter="\t" if ".tsv" in path.suffixes else ",")
    header = [name.strip() for name in next(reader)]

    def rows() -> Iterator[tuple[int, list[str]]]:
        for row in reader:
            if row:
                if len(row) != len(header):
                    where = f"data.path: {path}, line {reader.line_num}"
                    raise UserError(f"{where}: {len(row)} cells, the header has {len(header)}")
                yield reader.line_num, row

    return header, rows()


@dataclass(frozen=True)
class Latest:
    """The end of a series, from which the next steps are forecast.

    Attributes:
        input: the window (1, context, F) as the model takes it.
        times: of the next steps, as the file writes them; empty where they cannot be told.
    """

    input: Tensor
    times: list[str]
    _last: Tensor
    _transform: str

    def restored(self, forecast: Tensor) -> Tensor:
        """A forecast (H, targets) in the file's own units, whatever the training transformed it to."""
        if self._transform.endswith("diff"):
            forecast = self._last + forecast.double().cumsum(0)
        return forecast.exp() if self._transform.startswith("log") else forecast


def latest(spec: DataSpec, path: Path, options: Mapping[str, Any]) -> Latest:
    """The last rows of a csv file with the columns of the training series.

    Args:
        options: of the `Series` that the model was trained on; `time`, `transform` and `gaps` count.

    Raises:
        UserError: as `read_timetable`, or fewer rows than the model looks at.
    """
    transform = options.get("transform", "none")
    table = read_timetable(path, options.get("time", "date"), spec.feature_names, options.get("gaps", "error"))
    values = torch.from_numpy(transformed(table, transform, path))
    context = spec.input_shape[0]
    if len(values) < context:
        needed = context + (len(table.values) - len(values))
        raise UserError(f"data.path: {path} has {len(table.values)} rows, this model looks at the last {needed}")
    targets = len(spec.naive_errors)
    level = "log" if transform.startswith("log") else "none"
    last = torch.from_numpy(transformed(_end(table), level, path))[0, :targets]
    times = following(table.times, spec.horizon) if options.get("gaps") != "allow" else []
    return Latest(values[-context:].float().unsqueeze(0), times, last, transform)


def _end(table: Timetable) -> Timetable:
    return table._replace(values=table.values[-1:], times=table.times[-1:], lines=table.lines[-1:])
