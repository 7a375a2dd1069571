"""Data of a user's own as a dataset here: what it holds is looked at, and split, measured and served like any other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import TensorDataset
from typing_extensions import override

from src.data.core.module import DataModule
from src.data.core.splits import Split
from src.data.own.items import ItemColumn, Items, Sized
from src.data.tables.target import Target
from src.errors import UserError
from src.spec import ImageSpec, InputSpec, SeriesSpec, TableSpec


class OwnData(DataModule):
    """A dataset of torch, a data module of Lightning, arrays, or one of them for each split.

    Args:
        made: what the configuration's `_target_` has made.
        title: its name.
        class_names: of the target's numbers; None: what the dataset has as `classes`, else the numbers themselves.
        task: as of data=csv.

    Raises:
        UserError: it is none of these, or its items are of no form that is known.
    """

    inputs: tuple[type[InputSpec], ...] = (TableSpec, ImageSpec, SeriesSpec)
    tasks: tuple[str, ...] = ("binary", "classification", "regression")

    def __init__(
        self, *, made: Any, title: str, class_names: list[str] | None = None, task: str = "auto", **options: Any
    ) -> None:
        batch_size = getattr(made, "batch_size", None)
        if isinstance(batch_size, int) and "batch_size" not in options:
            options["batch_size"] = batch_size
        super().__init__(**options)
        self.made, self.name, self.task = made, title, task
        self.wanted_names = class_names
        self.where = f"data={title}"

    def place(self, row: int, column: str) -> str:
        """Name an item, as the beginning of an error message."""
        return f"{self.where}, item {row - 1}"

    @override
    def load(self) -> dict[str, Split]:
        parts = {split: Items(dataset, self.name) for split, dataset in datasets(self.made, self.name).items()}
        first = next(iter(parts.values()))
        self.inputs = (_modality(first),)
        found: dict[str, Split] = {split: {"input": ItemColumn(items)} for split, items in parts.items()}
        if not first.has_target:
            self.tasks = ()
            return found
        names = self.wanted_names or _classes(first.dataset)
        learnt = Target("target", self.task)
        for split, items in parts.items():
            values = items.targets()
            if names and all(isinstance(value, int) for value in values):
                found[split]["target"] = self._numbered(values, names)
            else:
                cells = pa.array(values, from_pandas=True)
                found[split]["target"] = (learnt.of if learnt.tasks else learnt.decide)(cells, self)
        if learnt.tasks:
            self.tasks, self.class_names = learnt.tasks, learnt.class_names
        else:
            self.class_names = tuple(names)
            self.tasks = ("binary", "classification") if len(names) == 2 else ("classification",)
        return found

    def _numbered(self, values: list[int], names: list[str]) -> Tensor:
        target = torch.tensor(values, dtype=torch.int64)
        wrong = (target < 0) | (target >= len(names))
        if wrong.any():
            at = int(wrong.long().argmax())
            raise UserError(
                f"{self.where}: item {at} is of class {values[at]}, of 0 to {len(names) - 1} ({len(names)} names)"
            )
        return target


def _modality(items: Items) -> type[InputSpec]:
    if items.is_picture:
        return ImageSpec
    return {1: TableSpec, 2: SeriesSpec, 0: TableSpec}.get(len(items.shape), TableSpec)


def _classes(dataset: object) -> list[str]:
    """Names of the classes that a dataset, or the one it is a part of, tells."""
    while dataset is not None:
        names = getattr(dataset, "classes", None)
        if isinstance(names, list | tuple) and names:
            return [str(name) for name in names]
        dataset = getattr(dataset, "dataset", None)
    return []


def datasets(made: Any, name: str) -> dict[str, Sized]:
    """The dataset of each split, or of all rows as `all`.

    Raises:
        UserError: what was made is no data.
    """
    if isinstance(made, pl.LightningDataModule):
        return _of_module(made, name)
    if isinstance(made, Mapping):
        return {str(split): one for split, part in made.items() for one in datasets(part, name).values()}
    if isinstance(made, pd.DataFrame):
        raise UserError(f"data: {name} makes a DataFrame: write it as a file for data=csv, or return arrays (X, y)")
    if isinstance(made, tuple) and len(made) == 2 and all(hasattr(part, "__len__") for part in made):
        x, y = (torch.as_tensor(np.asarray(part)) for part in made)
        return {"all": TensorDataset(x, y)}
    if hasattr(made, "__getitem__") and hasattr(made, "__len__"):
        return {"all": made}
    raise UserError(
        f"data: {name} makes a {type(made).__name__}: a Dataset of torch, a LightningDataModule or arrays"
        " (X, y) are needed"
    )


def _of_module(made: pl.LightningDataModule, name: str) -> dict[str, Sized]:
    made.prepare_data()
    made.setup("fit")
    found: dict[str, Sized] = {}
    for split in ("train", "val", "test"):
        if split == "test":
            made.setup("test")
        try:
            loader = getattr(made, f"{split}_dataloader")()
        except Exception:  # noqa: BLE001 (Lightning's own raises where a module has no such loader)
            continue
        if loader is not None:
            found[split] = loader.dataset
    if "train" not in found:
        raise UserError(f"data: {name} has no train_dataloader")
    return found
