"""Target column of a table: decides between classes and numbers, and gives its values as a tensor."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import Tensor

from src.data.tables.reader import numbers, texts
from src.errors import UserError, suggest

MOST_CLASSES = 20  # of whole numbers, with so many rows each on average:
ROWS_PER_CLASS = 10
MISTAKES = 0.1  # share of cells that are no numbers among measures; more of them are names
_NAMED = 3  # rows that a complaint names


class Source(Protocol):
    """File or archive that error messages name, with a cell of it by row (from 1 on) and column."""

    where: str

    def place(self, row: int, column: str) -> str:
        """Name a cell by file, row and column, as the beginning of an error message."""
        ...


class Target:
    """Target column of a table: classes or numbers.

    Args:
        name: of the column.
        task: `binary` and `classification` want classes, `regression` numbers; any other leaves it to the values.
            Whole numbers are classes where there are two, or up to 20 with ten rows each on average. Beside more
            different numbers than that, up to a tenth of other cells are mistakes, each refused.
        labels: class of each text in the file; their order is that of the classes. Empty: each text is a class, in
            alphabetical or numerical order.

    Attributes:
        tasks, class_names: as a DataModule has them, once `decide` was called.
    """

    def __init__(self, name: str, task: str = "auto", labels: Mapping[str, str] | None = None) -> None:
        self.name, self.task, self.labels = name, task, dict(labels or {})
        self.tasks: tuple[str, ...] = ()
        self.class_names: tuple[str, ...] = ()

    def decide(self, cells: pa.Array, file: Source) -> Tensor:
        """Classes int64 or values float32 (N,) of the whole first file, which says what they are.

        Raises:
            UserError: a missing value, a number that is none, one class only; with file, row and column.
        """
        self._check_missing(cells, file)
        values, wrong = numbers(cells)
        if self.task == "regression" or (self.task == "auto" and not self.labels and _measured(values, wrong)):
            self.tasks = ("regression",)
            return self._values(cells, file)
        written = texts(cells)
        found = pc.unique(self._named(written)).to_pylist()
        if self.labels:
            self.class_names = tuple(name for name in dict.fromkeys(self.labels.values()) if name in found)
        else:
            self.class_names = tuple(sorted(found, key=str if wrong.any() else float))
        self.tasks = ("binary", "classification") if len(self.class_names) == 2 else ("classification",)
        classes = self._classes(written, file)
        if len(self.class_names) == 1:
            only = self.class_names[0]
            raise UserError(f"{file.where}, column {self.name} has one class only ({only}), two or more are needed")
        return classes

    def of(self, cells: pa.Array, file: Source) -> Tensor:
        """Classes int64 or values float32 (N,) of a further file or split, in the terms of the first one.

        Raises:
            UserError: also a class that the first file lacks.
        """
        self._check_missing(cells, file)
        return self._classes(texts(cells), file) if self.class_names else self._values(cells, file)

    def _check_missing(self, cells: pa.Array, file: Source) -> None:
        if cells.null_count:
            rows = listed(cells.is_null().to_numpy(zero_copy_only=False).nonzero()[0] + 1)
            raise UserError(f"{file.where}, column {self.name} is missing in {rows}: a row without it teaches nothing")

    def _named(self, written: pa.Array) -> pa.Array:
        """Classes' names, null where `labels` has none."""
        if not self.labels:
            return written
        return pa.array(list(self.labels.values())).take(pc.index_in(written, value_set=pa.array(list(self.labels))))

    def _classes(self, written: pa.Array, file: Source) -> Tensor:
        codes = pc.index_in(self._named(written), value_set=pa.array(self.class_names, pa.string()))
        if codes.null_count:
            at = int(codes.is_null().to_numpy(zero_copy_only=False).argmax())
            text, of = str(written[at]), " of data.labels" if self.labels else ""
            near = suggest(text, self.labels or self.class_names)
            raise UserError(f"{file.place(at + 1, self.name)}: {text!r} is no class{of}{near}")
        return torch.from_numpy(codes.to_numpy(zero_copy_only=False).astype(np.int64))

    def _values(self, cells: pa.Array, file: Source) -> Tensor:
        values, wrong = numbers(cells)
        if wrong.any():
            at = int(wrong.argmax())
            place = file.place(at + 1, self.name)
            raise UserError(f"{place}: {str(cells[at])!r} is no finite number (classes: task=classification)")
        return torch.from_numpy(values.astype(np.float32))


def _measured(values: np.ndarray, wrong: np.ndarray) -> bool:
    """True if values (N,) are measures rather than names of classes; some of many may be `wrong` (N,)."""
    distinct = np.unique(values[~wrong])
    if wrong.any():
        return len(distinct) > MOST_CLASSES and wrong.mean() <= MISTAKES
    most = min(MOST_CLASSES, max(2, len(values) // ROWS_PER_CLASS))
    return len(distinct) > most or bool((distinct != np.floor(distinct)).any())


def listed(rows: Sequence[int] | Tensor) -> str:
    """`row 3`, or `rows 1, 4, 7 and 17 more`."""
    named = ", ".join(str(int(row)) for row in rows[:_NAMED])
    more = len(rows) - _NAMED
    return f"row{'s' if len(rows) > 1 else ''} {named}" + (f" and {more} more" if more > 0 else "")
