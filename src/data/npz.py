"""Your own arrays in a NumPy archive: pictures or a table, whole or in parts."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from src.data.base import DataModule
from src.data.files import data_root
from src.data.splits import PART_NAMES, Part
from src.data.target import Target
from src.errors import UserError, suggest

INPUTS = ("x", "images", "image", "input", "inputs", "data", "features")
TARGETS = ("y", "labels", "label", "target", "targets")

Arrays = dict[str, np.ndarray]


class Npz(DataModule):
    """Arrays of an .npz file: `x` and `y`, or `x_train`, `y_train`, `x_test` ..., or `train_images`, `train_labels` ...

    Pictures are uint8 arrays (N, H, W) or (N, H, W, C) of one or three channels; whatever else has numbers is a table,
    each row flattened. The target (N,) or (N, 1) holds classes or numbers, as a column of a csv file does. Parts that
    the file lacks come from `train`. Nothing is unpickled.

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
    kinds = ("table", "image")  # what the arrays can turn out to be
    tasks = ("binary", "classification", "regression")  # likewise, by the target's values

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
        """A row of an array, as the beginning of a complaint about it."""
        return f"{self.where}, row {row}, array {column}"

    def load(self) -> dict[str, Part]:
        self.source = str(self.path)
        inputs, targets, target = self._read()
        if inputs.keys() != targets.keys() or not {"train", "all"} & inputs.keys():
            parts = f"inputs for {', '.join(sorted(inputs))}, targets for {', '.join(sorted(targets))}"
            raise UserError(f"{self.where} has {parts}: both are needed, for train at least")
        order = sorted(inputs, key=lambda part: part not in ("train", "all"))
        self.kind = "image" if _are_pictures(inputs[order[0]]) else "table"
        if self.kind == "table" and self.augment is not None and self.augment.active:
            raise UserError(f"data.augment is for pictures, {self.path} holds a table")
        learnt, found = Target(target, self.task, self.labels), {}
        for part in order:
            cells = targets[part].reshape(len(targets[part]), -1)
            if cells.shape[1] != 1 or len(cells) != len(inputs[part]):
                shapes = f"{inputs[part].shape} inputs and {targets[part].shape} targets"
                raise UserError(f"{self.where}: {shapes} do not fit, there must be one target a row")
            values = learnt.of if learnt.tasks else learnt.decide
            target_rows = values(pa.array(cells[:, 0], from_pandas=True), self)
            found[part] = {"input": self._rows(inputs[part], inputs[order[0]]), "target": target_rows}
        self.tasks, self.class_names = learnt.tasks, learnt.class_names
        return found

    def _read(self) -> tuple[Arrays, Arrays, str]:
        """Inputs and targets of each part, and what the targets are called."""
        try:
            with np.load(self.path, allow_pickle=False) as archive:
                names = [self._chosen(archive.files, *role) for role in (("inputs", INPUTS), ("targets", TARGETS))]
                inputs, targets = ({part: archive[name] for part, name in chosen.items()} for _, chosen in names)
                return inputs, targets, names[1][0]
        except (OSError, EOFError, ValueError, TypeError, AttributeError, zipfile.BadZipFile) as error:
            pickled = "pickle" in str(error).lower() or "Object arrays" in str(error)
            reason = getattr(error, "strerror", None) or "it is no archive of arrays"
            reason = "it holds pickled objects, which could run any code when loaded" if pickled else reason
            raise UserError(
                f"{self.where} cannot be used ({reason}): numpy.savez of arrays of numbers makes one"
            ) from None

    def _chosen(self, files: Sequence[str], option: str, usual: Sequence[str]) -> tuple[str, dict[str, str]]:
        """The name of the inputs or targets without the part, and for each part that of its array."""
        parted: dict[str, dict[str, str]] = {}
        for file in files:
            base, part = _parted(file)
            parted.setdefault(base, {})[part] = file
        wanted = self.wanted[option]
        name = wanted or next((base for base in parted if base.lower() in usual), None)
        if name not in parted:
            known = f"{suggest(wanted, parted)}" if wanted else f": {', '.join(files)}; say which by data.{option}"
            raise UserError(f"{self.where} has no {f'array {wanted}' if wanted else option}{known}")
        return name, parted[name]

    def _rows(self, rows: np.ndarray, first: np.ndarray) -> Tensor:
        if rows.shape[1:] != first.shape[1:] or rows.dtype.kind not in "buif":
            raise UserError(f"{self.where}: inputs {rows.dtype} {rows.shape} beside {first.dtype} {first.shape}")
        if self.kind == "image":
            pictures = torch.from_numpy(np.ascontiguousarray(rows))
            return pictures.unsqueeze(1) if pictures.ndim == 3 else pictures.permute(0, 3, 1, 2).contiguous()
        table = rows.reshape(len(rows), -1).astype(np.float32)
        wrong = ~np.isfinite(table)
        if wrong.any():
            row, column = np.argwhere(wrong)[0].tolist()
            raise UserError(
                f"{self.where}, row {row + 1} of the inputs, column {column}: {table[row, column]} is not finite"
            )
        return torch.from_numpy(table)


def _parted(name: str) -> tuple[str, str]:
    """`x_train` and `train_x` as (x, train); (name, all) of one that names no part."""
    words = name.split("_")
    for place in (0, -1):
        if len(words) > 1 and words[place].lower() in PART_NAMES:
            part = PART_NAMES[words.pop(place).lower()]
            return "_".join(words), part
    return name, "all"


def _are_pictures(rows: np.ndarray) -> bool:
    return rows.dtype == np.uint8 and (rows.ndim == 3 or (rows.ndim == 4 and rows.shape[3] in (1, 3)))
