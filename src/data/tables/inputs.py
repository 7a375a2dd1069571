"""New rows of tables and arrays for a trained model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor
from typing_extensions import override

from src.data.core.inputs import Inputs, Rows
from src.data.tables.npz import ORDER, of_spec, read_arrays
from src.data.tables.reader import TableFile, numbers
from src.data.tables.schema import encoded
from src.errors import UserError, suggest
from src.spec import TableSpec


@dataclass
class Arrays(Inputs):
    """The inputs of an .npz archive, of all its parts or of the one that `part` names; targets may be missing."""

    path: Path = Path()
    inputs: str | None = None
    split: str | None = None

    @override
    def batches(self, size: int) -> Iterator[Rows]:
        [(_, arrays)] = read_arrays(self.path, {"inputs": self.inputs})
        if self.split not in (None, *arrays):
            raise UserError(f"data.split={self.split}: {self.path} has {', '.join(arrays)}")
        for split in [name for name in ORDER if name in arrays and self.split in (None, name)]:
            rows = of_spec(arrays[split], self.spec, f"data.path: {self.path}")
            for start, piece in zip(range(0, len(rows), size), rows.split(size), strict=True):
                numbers = list(range(start + 1, start + len(piece) + 1))
                names = {"row": numbers} | ({"split": [split] * len(piece)} if len(arrays) > 1 else {})
                yield Rows(names, piece)


@dataclass
class Table(Inputs):
    """A table in a file that has the columns of the training table, whatever their order; others are left alone.

    `keep` names columns that are handed on; None: all that the model was not trained with, of which some tell rows
    apart, but for its `target`. `reading` says how the file is read, as `TableFile` takes it.
    """

    path: Path = Path()
    target: str | None = None
    keep: Sequence[str] | None = None
    reading: Mapping[str, Any] = field(default_factory=dict)

    @override
    def batches(self, size: int) -> Iterator[Rows]:
        form = self.spec.input_as(TableSpec)
        columns = [column.name for column in form.columns] or list(form.feature_names)
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
                if form.columns:
                    values, counts = encoded(form, piece, row, file.place)
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

    def _numbers(self, piece: pa.Table, names: Sequence[str], row: int, file: TableFile) -> Tensor:
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
