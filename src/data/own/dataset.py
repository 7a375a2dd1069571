"""Items of a user's own as a dataset here: they are looked at, split, measured and served like any other."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from typing_extensions import override

from src.data.core.loader import Augmentation, Batch, Loader
from src.data.core.module import DataModule
from src.data.core.samplers import EpochSampler
from src.data.core.splits import Split, moments, spread, tensor_of
from src.data.own.items import ItemColumn, Items
from src.data.own.loaders import AsTheyStand, GivenOrder, Loaded
from src.data.own.targets import Targets, classes_of
from src.errors import UserError
from src.runtime.compat.lightning import own_rank
from src.runtime.ranges import PositiveInt
from src.runtime.stateless_random import mix
from src.spec import DataSpec, ImageSpec, InputSpec, SeriesSpec, TableSpec

_LOOKED_AT = 500  # pictures, or series
_ITEMS = 5  # keeps random numbers of items apart from those of order and augmentation


class OwnData(DataModule):
    """Items of a user's own by split, or as `all`: datasets of torch, loaders of Lightning, arrays.

    Args:
        made: the items, and how they are served where a loader says so.
        title: its name.
        class_names: of the target's numbers; None: what the dataset has as `classes`, else the values themselves.
        task: as of data=csv.
        in_memory: read all items once; null: where they are not random and take at most a quarter of the free memory.
        max_rows: of an iterable without a length, which is read once; null: 100,000.

    Raises:
        UserError: items of no form that is known, or of several.
    """

    inputs: tuple[type[InputSpec], ...] = (TableSpec, ImageSpec, SeriesSpec)
    tasks: tuple[str, ...] = ("binary", "classification", "regression")

    what = "items"

    def __init__(
        self,
        *,
        made: Mapping[str, Loaded],
        title: str,
        class_names: list[str] | None = None,
        task: str = "auto",
        in_memory: bool | None = None,
        max_rows: PositiveInt | None = None,
        **options,
    ) -> None:
        super().__init__(**options)
        first = next(iter(made.values()))
        if "batch_size" in options and first.is_batched:
            raise UserError("data.batch_size: its batch_sampler makes the batches, leave it out")
        self.made, self.name, self.task, self.given_names = made, title, task, class_names
        self.in_memory = in_memory
        self.where = f"data={title}"
        self._order, self._is_told = first, False
        self._targets = Targets(self.where, task)

    @override
    def load(self) -> dict[str, Split]:
        parts = {split: Items(part.rows, self.name, part.collate) for split, part in self.made.items()}
        first = next(iter(parts.values()))
        self.inputs = (_modality(first),)
        self.feature_names = tuple(getattr(first.dataset, "feature_names", ()))
        self._targets = Targets(self.where, self.task, self.given_names or classes_of(first.dataset))
        splits = {split: self._read(items, split) for split, items in parts.items()}
        self._tell(parts)
        self.tasks, self.class_names = self._targets.tasks, self._targets.class_names
        self._counts = {split: len(items.dataset) for split, items in parts.items()}
        return splits

    def _read(self, items: Items, split: str) -> Split:
        inputs, targets = items.read(self.in_memory)
        if isinstance(inputs, Tensor):
            self._check_finite(inputs, split)
        elif self.on_device:
            raise UserError("data.on_device=true keeps rows in memory, these are read item by item")
        found: Split = {"input": inputs, "row": torch.arange(len(inputs))}
        if targets is None and self._targets.tasks:
            raise UserError(f"{self.where}, {split}: items have no target, those of training have one")
        return found if targets is None else found | {"target": self._targets.of(targets, split)}

    def _check_finite(self, inputs: Tensor, split: str) -> None:
        if inputs.is_floating_point() and not torch.isfinite(inputs.sum()):
            wrong = (~torch.isfinite(inputs.flatten(1))).any(1).nonzero()
            if len(wrong):
                part = "" if split == "all" else f", {split}"
                raise UserError(
                    f"{self.where}{part}: item {int(wrong[0])} has an input that is not finite ({len(wrong)} of "
                    f"{len(inputs)} have): fill or leave out what is missing; a DataFrame is filled by itself"
                )

    @override
    def _split(self, splits: dict[str, Split]) -> dict[str, Split]:
        whole = next(iter(splits))
        found = super()._split(splits)
        self._rows = tensor_of(found["train"], "row")
        self._whole = self._counts[whole]
        for split in found.values():
            del split["row"]
        return found

    def _tell(self, parts: Mapping[str, Items]) -> None:
        """Say what cannot be restored, and what is random where it may not be wanted."""
        if own_rank():
            return
        for split, items in parts.items():
            of = "items" if split == "all" else f"items of {split}"
            if not items.is_restorable:
                told = f"{of} are others at every reading, whatever the seed: a resumed run will differ"
                remedy = "draw from torch, numpy or random, or from a generator that is an attribute of the dataset"
            elif items.draws and split in ("all", "train") and not {"val", "test"} <= parts.keys():
                told = f"{of} are random: in training anew in each epoch, in splits drawn from them the same each time"
                remedy = "for rows that are not random give a dict of datasets by split"
            else:
                continue
            print(f"{self.where}: {told}; {remedy}", file=sys.stderr)

    # serving ---------------------------------------------------------------------------------------------------------

    @override
    def train_dataloader(self) -> Loader:
        inputs = self.splits["train"]["input"]
        plain = not isinstance(inputs, ItemColumn) or not (inputs.items.draws or inputs.items.collate)
        if plain or (self.trainer is not None and self.trainer.overfit_batches > 0):  # type: ignore[attr-defined]
            return super().train_dataloader()
        assert isinstance(inputs, ItemColumn)
        reading = Reading(inputs, self._targets, self.seed, super().augmentation())
        sampler = self._sampler(self.splits["train"], "cpu")
        return Loader({}, sampler, num_workers=self.num_workers, augment=reading)

    @override
    def _sampler(self, split: Split, device: torch.device | str) -> EpochSampler:
        rank, world_size = self._rank()
        options: dict[str, Any] = {"rank": rank, "world_size": world_size, "device": device}
        options |= {"seed": self.seed, "shuffle": True, "drop_last": self.drop_last}
        if self._order.sampler is not None and self.per_class is None:
            found = GivenOrder(self._order.sampler, self._rows, self._whole, self.batch_size, **options)
            if not found.is_restorable and not own_rank() and not self._is_told:
                self._is_told = True
                told = f"{self.where}: its sampler gives another order at every reading, whatever the seed"
                print(f"{told}: a resumed run will differ", file=sys.stderr)
            return found
        if not self._order.shuffle and self.per_class is None:
            return AsTheyStand(len(split["input"]), self.batch_size, **options)
        return super()._sampler(split, device)

    def _levels(self) -> int:
        """See `ImageSpec.levels`, of training pictures."""
        pictures = self.splits["train"]["input"]
        if pictures.dtype == torch.uint8:
            return 255
        some = pictures[spread(len(pictures), _LOOKED_AT)]
        return int(bool(some.min() >= 0 and some.max() <= 1))

    @override
    def _measure(self) -> DataSpec:
        self._scale = {"levels": self._levels()} if self.inputs == (ImageSpec,) else {}
        if self._scale.get("levels") == 0:  # values that no picture can be made of
            self.unlabelled = ()
        return super()._measure()

    @override
    def _measure_input(self, **more: object) -> InputSpec:
        found: dict[str, object] = dict(self._scale)
        if self.inputs == (SeriesSpec,) and self.standardize:  # of a step's numbers, whatever the step
            series = self.splits["train"]["input"]
            found["mean"], found["std"] = moments(series[spread(len(series), _LOOKED_AT)].flatten(0, 1))
        return super()._measure_input(**found, **more)

    @override
    def whole(self, spec: DataSpec) -> Split:
        parts = [Items(part.rows, self.name, part.collate) for part in self.made.values()]
        self._targets.known(spec.class_names)
        found: list[Split] = []
        for items in parts:
            if tuple(items.shape) != tuple(spec.input_shape) and not items.varies:
                raise UserError(f"{self.where} has inputs {items.shape}, the model takes {spec.input_shape}")
            inputs, targets = items.read(keep=None)
            if targets is None:
                raise UserError(f"{self.where} has no targets")
            found.append({"input": inputs, "target": self._targets.of(targets, "test")})
        if len(found) > 1:
            raise UserError(f"{self.where} has {len(found)} splits: give the rows of one")
        return found[0]


class Reading:
    """Reading of training batches whose items or collating are random, as a function of (seed, epoch, row).

    Args:
        inputs: column of the training split.
        targets: encode what is read.
        seed: of the data.
        then: further changes to a batch.
    """

    def __init__(self, inputs: ItemColumn, targets: Targets, seed: int, then: Augmentation | None) -> None:
        self.inputs, self.targets, self.seed, self.then = inputs, targets, seed, then

    def __call__(self, batch: Batch, epoch: int) -> Batch:
        """Inputs and targets of the rows `index` (B,) of a batch."""
        rows = self.inputs.rows[batch["index"].cpu()].tolist()
        inputs, targets = self.inputs.items.batch(rows, mix(self.seed, _ITEMS, epoch))
        batch = batch | {"input": inputs}
        if targets is not None:
            batch["target"] = self.targets.of(targets, "train")
        return batch if self.then is None else self.then(batch, epoch)


def _modality(items: Items) -> type[InputSpec]:
    if len(items.shape) == 3 and items.shape[0] in (1, 3):
        return ImageSpec
    if len(items.shape) > 2:
        raise UserError(
            f"data: inputs of {items.name} are {items.shape} {str(items.dtype).removeprefix('torch.')}: pictures are"
            " (C, H, W) of one or three channels, series (T, F), rows of a table (F,)"
        )
    return SeriesSpec if len(items.shape) == 2 else TableSpec
