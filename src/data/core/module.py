"""DataModule: reads a dataset once, splits it, measures the training split, and serves batches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Protocol, cast, runtime_checkable

import pytorch_lightning as pl
import torch
from torch import Tensor
from typing_extensions import override

from src.data.core import class_split, lazy, subset
from src.data.core.augmentation import RandomChange, augmented
from src.data.core.chunks import in_split
from src.data.core.loader import Augmentation, Batch, Loader
from src.data.core.options import Fraction
from src.data.core.samplers import ClassBalanced, EpochSampler, InOrder
from src.data.core.splits import Split, TooFewRows, average, draw_splits, fingerprint, moments, rows_of, tensor_of
from src.errors import UserError, suggest
from src.runtime.ranges import NonNegativeInt, PositiveInt, checked
from src.spec import Classes, DataSpec, ImageSpec, InputSpec, Number, TableSpec, TargetSpec


def without_targets(data: DataModule | type[DataModule], modality: type[InputSpec]) -> tuple[str, ...]:
    """Tasks that a dataset of this modality offers without a target."""
    return modality.unlabelled if data.unlabelled is None else data.unlabelled


@runtime_checkable
class TakesTokenizer(Protocol):
    """Data that is encoded by a tokenizer: one that is handed over, else one of its own."""

    def take_tokenizer(self, definition: str) -> None:
        """Use a `Tokenizer` of this definition as it is; called before `setup`."""
        ...


class DataModule(pl.LightningDataModule):
    """Base of all datasets. A dataset says what it is in the class attributes and defines `load()`.

    Class attributes: `name`, as in `data=NAME`; `inputs`, what its rows are: one modality, or those that they can turn
    out to be until they are read; `tasks`, those of its targets, the usual one first; `source`, where the rows come
    from; `unlabelled`, tasks without a target (None: those of the modality); `class_names`, `feature_names`.

    A batch is `{"input": (B, ...), "target": (B,), "index": (B,)}`: inputs raw (uint8 images, float32 tables), targets
    int64 class numbers or float32 values, index the row in its split. Rows are kept in memory, or read by a `Column`.

    Args:
        seed: of the order and the augmentation.
        batch_size: training rows a step on each device.
        eval_batch_size: the same for validation, test and prediction; no result depends on it.
        num_workers: processes that prepare batches; 0 is fastest for data in memory.
        on_device: keep the rows on the trainer's device, where they are gathered and augmented: a step copies nothing.
        val_fraction: of all rows, or of the training rows where the dataset brings its own test split.
        test_fraction: of all rows; unused where the dataset brings its own test split.
        split_seed: of the split, apart from `seed`, so that runs with different seeds are tested on the same rows.
        drop_last: leave out the rows of an epoch that do not fill a batch.
        standardize: hand mean and standard deviation to the model.
        augment: random changes to training images.
        anomalies: classes that are left out of training and validation: in the test a model that scores rows has to
            tell them from the others. What the others are does not matter then: only tasks without labels are offered.
        held_out_classes: of images: so many classes (the last ones by name), or which, are the test split, all rows of
            theirs and nothing else: verification asks whether two pictures are of one class that no one learned.
        val_classes: those of the validation split, likewise; null: `val_fraction` of the classes that the test leaves.
        per_class: a batch has so many rows of each of batch_size / per_class classes; null: rows at random.

    Attributes:
        splits: `{"train": {"input": ..., "target": ...}, "val": ..., "test": ...}` once set up; `predict` where the
            dataset has rows to predict, else those of `test` serve.
        train_fraction: of the training split that stays, as `src.data.core.subset` chooses it; set before `setup`. All
            that is fitted comes from this share, and no other split changes.
        times: of a series, a text for each step once set up.
        ordered: whether the order of the rows is that of a file, and not made from their classes.

    Raises:
        UserError: an option out of its range, or too few rows for the split.
    """

    name: str = ""
    inputs: tuple[type[InputSpec], ...] = (TableSpec,)
    tasks: tuple[str, ...] = ("classification",)
    source: str = ""
    unlabelled: tuple[str, ...] | None = None  # tasks without a target; None: those of its modality
    class_names: tuple[str, ...] = ()
    feature_names: tuple[str, ...] = ()
    train_fraction: float = 1.0
    times: Sequence[str] = ()
    ordered: bool = True

    def __init_subclass__(cls, **options: object) -> None:
        super().__init_subclass__(**options)
        if "__init__" in cls.__dict__:
            cls.__init__ = checked("data")(cls.__init__)  # type: ignore[method-assign]

    @checked("data")
    def __init__(
        self,
        *,
        seed: int = 0,
        batch_size: PositiveInt = 64,
        eval_batch_size: PositiveInt = 1024,
        num_workers: NonNegativeInt = 0,
        on_device: bool = False,
        val_fraction: Fraction = 0.2,
        test_fraction: Fraction = 0.2,
        split_seed: int = 0,
        drop_last: bool = False,
        standardize: bool = True,
        augment: RandomChange | None = None,
        anomalies: list[str | int] | None = None,
        held_out_classes: int | list[str | int] | None = None,
        val_classes: int | list[str | int] | None = None,
        per_class: int | None = None,
    ) -> None:
        super().__init__()
        if on_device and num_workers:
            raise UserError(f"data.on_device=true leaves data.num_workers={num_workers} nothing to do: set it to 0")
        self.seed = seed
        self.batch_size = batch_size
        self.eval_batch_size = eval_batch_size
        self.num_workers = num_workers
        self.on_device = on_device
        self.val_fraction = val_fraction
        self.test_fraction = test_fraction
        self.split_seed = split_seed
        self.drop_last = drop_last
        self.standardize = standardize
        self.augment = augment
        self.anomalies = tuple(str(name) for name in anomalies or ())
        self.held_out_classes = class_split.check("held_out_classes", held_out_classes)
        self.val_classes = class_split.check("val_classes", val_classes)
        if self.val_classes and not self.held_out_classes:
            raise UserError(
                "data.val_classes goes with data.held_out_classes, which name the classes of the test split"
            )
        if self.held_out_classes and (self.anomalies or not issubclass(self.inputs[0], ImageSpec)):
            other = f"is for images, not for {self.modality} data"
            raise UserError(f"data.held_out_classes {'does not go with data.anomalies' if self.anomalies else other}")
        if self.held_out_classes:
            self.tasks = ("verification",)
        if per_class is not None and (per_class < 2 or batch_size % per_class or batch_size == per_class):
            raise UserError(
                f"data.per_class={per_class}: 2 or more, of which data.batch_size={batch_size} is a multiple"
            )
        self.per_class = per_class
        self.splits: dict[str, Split] = {}
        self._split_classes: dict[str, tuple[str, ...]] = {}
        self._spec: DataSpec | None = None
        self._is_share = False  # whether `train_fraction` was applied

    def load(self) -> dict[str, Split]:
        """Read the dataset: `{"all": rows}`, or given splits; a missing `val` or `test` is drawn from `train`."""
        raise NotImplementedError

    def setup(self, stage: str | None = None) -> None:
        """Read, split and measure the rows; a second call, for any stage, does nothing."""
        if self._spec is None:
            subset.check(self.train_fraction)
            self.splits = self._split(self.load())
            if self.train_fraction != 1 and not self._is_share:
                raise UserError(f"train_fraction={self.train_fraction}: data={self.name} has no part that can be cut")
            self._spec = self._measure()

    @property
    def modality(self) -> str:
        """Name of the modality; the first possible one until the rows are read."""
        return self.inputs[0].modality

    @property
    def spec(self) -> DataSpec:
        """Description of the dataset, measured on its training split; needs `setup` first."""
        if self._spec is None:
            raise RuntimeError("setup() comes first")
        return self._spec

    def reuse(self, spec: DataSpec) -> None:
        """Use all rows as test split of a model trained on other data of this form, instead of calling `setup`.

        Raises:
            UserError: this dataset has no other data, or not all rows are what the model knows.
        """
        self.splits, self._spec = {"test": self.whole(spec)}, spec

    def whole(self, spec: DataSpec) -> Split:
        """Read all rows with their targets as a model takes them whose training data had this spec."""
        raise UserError(f"data={self.name} is one dataset: there is no other data of its form")

    def _split(self, splits: dict[str, Split]) -> dict[str, Split]:
        """Split the rows that `load` returned; a dataset that splits while it loads overrides it."""
        return self.split_rows(splits)

    def split_rows(self, splits: dict[str, Split]) -> dict[str, Split]:
        """Assign rows to splits: as given, at random, or by class; keep the share `train_fraction` of training."""
        if self.held_out_classes:
            self._split_classes = class_split.chosen(
                self.class_names, self.held_out_classes, self.val_classes, self.val_fraction, self.name
            )
            splits = class_split.rows_of_classes(splits, self._split_classes, self.class_names)
        else:
            splits = {name: self._usual(name, split) for name, split in self._assigned(splits).items()}
        return splits | {"train": self._share(splits["train"])}

    def _share(self, train: Split) -> Split:
        """Reduce training rows to `train_fraction`, unless that was done before."""
        if self.train_fraction == 1 or self._is_share:
            return train
        self._is_share = True
        target = train.get("target")
        classes = target if self.class_names and isinstance(target, Tensor) and target.ndim == 1 else None
        names = () if classes is None else self.class_names
        kept = subset.rows(len(train["input"]), self.train_fraction, seed=self.seed, target=classes, names=names)
        return {key: rows_of(column, kept) for key, column in train.items()}

    def _usual(self, name: str, split: Split) -> Split:
        """Remove rows of anomalies from training and validation.

        Raises:
            UserError: an anomaly that is no class, or no row is left.
        """
        if self.anomalies and not without_targets(self, self.inputs[0]):
            raise UserError(f"data.anomalies: no model here scores rows of data={self.name}; leave it empty")
        if not self.anomalies or split.get("target") is None:
            return split
        if not self.class_names:
            raise UserError(f"data.anomalies is for classes; data={self.name} has a target of numbers")
        for wanted in self.anomalies:
            if wanted not in self.class_names:
                near = suggest(wanted, self.class_names)
                raise UserError(f"data.anomalies: {wanted} is no class of data={self.name}{near}")
        if name not in ("train", "val"):
            return split
        numbers = torch.tensor([self.class_names.index(wanted) for wanted in self.anomalies])
        kept = (~torch.isin(tensor_of(split, "target"), numbers)).nonzero().squeeze(1)
        if not len(kept):
            raise UserError(f"data.anomalies={list(self.anomalies)} leave no row to {name}: name fewer classes")
        if len(kept) == len(split["target"]):
            return split
        return {key: rows_of(column, kept) for key, column in split.items()}

    def _assigned(self, splits: dict[str, Split]) -> dict[str, Split]:
        fractions = {"val": self.val_fraction, "test": self.test_fraction}
        fractions = {name: subset for name, subset in fractions.items() if name not in splits}
        if not fractions:
            return splits
        if sum(fractions.values()) >= 1:
            given = f"data.val_fraction={self.val_fraction} and data.test_fraction={self.test_fraction}"
            raise UserError(f"{given} leave no training rows: their sum must be below 1")
        whole = splits.pop("all") if "all" in splits else splits.pop("train")
        try:
            names = self.class_names if "target" in whole else ()
            return draw_splits(whole, fractions, seed=self.split_seed, class_names=names) | splits
        except TooFewRows as error:
            raise UserError(f"{self._place(whole, error.rows)}: {error}") from None

    def _place(self, split: Split, rows: Tensor) -> str:
        """Beginning of an error message about rows (N,) of rows that are yet to be split."""
        return f"data={self.name}"

    def _measure(self) -> DataSpec:
        return DataSpec(
            name=self.name,
            tasks=(() if self.anomalies else tuple(self.tasks)) + without_targets(self, self.inputs[0]),
            splits={name: len(split["input"]) for name, split in self.splits.items()},
            input=self._measure_input(),
            target=self._measure_target(),
            train_fraction=self.train_fraction,
            sha256=self._fingerprint(),
        )

    def _measure_input(self, **more: object) -> InputSpec:
        """Describe the input by the training split; `more` are further fields of its modality, or other values."""
        modality, inputs = self.inputs[0], self.splits["train"]["input"]
        mean, std = moments(inputs) if self.standardize else ((), ())
        values = average(inputs) if without_targets(self, modality) else ()
        measured = {"shape": tuple(inputs.shape[1:]), "mean": mean, "std": std, "average": values} | more
        return cast(Callable[..., InputSpec], modality)(**{"feature_names": self.feature_names} | measured)

    def _measure_target(self) -> TargetSpec | None:
        """Describe the target, measured on the training split."""
        train, target = self.splits["train"], self.splits["train"].get("target")
        if self.class_names:
            return Classes(
                names=self.class_names,
                counts=tuple(torch.bincount(tensor_of(train, "target"), minlength=len(self.class_names)).tolist()),
                anomalies=self.anomalies,
                held_out_test=self._split_classes.get("test", ()),
                held_out_val=self._split_classes.get("val", ()),
            )
        if isinstance(target, Tensor) and target.is_floating_point():
            (mean,), (std,) = moments(target.unsqueeze(1))
            return Number(mean, std)
        return None

    def _fingerprint(self) -> str:
        """sha256 of all rows and targets."""
        return fingerprint(self.splits)

    def row_name(self, split: str, row: int) -> str:
        """Name of a row of a split, for a person."""
        return in_split(split, row)

    def describe(self) -> dict[str, Any]:
        """The dataset as plain values, for the record of a run."""
        spec, target = self.spec, self.spec.target
        names = {"input": spec.input.feature_names, "target": spec.class_names}
        apart = {}
        if isinstance(target, Classes):
            held_out = {"held_out_classes": target.held_out_test, "val_classes": target.held_out_val}
            apart = {"anomalies": target.anomalies} | held_out
        schema = {
            name: {
                "dtype": str(tensor.dtype).removeprefix("torch."),
                "shape": list(tensor.shape[1:]),
                "names": list(names.get(name, ())),
            }
            for name, tensor in self.splits["train"].items()
        }
        return {
            "name": spec.name,
            "source": self.source,
            "modality": spec.modality,
            "tasks": list(spec.tasks),
            "sizes": dict(spec.splits),
            "sha256": spec.sha256,
            "schema": schema,
            "split_seed": self.split_seed,
            **{option: list(classes) for option, classes in apart.items() if classes},
            **({"train_fraction": self.train_fraction} if self.train_fraction != 1 else {}),
        }

    @override
    def train_dataloader(self) -> Loader:
        # an overfitting check wants the same few rows, as they are, in every epoch
        if self.trainer is not None and self.trainer.overfit_batches > 0:  # type: ignore[attr-defined]  # set elsewhere
            return self.in_order("train", self.batch_size)
        split, device = self._placed("train")
        sampler = self._sampler(split, device)
        return Loader(split, sampler, num_workers=self.num_workers, augment=self.augmentation())

    def augmentation(self) -> Augmentation | None:
        """Random changes to the batches of the training split; None: none."""
        return partial(augmented, self.augment, self.seed) if self.augment and self.augment.active else None

    def _sampler(self, split: Split, device: torch.device | str) -> EpochSampler:
        """The order of the training split."""
        rank, world_size = self._rank()
        ranks = {"rank": rank, "world_size": world_size, "device": device}
        options: dict[str, Any] = {"seed": self.seed, "shuffle": True, "drop_last": self.drop_last, **ranks}
        if self.per_class is None:
            return EpochSampler(len(split["input"]), self.batch_size, **options)
        target = split.get("target")
        if not isinstance(target, Tensor) or target.is_floating_point() or target.ndim != 1:
            raise UserError(f"data.per_class is for classes, data={self.name} has none")
        return ClassBalanced(target, self.per_class, self.batch_size, **options)

    @override
    def val_dataloader(self) -> Loader:
        return self.in_order("val", self.eval_batch_size)

    @override
    def test_dataloader(self) -> Loader:
        return self.in_order("test", self.eval_batch_size)

    @override
    def predict_dataloader(self) -> Loader:
        return self.in_order(self._available("predict"), self.eval_batch_size)

    def _available(self, name: str) -> str:
        """Name of the split, or of the one that serves if it is missing."""
        return next(split for split in (name, "test", "val") if split in self.splits)

    def head(self, name: str, rows: int) -> Batch:
        """Batch of the first rows of a split; of `test`, or else of `val`, if the split is missing."""
        split = self.splits[self._available(name)]
        index = torch.arange(min(rows, len(split["input"])))
        return {column: values[index] for column, values in split.items()} | {"index": index}

    def in_order(self, name: str, batch_size: int) -> Loader:
        """Loader of all rows of a split, once and in their order, with nothing changed at random."""
        rank, world_size = self._rank()
        split, device = self._placed(name)
        sampler = InOrder(len(split["input"]), batch_size, rank=rank, world_size=world_size, device=device)
        # views of memory need no worker, which could only be slower
        in_memory = all(isinstance(column, Tensor) or column.in_memory for column in split.values())
        return Loader(split, sampler, num_workers=0 if in_memory else self.num_workers)

    def _placed(self, name: str) -> tuple[Split, torch.device | str]:
        """Split and its device: with `on_device` it moves, once, to the root device of the trainer attached."""
        if not self.on_device or self.trainer is None:
            return self.splits[name], "cpu"
        device = self.trainer.strategy.root_device
        self.splits[name] = {key: lazy.moved(column, device) for key, column in self.splits[name].items()}
        return self.splits[name], device

    def _rank(self) -> tuple[int, int]:
        """(rank, number of processes) of the trainer this is attached to."""
        return (0, 1) if self.trainer is None else (self.trainer.global_rank, self.trainer.world_size)
