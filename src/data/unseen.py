"""New rows for a trained model: read as its spec says, in the order of the file, some at a time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from src.data.classfolders import files_below
from src.data.clips import Clips
from src.data.columns import encoded
from src.data.files import read_text
from src.data.folder import FORMATS, ImageFiles
from src.data.letterbox import Letterboxed
from src.data.npz import ORDER, read_arrays, tensor
from src.data.sequences import Sequences
from src.data.series import transformed
from src.data.sound import FORMATS as SOUNDS
from src.data.sound import LogMel
from src.data.tablefile import TableFile, numbers
from src.data.text import read_columns
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
    """A picture, or all below a folder, brought to the size and the channels that the model takes.

    `on_bad="skip"` leaves out those that cannot be decoded.
    """

    path: Path = Path()
    on_bad: str = "error"

    what = "picture"
    formats = FORMATS

    def column(self, files: list[Path], root: Path) -> ImageFiles | Clips:
        """The files, all below `root`, as the model takes them."""
        channels, *shape = self.spec.input_shape
        return ImageFiles(files, root, (shape[0], shape[1]), channels, self.spec.crop)

    def batches(self, size: int) -> Iterator[Rows]:
        if not self.path.exists():
            raise UserError(f"data.path={self.path}: there is no such file or folder")
        files = files_below(self.path, self.formats) if self.path.is_dir() else [self.path]
        if not files:
            raise UserError(f"data.path: no {self.what} in {self.path} ({', '.join(self.formats)})")
        root = self.path if self.path.is_dir() else self.path.parent
        column = self.column(files, root)
        broken: list[str] = []
        for index in torch.arange(len(files)).split(size):
            names, decoded = [], []
            for row in index.split(1):
                try:
                    decoded.append(column[row])
                except UserError:
                    if self.on_bad == "error":
                        raise
                    broken.append(column.name(int(row)))
                else:
                    names.append(column.name(int(row)))
            if names:
                yield Rows({"file": names}, self._levels(torch.cat(decoded)))
        if len(broken) == len(files):
            raise UserError(f"data.path: none of the {len(files)} {self.what}s in {root} can be decoded")
        if broken:
            told = f"{len(broken)} of {len(files)} {self.what}s cannot be decoded and are left out"
            self.notes.append(f"{told}: {', '.join(broken)}")

    def _levels(self, x: Tensor) -> Tensor:
        """From 0 to 255, as files have them, to the levels of the training pictures."""
        most = self.spec.levels
        return x if most == 255 else (x.float() * (most / 255)).round().to(x.dtype)


@dataclass
class Scenes(Pictures):
    """The same for a model that finds boxes: pictures are not cropped but scaled to fit."""

    def column(self, files: list[Path], root: Path) -> Letterboxed:
        channels, *shape = self.spec.input_shape
        return Letterboxed(files, root, (shape[0], shape[1]), channels)


@dataclass
class Sounds(Pictures):
    """A sound file, or all below a folder, as the log-mel images that the model was trained on."""

    what = "clip"
    formats = SOUNDS

    def column(self, files: list[Path], root: Path) -> Clips:
        return Clips(files, [file.relative_to(root).as_posix() for file in files], LogMel(**self.spec.sound))


@dataclass
class Arrays(Unseen):
    """The inputs of an .npz archive, of all its parts or of the one that `part` names; targets may be missing."""

    path: Path = Path()
    inputs: str | None = None
    part: str | None = None

    def batches(self, size: int) -> Iterator[Rows]:
        [(_, arrays)] = read_arrays(self.path, {"inputs": self.inputs})
        if self.part not in (None, *arrays):
            raise UserError(f"data.part={self.part}: {self.path} has {', '.join(arrays)}")
        for part in [name for name in ORDER if name in arrays and self.part in (None, name)]:
            spec, where = self.spec, f"data.path: {self.path}"
            rows = tensor(arrays[part], spec.kind, spec.input_shape, where, spectrograms=bool(spec.sound))
            for start, piece in zip(range(0, len(rows), size), rows.split(size), strict=True):
                numbers = list(range(start + 1, start + len(piece) + 1))
                names = {"row": numbers} | ({"part": [part] * len(piece)} if len(arrays) > 1 else {})
                yield Rows(names, piece)


@dataclass
class Table(Unseen):
    """A table in a file that has the columns of the training table, whatever their order; others are left alone.

    `keep` names columns that are handed on; None: all that the model was not trained with, of which some tell rows
    apart, but for its `target`. `reading` says how the file is read, as `TableFile` takes it.
    """

    path: Path = Path()
    target: str | None = None
    keep: Sequence[str] | None = None
    reading: Mapping[str, Any] = field(default_factory=dict)

    def batches(self, size: int) -> Iterator[Rows]:
        columns = [column["name"] for column in self.spec.columns] or list(self.spec.feature_names)
        file = TableFile(self.path, **self.reading, known=columns)
        if not columns:  # as arrays are, which have no names
            columns = [name for name in file.columns if name not in (self.keep or ())]
            if len(columns) != self.spec.input_shape[0]:
                raise UserError(f"data.path: {self.path} has {len(columns)} columns, not {self.spec.input_shape[0]}")
        keep = self.keep
        if keep is None:
            keep = [name for name in file.columns if name not in (*columns, self.target)]
        for name in (*columns, *keep):
            if name not in file.columns:
                raise UserError(f"data.path: {self.path} has no column {name}{suggest(name, file.columns)}")
        unknown: Counter[str] = Counter()
        first = None
        for first, whole in file:
            for start in range(0, whole.num_rows, size):
                piece, row = whole.slice(start, size), first + start
                if self.spec.columns:
                    values, counts = encoded(self.spec, piece, row, file.place)
                    unknown.update({name: count for name, count in counts.items() if count})
                    x = values["input"]
                else:
                    x = self._numbers(piece, columns, row, file)
                names = {"row": list(range(row, row + piece.num_rows))}
                yield Rows(names | {name: piece.column(name).to_pylist() for name in keep}, x)
        if first is None:
            raise UserError(f"{file.where} has {'a header and ' if file.header else ''}no rows")
        self.notes += [
            f"column {name}: {n} cell{'s' if n > 1 else ''} of a category that training met once or not at all"
            for name, n in unknown.items()
        ]

    def _numbers(self, piece: Any, names: Sequence[str], row: int, file: TableFile) -> Tensor:
        columns = []
        for name in names:
            cells = piece.column(name).combine_chunks()
            values, wrong = numbers(cells)
            wrong |= np.isnan(values)
            if wrong.any():
                at = int(wrong.argmax())
                value = cells[at].as_py()
                told = " has no value" if value is None else f": {str(value)!r} is no finite number"
                raise UserError(f"{file.place(row + at, name)}{told}")
            columns.append(torch.from_numpy(values))
        return torch.stack(columns, dim=1).float()


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


def handed(spec: DataSpec, rows: Any, folder: Path) -> Unseen:
    """Rows that a program hands over, read by what reads files, so that they mean the same.

    Args:
        rows: a table's as a DataFrame with its columns; texts as a DataFrame with a column `text`, or a list; else an
            array (N, ...) of raw values.
        folder: for a file in between, to stay until the rows are read.
    """
    if spec.kind in ("tokens", "pairs"):
        return Texts(spec, texts=[str(text) for text in (rows["text"] if hasattr(rows, "columns") else rows)])
    if spec.kind == "table" and hasattr(rows, "to_csv"):
        rows.to_csv(folder / "rows.csv", index=False)
        return Table(spec, path=folder / "rows.csv", reading={"separator": ",", "header": True})
    values = np.asarray(rows)
    if spec.kind == "image" and (values == np.clip(np.rint(values), 0, 255)).all():
        values = values.astype(np.uint8)  # as pictures in arrays are
    np.savez(folder / "rows.npz", inputs=values)
    return Arrays(spec, path=folder / "rows.npz", inputs="inputs")


def read_lines(path: Path, column: str) -> list[str]:
    """The texts of a file: its lines, or the cells of a column where it is a csv or tsv file.

    Raises:
        UserError: a file that cannot be read, a column that is not there, an empty text (line named).
    """
    if {".csv", ".tsv"} & set(path.suffixes):
        return [text for (text,) in read_columns(path, column)]
    texts = [text.removesuffix("\r") for text in read_text(path).removesuffix("\n").split("\n")]
    for line, text in enumerate(texts, start=1):
        if not text.strip():
            raise UserError(f"data.path: {path}, line {line} has no text")
    return texts


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
