"""Data of a user's own as a dataset here: it is looked at, split, measured and served like any other."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
import pytorch_lightning as pl
import torch
from lightning_fabric.utilities.exceptions import MisconfigurationException
from torch import Tensor
from torch.utils.data import TensorDataset
from typing_extensions import override

from src.data.core.module import DataModule
from src.data.core.splits import SPLIT_NAMES, Split
from src.data.own.items import Dataset, ItemColumn, Items
from src.data.tables.target import Target
from src.errors import UserError
from src.spec import ImageSpec, InputSpec, SeriesSpec, TableSpec

NEEDED = "a Dataset of torch, a LightningDataModule, arrays (X, y), or a dict of them by split is needed"


class OwnData(DataModule):
    """A dataset of torch, a data module of Lightning, arrays, or one of them for each split.

    Args:
        made: what the configuration's `_target_` has made.
        title: its name.
        class_names: of the target's numbers; None: what the dataset has as `classes`, else the values themselves.
        task: as of data=csv.

    Raises:
        UserError: it is none of these, or its items are of no form that is known.
    """

    inputs: tuple[type[InputSpec], ...] = (TableSpec, ImageSpec, SeriesSpec)
    tasks: tuple[str, ...] = ("binary", "classification", "regression")

    def __init__(
        self,
        *,
        made: object,
        title: str,
        class_names: list[str] | None = None,
        task: str = "auto",
        **options,
    ) -> None:
        if isinstance(size := getattr(made, "batch_size", None), int):
            options.setdefault("batch_size", size)
        super().__init__(**options)
        self.made, self.name, self.task, self.given_names = made, title, task, class_names
        self.where = f"data={title}"

    def place(self, row: int, column: str) -> str:
        """Name an item, as the beginning of an error message."""
        return f"{self.where}, item {row - 1}"

    @override
    def load(self) -> dict[str, Split]:
        parts = {split: Items(dataset, self.name) for split, dataset in _datasets(self.made, self.name).items()}
        first = next(iter(parts.values()))
        self.inputs = (_modality(first),)
        splits: dict[str, Split] = {split: {"input": ItemColumn(items)} for split, items in parts.items()}
        if not first.has_target:
            self.tasks = ()
            return splits
        for split, target in self._targets({split: items.targets() for split, items in parts.items()}, first).items():
            splits[split]["target"] = target
        return splits

    def _targets(self, values: Mapping[str, list[object]], first: Items) -> dict[str, Tensor]:
        """Targets of each split: numbers of named classes as they are, all others as those of a table."""
        names = self.given_names or _classes(first.dataset)
        if names and all(isinstance(value, int) for part in values.values() for value in part):
            self.class_names = tuple(names)
            self.tasks = ("binary", "classification") if len(names) == 2 else ("classification",)
            found = {split: torch.tensor(part, dtype=torch.int64) for split, part in values.items()}
            for split, target in found.items():
                wrong = ((target < 0) | (target >= len(names))).nonzero()
                if len(wrong):
                    item, most = int(wrong[0]), len(names) - 1
                    of = f"of {len(names)} classes, 0 to {most}"
                    raise UserError(f"{self.where}, {split}: item {item} is of class {int(target[item])} {of}")
            return found
        learnt, found = Target("target", self.task), {}
        for split, part in values.items():
            take = learnt.of if learnt.tasks else learnt.decide
            found[split] = take(pa.array(part, from_pandas=True), self)
        self.tasks, self.class_names = learnt.tasks, learnt.class_names
        return found


def _modality(items: Items) -> type[InputSpec]:
    if items.is_picture:
        return ImageSpec
    if len(items.shape) > 2:
        raise UserError(
            f"data: inputs of {items.name} are {items.shape} {str(items.dtype).removeprefix('torch.')}: pictures are"
            " uint8 (C, H, W) of one or three channels, series (T, F), rows of a table (F,)"
        )
    return SeriesSpec if len(items.shape) == 2 else TableSpec


def _classes(dataset: object) -> list[str]:
    """Names of the classes that a dataset tells, or the one that it is a part of."""
    while dataset is not None:
        names = getattr(dataset, "classes", None)
        if isinstance(names, list | tuple) and names:
            return [str(name) for name in names]
        dataset = getattr(dataset, "dataset", None)
    return []


def _datasets(made: object, name: str) -> dict[str, Dataset]:
    """The dataset of each split, or of all rows as `all`; those that train first.

    Raises:
        UserError: what was made is no data.
    """
    if isinstance(made, pl.LightningDataModule):
        return _of_module(made, name)
    if isinstance(made, Mapping):
        return {SPLIT_NAMES.get(str(split), str(split)): _dataset(part, name) for split, part in made.items()}
    return {"all": _dataset(made, name)}


def _dataset(made: object, name: str) -> Dataset:
    if isinstance(made, tuple) and len(made) == 2:
        x, y = (torch.as_tensor(np.asarray(part)) for part in made)
        return TensorDataset(x, y)  # type: ignore[return-value]  # a tensor's number may be an int
    if isinstance(made, Sequence) or (hasattr(made, "__getitem__") and hasattr(made, "__len__")):
        return made  # type: ignore[return-value]
    raise UserError(f"data: {name} makes a {type(made).__name__}: {NEEDED}")


def _of_module(made: pl.LightningDataModule, name: str) -> dict[str, Dataset]:
    made.prepare_data()
    made.setup("fit")
    found = {}
    for split in ("train", "val", "test"):
        if split == "test":
            made.setup("test")
        with contextlib.suppress(MisconfigurationException):  # a module without such a loader
            loader = getattr(made, f"{split}_dataloader")()
            if loader is not None:
                found[split] = loader.dataset
    if "train" not in found:
        raise UserError(f"data: {name} has no train_dataloader")
    return found
