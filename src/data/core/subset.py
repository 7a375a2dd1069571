"""A share of the training split, for learning curves: which rows, or which stretch, stay when the rest is left out.

Shares of one seed are nested, the smaller within the larger; those of different seeds are independent of each other.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from src.errors import UserError
from src.runtime.stateless_random import generator

_FRACTION = 11  # keeps this stream apart from those of order and splits, should the seeds be equal


def check(fraction: float) -> None:
    """Raise a UserError unless the fraction is above 0 and at most 1."""
    if not 0 < fraction <= 1:
        raise UserError(f"train_fraction={fraction} must be above 0 and at most 1")


def rows(count: int, fraction: float, *, seed: int, target: Tensor | None = None, names: Sequence[str] = ()) -> Tensor:
    """Choose the rows that stay, ascending numbers: the share of each class, or of all rows, at random.

    Args:
        count: of all training rows.
        target: class of each row (N,), where there are classes.
        names: of the classes.

    Raises:
        UserError: a class, or the whole part, would keep no row.
    """
    order = torch.randperm(count, generator=generator(seed, _FRACTION))
    groups = [order] if target is None else [order[target[order] == label] for label in range(len(names))]
    kept = []
    for label, group in enumerate(groups):
        size = math.floor(fraction * len(group) + 0.5)
        if len(group) and not size:
            whose = "the training split" if target is None else f"class {names[label]}"
            least = math.ceil(0.5 / len(group) * 1e4) / 1e4
            few = f"train_fraction={fraction} leaves no row of {whose}, which has {len(group)}"
            raise UserError(f"{few}: at least {least:g} is needed")
        kept.append(group[:size])
    return torch.cat(kept).sort().values


def stretch(length: int, fraction: float, *, seed: int) -> slice:
    """A contiguous share of a text, about a place that the seed chooses.

    Raises:
        UserError: nothing would stay.
    """
    size = math.floor(fraction * length + 0.5)
    if not size:
        raise UserError(f"train_fraction={fraction} leaves nothing of a text of {length} characters")
    place = torch.rand((), generator=generator(seed, _FRACTION), dtype=torch.float64).item()
    begin = math.floor(place * (length - size) + 0.5)
    return slice(begin, begin + size)


def latest(length: int, fraction: float) -> int:
    """First row of the last share of `length` rows in time."""
    return length - math.floor(fraction * length + 0.5)
