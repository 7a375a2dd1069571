"""Random splits and folds, statistics of the training split, and the fingerprint of all rows."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from typing import TypeVar

import torch
from torch import Tensor

from src.data.core.lazy import Column
from src.errors import UserError
from src.runtime.stateless_random import generator

Split = dict[str, Tensor | Column]
ColumnT = TypeVar("ColumnT")


class TooFewRows(UserError):
    """Fewer rows than splits; `rows` (N,) are their numbers."""

    def __init__(self, message: str, rows: Tensor) -> None:
        super().__init__(message)
        self.rows = rows


# what the parts are called in files
SPLIT_NAMES = {"train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "dev": "val"}
SPLIT_NAMES |= {"test": "test", "testing": "test"}

_MEASURED = 2_000
_AVERAGED = 16_384  # values of a row
_SPLIT, _FOLDS = 3, 7  # keep these streams apart from order and augmentation, should the two seeds be equal


def tensor_of(split: Split, name: str) -> Tensor:
    """A column (N, ...) of a split that is in memory as a tensor.

    Raises:
        TypeError: it is read as it is asked for.
    """
    return column_as(split, name, Tensor)


def column_as(split: Split, name: str, kind: type[ColumnT]) -> ColumnT:
    """A column of a split as its own class, for code that serves that class alone.

    Raises:
        TypeError: it is of another class.
    """
    column = split[name]
    if not isinstance(column, kind):
        raise TypeError(f"column {name} is a {type(column).__name__}, not a {kind.__name__}")
    return column


def draw_splits(
    split: Split, fractions: Mapping[str, float], *, seed: int, class_names: Sequence[str] = ()
) -> dict[str, Split]:
    """Split rows at random into the splits named in `fractions` and `train`, which gets the rest.

    With class names, int64 targets are split class by class, so that every part has every class in its proportion.

    Raises:
        TooFewRows: fewer rows, of any class, than there are parts.
    """
    random = generator(seed, _SPLIT)
    groups = [(tensor_of(split, "target") == label).nonzero().squeeze(1) for label in range(len(class_names))]
    groups = groups or [torch.arange(len(split["input"]))]
    names = ("train", *fractions)
    for label, group in enumerate(groups):
        if len(group) < len(names):
            what = f"class {class_names[label]}: " if class_names else ""
            count = f"{len(group)} row{'s' if len(group) != 1 else ''}"
            needed = f"{', '.join(names)}: at least {len(names)} are needed"
            raise TooFewRows(f"{what}{count}, too few for {needed}", group)
    counts = _counts([len(group) for group in groups], list(fractions.values()))
    rows: dict[str, list[Tensor]] = {name: [] for name in names}
    for group, sizes in zip(groups, counts, strict=True):
        for name, chosen in zip(names, group[torch.randperm(len(group), generator=random)].split(sizes), strict=True):
            rows[name].append(chosen)
    order = {name: torch.cat(chosen).sort().values for name, chosen in rows.items()}
    return {name: {key: rows_of(column, index) for key, column in split.items()} for name, index in order.items()}


def folds_of(target: Tensor, folds: int, *, seed: int, num_classes: int = 0) -> Tensor:
    """The fold of each row (N,), int64: folds of equal size, and of each class where there are classes.

    Raises:
        UserError: fewer rows than folds.
    """
    if len(target) < folds:
        raise UserError(f"{len(target)} rows, too few for data.folds={folds}")
    order = torch.randperm(len(target), generator=generator(seed, _FOLDS))
    if num_classes:
        order = order[target[order].sort(stable=True).indices]  # class after class, dealt out in turn
    fold = torch.empty_like(order)
    fold[order] = torch.arange(len(order)) % folds
    return fold


def rows_of(column: Tensor | Column, index: Tensor) -> Tensor | Column:
    """Select rows of a column by their numbers (N,)."""
    return column[index] if isinstance(column, Tensor) else column.subset(index)


def _counts(groups: list[int], fractions: list[float]) -> list[list[int]]:
    """For each group its rows in (train, *parts): whole parts as near their fraction as can be, and no count is 0."""
    columns = []
    for fraction in fractions:
        exact = [size * fraction for size in groups]
        counts = [math.floor(e) for e in exact]
        by_remainder = sorted(range(len(groups)), key=lambda i: counts[i] - exact[i])
        for i in by_remainder[: round(sum(exact)) - sum(counts)]:
            counts[i] += 1
        columns.append([max(1, c) for c in counts])
    result = []
    for size, *counts in zip(groups, *columns, strict=True):
        while sum(counts) >= size:
            counts[counts.index(max(counts))] -= 1
        result.append([size - sum(counts), *counts])
    return result


def moments(inputs: Tensor | Column) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each column (N, F) or channel (N, C, H, W); 1 where all values are the same.

    Of a column that is not in memory, up to 2,000 rows spread evenly are measured.
    """
    if not isinstance(inputs, Tensor):
        inputs = inputs[spread(len(inputs), _MEASURED)]
    channels = inputs.movedim(1, 0).flatten(1)  # (C, N * ...)
    means, deviations = [], []
    for values in channels:
        if values.dtype == torch.uint8:
            # exact, and a tenth of the time and memory of a pass in double
            counts = torch.bincount(values, minlength=256).double()
            levels = torch.arange(256, dtype=torch.float64)
            mean = (counts @ levels / counts.sum()).item()
            variance = (counts @ (levels - mean).square() / counts.sum()).item()
        else:
            # summed over the rows in one fixed order: the same bits for any number of threads
            column = values.double().numpy()
            mean, variance = float(column.mean()), float(column.var())
        means.append(mean)
        deviations.append(variance**0.5)
    constant = [d <= 1e-12 * max(1.0, abs(m)) for m, d in zip(means, deviations, strict=True)]
    return tuple(means), tuple(1.0 if c else d for c, d in zip(constant, deviations, strict=True))


def average(inputs: Tensor | Column, cardinalities: Sequence[int] = ()) -> tuple[float, ...]:
    """The mean row, flattened, over up to 2,000 rows spread evenly; see DataSpec.average."""
    if not isinstance(inputs, Tensor) or inputs[:1].numel() > _AVERAGED:
        return ()
    rows = inputs[spread(len(inputs), _MEASURED)].flatten(1)
    # in NumPy: one fixed order, the same bits for any number of threads
    values = rows.double().numpy().mean(0).tolist()
    count = rows.shape[1] - len(cardinalities)
    shares = [
        torch.bincount(column.long(), minlength=codes).double() / len(rows)
        for column, codes in zip(rows[:, count:].unbind(1), cardinalities, strict=True)
    ]
    return tuple(values[:count] + [share for column in shares for share in column.tolist()])


def spread(n: int, most: int) -> Tensor:
    """Up to `most` of n rows, in even steps, the first and the last among them."""
    return torch.linspace(0, n - 1, min(n, most), dtype=torch.float64).long()


def fingerprint(splits: Mapping[str, Split]) -> str:
    """sha256 over the names, dtypes, shapes and bytes of all tensors of all parts, and the digests of columns."""
    digest = hashlib.sha256()
    for split in sorted(splits):
        for name in sorted(splits[split]):
            column = splits[split][name]
            digest.update(f"{split}/{name} {column.dtype} {tuple(column.shape)}\n".encode())
            if not isinstance(column, Tensor):
                digest.update(column.digest())
            elif column.numel():
                digest.update(column.contiguous().numpy().data.cast("B"))
    return digest.hexdigest()
