"""Your own arrays in a NumPy archive: pictures or a table, whole or in parts."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor
from typing_extensions import override

from src.data.core.files import data_root
from src.data.core.module import DataModule
from src.data.core.splits import SPLIT_NAMES, Split
from src.data.tables.target import Target, listed
from src.errors import UserError, suggest
from src.spec import DataSpec, ImageSpec, InputSpec, TableSpec

USUAL = {
    "inputs": ("x", "images", "image", "input", "inputs", "data", "features"),
    "targets": ("y", "labels", "label", "target", "targets"),
}
ORDER = ("train", "val", "test", "all")
CHANNELS = (1, 3)

Arrays = dict[str, np.ndarray]


class Npz(DataModule):
    """Arrays of an .npz file: `x` and `y`, or `x_train`, `y_train`, `x_test` ..., or `train_images`, `train_labels` ...

    Pictures are uint8 arrays (N, H, W), (N, H, W, C) or (N, C, H, W) of one or three channels; whatever else has
    numbers is a table, each row flattened. The target (N,) or (N, 1) holds classes or numbers, as a column of a csv
    file does. Parts that the file lacks come from `train`. Nothing is unpickled.

    Args:
        path: of the file; a relative one is looked for in the working directory, then in `root`.
        inputs, targets: names of the arrays, without the part; null: those of the usual names that are there.
        labels: `{target's value in the file: class}`, in the order of the classes.
        task: as of data=csv.
        root: as of the other datasets.

    Raises:
        UserError: a file that cannot be read, arrays that are missing, pickled or of unequal length, values that are
            not finite (row named).
    """

    name = "npz"
    inputs: tuple[type[InputSpec], ...] = (TableSpec, ImageSpec)  # what the arrays can turn out to be
    tasks: tuple[str, ...] = ("binary", "classification", "regression")  # likewise, by the target's values

    def __init__(
        self,
        *,
        path: str,
        inputs: str | None = None,
        targets: str | None = None,
        labels: dict[str, str | int] | None = None,
        task: str = "auto",
        root: str | None = None,
        **options,
    ) -> None:
        super().__init__(**options)
        here, there = Path(path).expanduser().absolute(), data_root(root) / path
        self.path = there if there.exists() and not here.exists() else here
        self.where = f"data.path: {self.path}"
        self.wanted = {"inputs": inputs, "targets": targets}
        self.labels = {str(text): str(name) for text, name in (labels or {}).items()}
        self.task = task

    def place(self, row: int, column: str) -> str:
        """Name a row of an array, as the beginning of an error message."""
        return f"{self.where}, row {row}, array {column}"

    @override
    def load(self) -> dict[str, Split]:
        self.source = str(self.path)
        (_, inputs), (name, targets) = self._arrays()
        first = inputs[next(split for split in ("train", "all") if split in inputs)]
        self.inputs = (ImageSpec if _are_pictures(first) else TableSpec,)
        if self.inputs == (TableSpec,) and self.augment is not None and self.augment.active:
            raise UserError(f"data.augment is for pictures, {self.path} holds a table")
        learnt, shape = Target(name, self.task, self.labels), None
        found: dict[str, Split] = {}
        for split in sorted(inputs, key=lambda split: split not in ("train", "all")):
            rows = tensor(inputs[split], self.inputs[0], shape, self.where)
            values = learnt.of if learnt.tasks else learnt.decide
            found[split] = {"input": rows, "target": values(pa.array(targets[split], from_pandas=True), self)}
            shape = rows.shape[1:]
        self.tasks, self.class_names = learnt.tasks, learnt.class_names
        return found

    @override
    def whole(self, spec: DataSpec) -> Split:
        (_, inputs), (name, targets) = self._arrays()
        learnt = Target(name, self.task, self.labels)
        learnt.class_names = spec.class_names
        splits = [split for split in ORDER if split in inputs]
        rows = [of_spec(inputs[split], spec, self.where) for split in splits]
        values = [learnt.of(pa.array(targets[split], from_pandas=True), self) for split in splits]
        return {"input": torch.cat(rows), "target": torch.cat(values)}

    def _place(self, split: Split, rows: Tensor) -> str:
        return f"{self.where}, {listed(rows + 1)}" if self.class_names and len(rows) else self.where

    def _arrays(self) -> list[tuple[str, Arrays]]:
        """Names and arrays of inputs and targets, one target (N,) for each row."""
        (inputs, rows), (name, targets) = read_arrays(self.path, self.wanted)
        if rows.keys() != targets.keys() or not {"train", "all"} & rows.keys():
            splits = f"inputs for {', '.join(sorted(rows))}, targets for {', '.join(sorted(targets))}"
            raise UserError(f"{self.where} has {splits}: both are needed, for train at least")
        for split, array in rows.items():
            cells = targets[split].reshape(len(targets[split]), -1)
            if cells.shape[1] != 1 or len(cells) != len(array):
                shapes = f"{array.shape} inputs and {targets[split].shape} targets"
                raise UserError(f"{self.where}: {shapes} do not fit, there must be one target a row")
            targets[split] = cells[:, 0]
        return [(inputs, rows), (name, targets)]


def read_arrays(path: Path, wanted: Mapping[str, str | None]) -> list[tuple[str, Arrays]]:
    """For each role, `inputs` or `targets`, the name of its array without the part, and the array of each part.

    Args:
        wanted: that name; None: the first of the role's usual names.

    Raises:
        UserError: a file that cannot be read or holds pickles, an array that it lacks.
    """
    where = f"data.path: {path}"
    try:
        with np.load(path, allow_pickle=False) as archive:
            chosen = [_chosen(archive.files, role, name, where) for role, name in wanted.items()]
            return [(name, {split: archive[file] for split, file in files.items()}) for name, files in chosen]
    except (OSError, EOFError, ValueError, TypeError, AttributeError, zipfile.BadZipFile) as error:
        pickled = "pickle" in str(error).lower() or "Object arrays" in str(error)
        reason = getattr(error, "strerror", None) or "it is no archive of arrays"
        reason = "it holds pickled objects, which could run any code when loaded" if pickled else reason
        raise UserError(f"{where} cannot be used ({reason}): numpy.savez of arrays of numbers makes one") from None


def _chosen(files: Sequence[str], role: str, wanted: str | None, where: str) -> tuple[str, dict[str, str]]:
    """The name of the inputs or targets without the part, and for each part that of its array."""
    parted: dict[str, dict[str, str]] = {}
    for file in files:
        base, split = _parted(file)
        parted.setdefault(base, {})[split] = file
    name = wanted or next((base for base in parted if base.lower() in USUAL[role]), None)
    if name not in parted:
        known = f"{suggest(wanted, parted)}" if wanted else f": {', '.join(files)}; say which by data.{role}"
        raise UserError(f"{where} has no {f'array {wanted}' if wanted else role}{known}")
    return name, parted[name]


def tensor(
    rows: np.ndarray, modality: type[InputSpec], shape: Sequence[int] | None, where: str, *, floats: bool = False
) -> Tensor:
    """Rows as a model takes them: pictures uint8 (N, C, H, W), or float32 (N, F) of a table.

    Args:
        shape: of each of them, where that is known.
        floats: whether images, such as those of sound, are floats of exactly this shape.

    Raises:
        UserError: rows of another modality or shape, a value that is not finite.
    """
    images = issubclass(modality, ImageSpec)
    if floats and rows.dtype.kind == "f" and rows.shape[1:] == tuple(shape or ()) and np.isfinite(rows).all():
        return torch.from_numpy(rows.astype(np.float32))
    if rows.dtype.kind not in "buif" or rows.ndim < 1 or images != _are_pictures(rows):
        raise UserError(f"{where}: inputs {rows.dtype} {rows.shape} are no {'pictures' if images else 'table'}")
    if images:
        found = torch.from_numpy(np.ascontiguousarray(rows))
        if found.ndim == 3:
            found = found.unsqueeze(1)
        elif rows.shape[3] in CHANNELS:
            found = found.permute(0, 3, 1, 2).contiguous()
    else:
        table = rows.reshape(len(rows), -1).astype(np.float32)
        wrong = ~np.isfinite(table)
        if wrong.any():
            row, column = np.argwhere(wrong)[0].tolist()
            value = table[row, column]
            raise UserError(f"{where}, row {row + 1} of the inputs, column {column}: {value} is not finite")
        found = torch.from_numpy(table)
        if shape is not None and math.prod(shape) == table.shape[1]:
            found = found.view(-1, *shape)  # windows of a series
    if shape is not None and tuple(found.shape[1:]) != tuple(shape):
        wanted, given = ("x".join(map(str, size)) for size in (shape, found.shape[1:]))
        raise UserError(f"{where}: inputs {rows.dtype} {rows.shape} make rows of {given}, not {wanted}")
    return found


def of_spec(rows: np.ndarray, spec: DataSpec, where: str) -> Tensor:
    """Rows as a model takes them that was trained on data of this spec; see `tensor`."""
    form = spec.input
    if not isinstance(form, ImageSpec):
        return tensor(rows, type(form), form.shape, where)
    if form.levels == 1 and rows.dtype == np.uint8:
        return tensor(rows, ImageSpec, form.shape, where).float() / 255
    return tensor(rows, type(form), form.shape, where, floats=form.is_float)


def _parted(name: str) -> tuple[str, str]:
    """`x_train` and `train_x` as (x, train); (name, all) of one that names no part."""
    words = name.split("_")
    for place in (0, -1):
        if len(words) > 1 and words[place].lower() in SPLIT_NAMES:
            split = SPLIT_NAMES[words.pop(place).lower()]
            return "_".join(words), split
    return name, "all"


def _are_pictures(rows: np.ndarray) -> bool:
    with_channels = rows.ndim == 4 and (rows.shape[3] in CHANNELS or rows.shape[1] in CHANNELS)
    return rows.dtype == np.uint8 and (rows.ndim == 3 or with_channels)
