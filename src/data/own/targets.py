"""Targets of a user's own data: numbers of named classes as they are, all others as those of a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import torch
from torch import Tensor

from src.data.own.items import TARGETS
from src.data.tables.target import Target
from src.errors import UserError

_DEEP = 10  # datasets within datasets that are asked


class Targets:
    """Targets as classes int64 or values float32.

    Integers are classes, as torch's losses take them, unless more than half of them differ; of other numbers it is
    decided as of those of a table.

    Args:
        where: beginning of messages.
        task: as of data=csv.
        names: of the classes that whole numbers stand for; none: each value is a class, or a number.

    Attributes:
        tasks, class_names: as a DataModule has them, once `of` was called for a first split.
    """

    def __init__(self, where: str, task: str, names: Sequence[str] = ()) -> None:
        self.where, self.names = where, tuple(names)
        self._learnt = Target("target", task)
        self.tasks: tuple[str, ...] = ()
        self.class_names: tuple[str, ...] = ()

    def place(self, row: int, column: str) -> str:
        """Name an item, as the beginning of an error message."""
        return f"{self.where}, item {row - 1}"

    def of(self, values: Sequence[Any], split: str) -> Tensor:
        """Targets (N,) of a split, in terms of the first one that was asked for.

        Raises:
            UserError: one is missing, several a row, or of no class.
        """
        for row, value in enumerate(values):
            if not isinstance(value, bool | int | float | str | None):
                form = f"of shape {tuple(value.shape)}" if hasattr(value, "shape") else f"a {type(value).__name__}"
                raise UserError(
                    f"{self.place(row + 1, '')}: its target is {form}, one class or one number a row is needed; "
                    "what mixes or widens targets belongs into the training_step of a LightningModule"
                )
        if self.names and all(isinstance(value, int) for value in values):
            return self._named(values, split)
        take = self._learnt.of if self.tasks else self._learnt.decide
        if not self.tasks and self._learnt.task == "auto" and _are_classes(values):
            self._learnt.task = "classification"
        try:
            cells = pa.array(values, from_pandas=True)
        except pa.ArrowException as error:
            raise UserError(f"{self.where}, {split}: targets are of several types ({error})") from None
        found = take(cells, self)
        self.tasks, self.class_names = self._learnt.tasks, self._learnt.class_names
        return found

    def known(self, names: Sequence[str]) -> None:
        """Take over the classes of a trained model; none: its target is a number."""
        self._learnt.class_names = self.class_names = tuple(names)
        self._learnt.tasks = self.tasks = ("classification",) if names else ("regression",)

    def _named(self, values: Sequence[int], split: str) -> Tensor:
        names = self.names
        self.class_names = names
        self.tasks = ("binary", "classification") if len(names) == 2 else ("classification",)
        target = torch.tensor(values, dtype=torch.int64)
        wrong = ((target < 0) | (target >= len(names))).nonzero()
        if len(wrong):
            item, most = int(wrong[0]), len(names) - 1
            of = f"of {len(names)} classes, 0 to {most}"
            raise UserError(f"{self.where}, {split}: item {item} is of class {int(target[item])} {of}")
        return target


def _are_classes(values: Sequence[Any]) -> bool:
    return all(isinstance(value, int) for value in values) and 2 * len(set(values)) <= len(values)


def classes_of(dataset: object) -> list[str]:
    """Names of the classes that a dataset tells, or the one that it is a part of; none: it tells none."""
    for _ in range(_DEEP):
        features = getattr(dataset, "features", None)  # as a dataset of Hugging Face has them
        labels = [features[name] for name in TARGETS if name in features] if isinstance(features, Mapping) else []
        for names in (getattr(dataset, "classes", None), *(getattr(label, "names", None) for label in labels)):
            if isinstance(names, list | tuple) and names:
                return [str(name) for name in names]
        dataset = getattr(dataset, "dataset", None)
    return []
