"""Your own table in a file: what its columns are is inferred, fitted on the training rows, and encoded for a model."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Unpack

import numpy as np
import psutil
import pyarrow as pa
import torch
from torch import Tensor
from typing_extensions import override

from src.data.core.files import data_root, download
from src.data.core.memmap import MappedRows
from src.data.core.module import DataModule
from src.data.core.options import SplitOptions
from src.data.core.splits import SPLIT_NAMES, Split, average, folds_of, spread, tensor_of
from src.data.tables.reader import MISSING, Table, TableFile, texts
from src.data.tables.schema import SAMPLE, TYPES, Fit, Survey, encode
from src.data.tables.target import Target, listed
from src.errors import UserError, suggest
from src.runtime.compat.lightning import own_rank
from src.runtime.ranges import PositiveInt
from src.spec import ColumnSchema, DataSpec, InputSpec, TableSpec

_TOLD = 8  # names of columns of a type that are printed
_SHARE = 0.25  # of the free memory that encoded rows may take


class Csv(DataModule):
    """A table of your own: csv, tsv (either gzipped) or Parquet, one row an example; `data.target` is learnt.

    Numbers become standard units (or normal ones by their quantiles) with a missing value as the median and a feature
    that says so; dates become year, month, day, weekday, hour and days since 1970; categories become codes, which
    `fnn` embeds: 0 is a category that the training rows do not hold twice. Text of which hardly any value occurs twice
    counts only as missing or there; row numbers and empty columns are left out. All that is fitted comes from the
    training rows, travels in the spec, and is applied to further tables by `src.data.tables.schema.encoded`.

    Args:
        path: of the file; a relative one is looked for in the working directory, then in `root`.
        target: its column, by name; without a header a number from 0 on.
        val_path, test_path: files of the same columns for these parts.
        split_column: a column of `train`, `val` and `test`, which says where a row belongs.
        folds, fold: of so many parts of equal size (drawn by split_seed, class by class) this one is the test split.
        separator, header, encoding, missing: as TableFile has them; null: found out.
        types: `{column: number, category, date, text or ignore}`; a date's may be its format, such as %d.%m.%Y.
        ignore: columns left out.
        labels: `{target's text in the file: class}`; the classes' order is that in which they stand here.
        numbers: standard or quantile.
        max_categories: of a column that get a code of their own, the most frequent ones.
        task: binary and classification want classes, regression numbers; auto: a target of whole numbers is classes
            where there are two, or at most 20 with ten rows each on average.
        in_memory: keep the encoded rows in memory; null: where they take at most a quarter of what is free, else they
            lie in a file of the temporary folder (TMPDIR).
        root: of the files, as of the other datasets.

    Raises:
        UserError: a file, column or cell that cannot be used, with file, row and column; too few rows or classes.
    """

    name = "csv"
    tasks: tuple[str, ...] = ("binary", "classification", "regression")  # by the target's values, once read

    def __init__(
        self,
        *,
        path: str,
        target: str | int | None = None,
        val_path: str | None = None,
        test_path: str | None = None,
        split_column: str | int | None = None,
        folds: int | None = None,
        fold: int = 0,
        separator: str | None = None,
        header: bool | None = None,
        encoding: str | None = None,
        missing: list[str | int | float] | None = None,
        types: dict[str, str] | None = None,
        ignore: list[str | int] | None = None,
        labels: dict[str, str | int] | None = None,
        numbers: Literal["standard", "quantile"] = "standard",
        max_categories: PositiveInt = 1000,
        task: str = "auto",
        in_memory: bool | None = None,
        root: str | None = None,
        anomalies: list[str | int] | None = None,
        **common: Unpack[SplitOptions],
    ) -> None:
        super().__init__(standardize=False, anomalies=anomalies, **common)  # the columns are encoded so
        self.root = data_root(root)
        paths = {"path": path, "val_path": val_path, "test_path": test_path}
        self.paths = {option: value for option, value in paths.items() if value}
        self.target = None if target is None else str(target)
        self.split_column = None if split_column is None else str(split_column)
        self.folds, self.fold = folds, fold
        self.reading: dict[str, Any] = {"separator": separator, "header": header, "encoding": encoding}
        self.reading["missing"] = MISSING if missing is None else [str(word) for word in missing]
        self.types = {str(name): str(kind) for name, kind in (types or {}).items()}
        self.ignore = [str(name) for name in ignore or ()]
        self.labels = {str(text): str(name) for text, name in (labels or {}).items()}
        self.numbers, self.max_categories = numbers, max_categories
        self.task, self.in_memory = task, in_memory
        self.columns: Sequence[ColumnSchema] = ()
        self.feature_names: tuple[str, ...] = ()
        self.surveys: dict[str, Survey] = {}
        self.unknown: dict[str, dict[str, int]] = {}
        self._check_options()

    def _check_options(self) -> None:
        known = ("standard", "quantile")
        if self.numbers not in known:
            raise UserError(f"data.numbers={self.numbers} is not known{suggest(self.numbers, known)}")
        folds, fold = self.folds, self.fold
        if folds is not None and (folds < 2 or not 0 <= fold < folds):
            raise UserError(f"data.folds={folds} and data.fold={fold}: two folds or more, counted from 0")
        for name, kind in self.types.items():
            if kind not in TYPES and "%" not in kind:
                raise UserError(f"data.types.{name}={kind} is no type of a column{suggest(kind, TYPES)}")
        # beside folds there may be a file for validation, beside the column nothing
        ways = {"split_column": self.split_column is not None, "folds": folds is not None}
        ways |= {option: option in self.paths for option in ("val_path", "test_path")}
        given = [option for option, is_given in ways.items() if is_given]
        if len(given) > 1 and set(given) not in ({"val_path", "test_path"}, {"val_path", "folds"}):
            raise UserError(f"data.{' and data.'.join(given)}: two ways to split rows")

    # files -----------------------------------------------------------------------------------------------------------

    @override
    def prepare_data(self) -> None:
        for path in self.paths.values():
            self._found(path)

    def _found(self, path: str) -> Path:
        """The file in the working directory or else below the root, where a known one is downloaded."""
        here = Path(path).expanduser()
        there = self.root / here
        if here.exists() or here.is_absolute():
            return here.absolute()
        if not there.exists():
            from src.data.core.sources import FILES  # noqa: PLC0415 (imports torchvision, which is slow)

            for name, (folder, files) in FILES.items():
                if path in (f"{folder}/{file.name}" for file in files):
                    download(name, self.root)
        return there if there.exists() else here.absolute()

    def _open(self, option: str) -> Table:
        known = [self.target, self.split_column, *self.ignore, *self.types]
        path = self._found(self.paths[option])
        return TableFile(path, **self.reading, known=[name for name in known if name is not None], option=option)

    # reading ---------------------------------------------------------------------------------------------------------

    @override
    def load(self) -> dict[str, Split]:
        main = self._open("path")
        others = {option.removesuffix("_path"): self._open(option) for option in self.paths if option != "path"}
        self.source = ", ".join(file.origin for file in (main, *others.values()))
        self._check_columns(main)
        cells, belongs = self._survey(main)
        learnt = Target(self._target_name, self.task, self.labels)
        target = learnt.decide(cells, main)
        self.tasks, self.class_names = learnt.tasks, learnt.class_names
        index = self._split_rows(target, belongs, main, list(others))
        self._index = index
        self._fit(main, index["train"])
        splits = self._encoded(main, index, target)
        for name, file in others.items():
            values = learnt.of(self._cells(file), file)
            rows = tensor_of(self._usual(name, {"input": torch.arange(len(values)), "target": values}), "input")
            splits |= self._encoded(file, {name: rows}, values)
            index[name] = rows
        self._tell(main)
        return splits

    @override
    def whole(self, spec: DataSpec) -> Split:
        file = self._open("path")
        self._check_columns(file)
        form = spec.input_as(TableSpec)
        self.columns, self.feature_names = form.columns, form.feature_names
        learnt = Target(self._target_name, self.task, self.labels)
        learnt.class_names = spec.class_names
        target = learnt.of(self._cells(file), file)
        return self._encoded(file, {"test": torch.arange(len(target))}, target)["test"]

    def _check_columns(self, file: Table) -> None:
        names = ", ".join(file.columns)
        if self.target is None:
            raise UserError(f"data.target: which column is to be learnt? {file.origin} has {names}")
        asked = {"target": [self.target], "ignore": self.ignore, "types": list(self.types)}
        asked["split_column"] = [] if self.split_column is None else [self.split_column]
        for option, wanted in asked.items():
            for name in wanted:
                if name not in file.columns:
                    raise UserError(f"data.{option}: {file.origin} has no column {name}{suggest(name, file.columns)}")

    @property
    def _target_name(self) -> str:
        """Name of the target's column, once `_check_columns` has seen that there is one."""
        if self.target is None:
            raise RuntimeError("_check_columns() comes first")
        return self.target

    def _cells(self, file: Table) -> pa.Array:
        """The target's column of a further file."""
        name = self._target_name
        if name not in file.columns:
            raise UserError(f"{file.where} has no column {name}{suggest(name, file.columns)}")
        pieces = [piece.column(name).combine_chunks() for _, piece in file]
        if not pieces:
            raise UserError(f"{file.where} has no rows")
        return pa.chunked_array(pieces).combine_chunks()

    def _survey(self, file: Table) -> tuple[pa.Array, pa.Array | None]:
        """Infer each column's type (first pass); returns the cells of the target and of the column that splits."""
        left_out = {*self.ignore, self.target, self.split_column}
        self.surveys = {name: Survey() for name in file.columns if name not in left_out}
        kept: dict[str, list[pa.Array]] = {name: [] for name in (self.target, self.split_column) if name is not None}
        for _, piece in file:
            for name, survey in self.surveys.items():
                survey.update(piece.column(name).combine_chunks())
            for name, cells in kept.items():
                cells.append(piece.column(name).combine_chunks())
        if not kept[self._target_name]:
            raise UserError(f"{file.where} has {'a header and ' if file.header else ''}no rows")
        for name, survey in self.surveys.items():
            survey.decide(self.types.get(name))
        return tuple(  # type: ignore[return-value]
            pa.chunked_array(kept[name]).combine_chunks() if name is not None else None
            for name in (self.target, self.split_column)
        )

    # rows of the parts -----------------------------------------------------------------------------------------------

    def _split_rows(
        self, target: Tensor, belongs: pa.Array | None, file: Table, others: Sequence[str]
    ) -> dict[str, Tensor]:
        """Row numbers, from 0 on, of each part that comes from the first file."""
        whole: Split = {"input": torch.arange(len(target)), "target": target}
        given: dict[str, torch.Tensor] = {}
        if belongs is not None:
            split = np.array([SPLIT_NAMES.get(str(cell).lower(), "") for cell in texts(belongs).to_pylist()])
            if (split == "").any():
                at = int((split == "").argmax())
                place = file.place(at + 1, str(self.split_column))
                raise UserError(f"{place}: {str(belongs[at])!r}: train, val or test")
            if "train" not in split:
                raise UserError(f"{file.where}, column {self.split_column}: no row is of train")
            found = [name for name in ("train", "val", "test") if name in split]
            given = {name: torch.from_numpy((split == name).nonzero()[0]) for name in found}
        elif self.folds is not None:
            try:
                fold = folds_of(target, self.folds, seed=self.split_seed, num_classes=len(self.class_names))
            except UserError as error:
                raise UserError(f"{file.where}: {error}") from None
            given = {"train": (fold != self.fold).nonzero()[:, 0], "test": (fold == self.fold).nonzero()[:, 0]}
        splits: dict[str, Split]
        splits = {name: {key: rows[index] for key, rows in whole.items()} for name, index in given.items()}
        splits = splits or {"train" if others else "all": whole}
        # a part of another file is only named, so that no rows are drawn for it
        named: dict[str, Split] = {name: {} for name in others}
        drawn = self._split(splits | named)
        return {name: tensor_of(split, "input") for name, split in drawn.items() if name not in others}

    def _place(self, split: Split, rows: Tensor) -> str:
        where = self._open("path").where
        if not self.class_names or not len(rows):
            return where
        return f"{where}, {listed(split['input'][rows] + 1)}, column {self.target}"

    # columns ---------------------------------------------------------------------------------------------------------

    def _fit(self, file: Table, train: Tensor) -> None:
        """Fit each column on the training rows (second pass)."""
        fits = [
            Fit(name, survey, quantiles=self.numbers == "quantile", max_categories=self.max_categories)
            for name, survey in self.surveys.items()
            if survey.kind != "ignore"
        ]
        last = int(train[-1]) + 1
        chosen, sampled = np.zeros(last, dtype=bool), np.zeros(last, dtype=bool)
        chosen[train.numpy()] = True
        sampled[train[spread(len(train), SAMPLE)].numpy()] = True
        for row, piece in file:
            here = slice(row - 1, row - 1 + piece.num_rows)
            masks = [np.pad(mask[here], (0, piece.num_rows - len(mask[here]))) for mask in (chosen, sampled)]
            for fit in fits:
                fit.update(piece.column(fit.name).combine_chunks(), masks[0], masks[1], row, file.place)
        columns = [fit.column() for fit in fits]
        self.columns = tuple(c for c in columns if c.features or c.type == "category")
        self.feature_names = tuple(feature for column in self.columns for feature in column.features)
        self.feature_names += tuple(column.name for column in self.columns if column.type == "category")
        if not self.feature_names:
            left = [f"{name}, {survey.reason or survey.kind}" for name, survey in self.surveys.items()]
            told = f" (left out: {'; '.join(left[:_TOLD])})" if left else ""
            raise UserError(f"{file.where} has no column to learn from beside {self.target}{told}")

    def _encoded(self, file: Table, index: dict[str, Tensor], target: Tensor) -> dict[str, Split]:
        """Encode the rows of each split (third pass), in memory or in a file."""
        sizes = {name: (len(rows), len(self.feature_names)) for name, rows in index.items()}
        needed = 4 * sum(rows * features for rows, features in sizes.values())
        fits = needed <= _SHARE * psutil.virtual_memory().available if self.in_memory is None else self.in_memory
        if not fits and self.on_device:
            raise UserError("data.on_device=true keeps rows in memory, these lie in a file: data.in_memory=true")
        rows = {name: torch.empty(size) if fits else MappedRows(*size) for name, size in sizes.items()}
        unknown = self.unknown.setdefault(file.name, {})
        for row, piece in file:
            values, counts = encode(self.columns, piece, row, file.place)
            for name, count in counts.items():
                unknown[name] = unknown.get(name, 0) + count
            for name, of_part in index.items():
                begin, end = np.searchsorted(of_part.numpy(), [row - 1, row - 1 + piece.num_rows])
                chosen = values[of_part[begin:end] - (row - 1)]
                of_split = rows[name]
                if isinstance(of_split, MappedRows):
                    of_split.write(begin, chosen)
                else:
                    of_split[begin:end] = chosen
        return {name: {"input": rows[name], "target": target[of_part]} for name, of_part in index.items()}

    def _measure_input(self, **more: object) -> InputSpec:
        cardinalities = tuple(column.cardinality for column in self.columns if column.type == "category")
        return super()._measure_input(
            average=average(self.splits["train"]["input"], cardinalities),
            feature_names=self.feature_names,
            columns=self.columns,
            cardinalities=cardinalities,
            **more,
        )

    def row_name(self, split: str, row: int) -> str:
        """Number of a row in its file, counted from 1, with the split and the file."""
        path = self.paths.get(f"{split}_path", self.paths["path"])
        return f"{split} row {int(self._index[split][row]) + 1} of {Path(path).name}"

    # what was found --------------------------------------------------------------------------------------------------

    @override
    def describe(self) -> dict:
        found = {
            name: {"type": survey.kind, "note": survey.reason, "missing": survey.missing}
            for name, survey in self.surveys.items()
        }
        return super().describe() | {"target": self.target, "columns": found, "unknown": self.unknown}

    def _tell(self, file: Table) -> None:
        """Print a line with the inferred types."""
        if own_rank():
            return
        kinds: dict[str, list[str]] = {}
        for name, survey in self.surveys.items():
            kinds.setdefault(survey.reason or survey.kind, []).append(name)
        most = {
            kind: ", ".join(names[:_TOLD]) + (" ..." if len(names) > _TOLD else "") for kind, names in kinds.items()
        }
        found = "; ".join(f"{kind} ({len(names)}): {most[kind]}" for kind, names in kinds.items())
        print(f"{file.name}: {self.target} ({self.tasks[0]}) from {found}", file=sys.stderr)
