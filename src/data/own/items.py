"""Items of a dataset of a user's own, whatever form they have, as rows of columns that are read when asked for."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import psutil
import torch
from rich.console import Console
from rich.progress import track
from torch import Tensor
from torch.utils.data import Subset

from src.data.core.splits import spread
from src.errors import UserError
from src.runtime.compat.lightning import own_rank
from src.runtime.randomness import Randomness

INPUTS = ("input", "inputs", "x", "image", "images", "img", "pixel_values", "features", "data")
TARGETS = ("target", "targets", "y", "label", "labels")
EVALUATION = 0  # key of what is random in rows that are not trained on

_PROBED = 8  # items by which it is judged whether reading draws random numbers
_DIGESTED = 2_000
_CHUNK = 64  # items that are hashed, or made a batch of, at once
_SHARE = 0.25  # of the free memory that rows may take
_COLLATE = 1  # keeps the random numbers of collating apart from those of the batch's first item

Collate = Callable[[list[Any]], Any]


class Dataset(Protocol):
    """A dataset as torch has them: items by number, and how many there are."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> object: ...


class Pairs:
    """Arrays as a dataset: inputs (N, ...) and a target for each, if any."""

    def __init__(self, x: Tensor, y: Sequence[Any] | None) -> None:
        self.x, self.targets = x, y

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index: int) -> object:
        return self.x[index] if self.targets is None else (self.x[index], self.targets[index])


class Items:
    """Items of a dataset as tensors of one form with their targets.

    Args:
        dataset: its items are pairs (input, target), dicts with names such as those of `INPUTS` and `TARGETS`, or
            inputs alone. An input is a tensor, an array, a number or a picture of PIL.
        name: what messages call it.
        collate: makes a batch of a list of items, (inputs, targets) or a dict likewise; None: they are stacked.

    Attributes:
        shape, dtype: of an input, channels first where it is a picture.
        draws: whether reading an item, or making a batch, draws random numbers.
        is_restorable: whether the same seeds give the same item again.
        varies: whether a collate_fn pads batches to different sizes; `shape` is the largest.

    Raises:
        UserError: no items, or ones that are none of this.
    """

    def __init__(self, dataset: Dataset, name: str, collate: Collate | None = None) -> None:
        self.dataset, self.name, self.collate = dataset, name, collate
        if not len(dataset):
            raise UserError(f"data: {name} has no items")
        self.randomness = Randomness(dataset, collate)
        self.draws, self.is_restorable, self.varies = True, True, False
        inputs, targets = self.batch([0])
        self.shape, self.dtype = tuple(inputs.shape[1:]), inputs.dtype
        self.has_target = targets is not None
        self.draws = not isinstance(dataset, Pairs) and self._probe()

    def _probe(self) -> bool:
        """True if reading draws random numbers; notes whether seeds tell which."""
        rows = spread(len(self.dataset), _PROBED).tolist()
        readings = [[self.batch([row]) for row in rows] for _ in range(2)]
        plain = [[(x.numpy().tobytes(), str(y)) for x, y in reading] for reading in readings]
        self.is_restorable = plain[0] == plain[1]
        self.draws = False
        with self.randomness.set_apart():
            self.randomness.seed(EVALUATION)
            before = self.randomness.state()
            for row in rows:
                self.batch([row])
            return self.randomness.state() != before

    def where(self, row: int) -> str:
        """Beginning of messages about an item."""
        return f"data: item {row} of {self.name}"

    def batch(self, rows: Sequence[int], key: int = EVALUATION) -> tuple[Tensor, list[Any] | None]:
        """Inputs (B, ...) of some rows and their targets, if they have any.

        Args:
            key: decides, with the row, what is random.

        Raises:
            UserError: the dataset or its collate_fn fails, or gives what is none of the forms.
        """
        items = self._fetched(rows, key)
        if self.collate is None:
            pairs = [_pair(item, self.where(row)) for row, item in zip(rows, items, strict=True)]
            inputs = [as_input(value, self.where(row)) for row, (value, _) in zip(rows, pairs, strict=True)]
            self._check_forms(rows, inputs)
            return torch.stack(inputs), None if pairs[0][1] is None else [_plain(target) for _, target in pairs]
        where = f"data: a batch of the collate_fn of {self.name}"
        found, targets = _pair(self._collated(items, rows, key), where)
        x = as_input(found, where, lead=1)
        if len(x) != len(rows) or (targets is not None and len(targets) != len(rows)):
            raise UserError(f"{where} has {len(x)} rows, made of {len(rows)} items: one row an item is needed")
        return x, None if targets is None else [_plain(target) for target in targets]

    def _fetched(self, rows: Sequence[int], key: int) -> list[Any]:
        row = -1
        try:
            if not self.draws:
                found = []
                for row in rows:
                    found.append(self.dataset[row])  # noqa: PERF401 (the row is named where it fails)
                return found
            with self.randomness.set_apart():
                found = []
                for row in rows:
                    self.randomness.seed(key, row)
                    found.append(self.dataset[row])
                return found
        except UserError:
            raise
        except Exception as error:
            reason = f"{type(error).__name__}: {error}".splitlines()[0]
            raise UserError(f"{self.where(row)} cannot be read ({reason})") from error

    def _collated(self, items: list[Any], rows: Sequence[int], key: int) -> object:
        assert self.collate is not None
        try:
            if not self.draws:
                return self.collate(items)
            with self.randomness.set_apart():
                self.randomness.seed(key, rows[0], _COLLATE)
                return self.collate(items)
        except Exception as error:
            reason = f"{type(error).__name__}: {error}".splitlines()[0]
            raise UserError(f"data: the collate_fn of {self.name} fails ({reason})") from error

    def _check_forms(self, rows: Sequence[int], inputs: Sequence[Tensor]) -> None:
        if not hasattr(self, "shape"):
            return
        for row, found in zip(rows, inputs, strict=True):
            if tuple(found.shape) != self.shape or found.dtype != self.dtype:
                own, first = (_form(*form) for form in ((found.dtype, found.shape), (self.dtype, self.shape)))
                remedy = "pad or crop them in the dataset, or by the collate_fn of a LightningDataModule"
                raise UserError(
                    f"data: item {row} of {self.name} is {own}, item 0 is {first}: all need one form; {remedy}"
                )

    # all of them -----------------------------------------------------------------------------------------------------

    def read(self, keep: bool | None) -> tuple[Tensor | ItemColumn, list[Any] | None]:
        """Inputs (N, ...) of all items, in memory where that may be, and their targets.

        Args:
            keep: in memory; None: where they are not random, and take at most a quarter of what is free.

        Raises:
            UserError: they are to be kept, and are random or are collated.
        """
        if isinstance(self.dataset, Pairs):
            x = as_input(self.dataset.x, f"data: {self.name}", lead=1)
            return x, None if self.dataset.targets is None else [_plain(one) for one in self.dataset.targets]
        fixed = self.is_restorable and not self.draws and self.collate is None
        if keep and not fixed:
            why = "they are made batches of by its collate_fn" if self.collate else "items draw random numbers"
            raise UserError(f"data.in_memory=true: {why}, and each epoch has others: leave it out")
        size = len(self.dataset) * int(np.prod(self.shape)) * self.dtype.itemsize
        kept = fixed and (size <= _SHARE * psutil.virtual_memory().available if keep is None else keep)
        targets = self._own_targets() if self.has_target else None
        if not kept and self.collate is None and (targets is not None or not self.has_target):
            return ItemColumn(self), targets
        before = self.randomness.state()
        inputs, read = self._all(kept)
        if not self.draws and self.randomness.state() != before:
            self.draws = True  # some do, none of those that were tried
            return self.read(keep)
        return ItemColumn(self) if inputs is None else inputs, targets or read

    def _all(self, kept: bool) -> tuple[Tensor | None, list[Any] | None]:
        count = len(self.dataset)
        inputs = torch.empty((count, *self.shape), dtype=self.dtype) if kept else None
        targets: list[Any] = []
        for row in _told(range(count), f"reading {self.name}"):
            x, target = self.batch([row])
            targets += target or []
            if inputs is not None:
                inputs[row] = x[0]
            elif x.shape[1:] != self.shape:  # only by a collate_fn, which pads
                if x.ndim != 1 + len(self.shape) or x.ndim < 3:
                    raise UserError(
                        f"{self.where(row)} is collated to {_form(x.dtype, x.shape[1:])}, item 0 to "
                        f"{_form(self.dtype, self.shape)}: let the collate_fn pad all batches to one length"
                    )
                self.shape, self.varies = tuple(map(max, self.shape, x.shape[1:])), True
        return inputs, targets if self.has_target else None

    def _own_targets(self) -> list[Any] | None:
        """Targets that the dataset keeps in a list, where they are those of its items; else None."""
        kept = _targets_of(self.dataset)
        if self.collate is not None or kept is None or len(kept) != len(self.dataset):
            return None
        rows = spread(len(kept), _PROBED).tolist()
        found = [_plain(value) for value in kept]
        return found if self.batch(rows)[1] == [found[row] for row in rows] else None


def _targets_of(dataset: object) -> Sequence[Any] | None:
    if isinstance(dataset, Subset):
        kept = _targets_of(dataset.dataset)
        return None if kept is None else [kept[row] for row in dataset.indices]
    kept = getattr(dataset, "targets", None)
    return kept if isinstance(kept, Tensor | np.ndarray | list | tuple) else None


def _pair(item: object, where: str) -> tuple[Any, Any]:
    """Input and target of an item, or those of a batch; None where it has no target."""
    if isinstance(item, Mapping):
        given = {str(key).lower(): value for key, value in item.items()}
        name = next((key for key in INPUTS if key in given), None)
        if name is None:
            remedy = "call its input `input`, its target `target`"
            if "input_ids" in given:
                remedy = "give the texts themselves, (texts, labels), which are made into tokens here"
            raise UserError(f"{where} has {', '.join(given)}: {remedy}")
        return given[name], next((given[key] for key in TARGETS if key in given), None)
    if not isinstance(item, tuple | list):
        return item, None
    if len(item) != 2:
        raise UserError(f"{where} has {len(item)} parts: a pair (input, target) is needed")
    return item[0], item[1]


def _plain(target: Any) -> Any:  # noqa: ANN401 (a number, a name, or what is refused later)
    """A target of one value as a value of Python."""
    if isinstance(target, Tensor):
        return target.item() if target.numel() == 1 else target
    return target.item() if isinstance(target, np.ndarray | np.generic) and target.size == 1 else target


def as_input(value: object, where: str, lead: int = 0) -> Tensor:
    """Inputs as float32, or pictures as uint8; channels come first.

    Args:
        lead: dimensions before those of an input.

    Raises:
        UserError: it is no array of numbers.
    """
    try:
        found = value.detach().cpu() if isinstance(value, Tensor) else torch.from_numpy(np.array(value))
    except (TypeError, ValueError):
        kind = type(value).__name__
        raise UserError(f"{where} has a {kind} as input: a tensor, an array or a picture is needed") from None
    sides = found.ndim - lead
    if sides == 0:
        found = found.unsqueeze(-1)
    if found.dtype == torch.uint8 and sides == 2:
        return found.unsqueeze(lead)
    if sides == 3 and found.shape[lead] not in (1, 3) and found.shape[-1] in (1, 3):
        found = found.movedim(-1, lead)
    return found if found.dtype == torch.uint8 and sides == 3 else found.float()


def _form(dtype: torch.dtype, shape: Sequence[int]) -> str:
    return f"{str(dtype).removeprefix('torch.')} {tuple(shape)}"


def _told(rows: range, what: str) -> Iterator[int]:
    """The rows, with a bar on a terminal."""
    console = Console(stderr=True)
    yield from track(rows, what, console=console, transient=True, disable=bool(own_rank()) or not sys.stderr.isatty())


class ItemColumn:
    """Column of inputs; an item is read anew whenever it is asked for."""

    in_memory = False

    def __init__(self, items: Items, rows: Tensor | None = None) -> None:
        self.items = items
        self.rows = torch.arange(len(items.dataset)) if rows is None else rows

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape (N, ...) of all rows."""
        return (len(self.rows), *self.items.shape)

    @property
    def dtype(self) -> torch.dtype:
        """Type of the values of all rows."""
        return self.items.dtype

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: Tensor) -> Tensor:
        return self.items.batch(self.rows[index].tolist())[0]

    def subset(self, index: Tensor) -> ItemColumn:
        """Column of the rows index (N,), none of them read yet."""
        return ItemColumn(self.items, self.rows[index])

    def digest(self) -> bytes:
        """sha256 of up to 2,000 rows spread evenly."""
        digest = hashlib.sha256()
        for index in spread(len(self), _DIGESTED).split(_CHUNK):
            digest.update(self[index].contiguous().numpy().data.cast("B"))
        return digest.digest()
