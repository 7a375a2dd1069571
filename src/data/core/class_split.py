"""Splits by class: validation and test have classes of their own that training does not see."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from src.data.core.splits import Split, rows_of, tensor_of
from src.errors import UserError, suggest

Classes = int | Sequence[str | int] | None
LEAST = 2  # of the classes of a part: with one, no pair is of different ones


def check(option: str, value: Classes) -> int | tuple[str, ...] | None:
    """Check an option that holds a number of classes or their names; None if it is unset.

    Raises:
        UserError: a number below two, or a list of fewer than two names or with one twice.
    """
    if value is None or value == [] or value == ():
        return None
    if isinstance(value, int):
        if value < LEAST or isinstance(value, bool):
            raise UserError(
                f"data.{option}={value}: {LEAST} or more, since with one class no pair is of different ones"
            )
        return value
    names = tuple(str(name) for name in value)
    if twice := [name for name in names if names.count(name) > 1]:
        raise UserError(f"data.{option}: {twice[0]} is named twice")
    if len(names) < LEAST:
        raise UserError(
            f"data.{option}=[{names[0]}]: {LEAST} or more, since with one class no pair is of different ones"
        )
    return names


def chosen(
    names: Sequence[str],
    unseen: int | tuple[str, ...],
    val: int | tuple[str, ...] | None,
    val_fraction: float,
    data: str,
) -> dict[str, tuple[str, ...]]:
    """Choose the classes of each split: `test` has the held-out ones, `val` others, `train` the rest.

    Args:
        names: of all classes.
        unseen, val: so many, the last ones by name of those not taken yet, or which. `val=None`: that share of what
            the test leaves, two at least.
        data: the dataset's name.

    Raises:
        UserError: a name that is no class, one that is asked for twice, or fewer than two classes left to learn from.
    """
    left = list(names)
    splits: dict[str, tuple[str, ...]] = {}
    for split, option, wanted in (("test", "held_out_classes", unseen), ("val", "val_classes", val)):
        if wanted is None:
            wanted = max(LEAST, round(val_fraction * len(left)))
        if isinstance(wanted, int):
            if wanted > len(left) - LEAST * (2 if split == "test" else 1):
                raise UserError(_too_many(option, wanted, names, left, data))
            # names of a list count as taken before others are counted off
            taken = val if split == "test" and isinstance(val, tuple) else ()
            free = [name for name in left if name not in taken]
            wanted = tuple(free[-wanted:])
        for name in wanted:
            if name not in names:
                raise UserError(f"data.{option}: {name} is no class of data={data}{suggest(name, names)}")
            if name not in left:
                raise UserError(f"data.{option}: {name} is in data.held_out_classes too")
        splits[split] = wanted
        left = [name for name in left if name not in wanted]
        if split == "test" and len(left) < 2 * LEAST:
            raise UserError(_too_many(option, len(wanted), names, names, data))
    if len(left) < LEAST:
        raise UserError(_too_many("val_classes", len(splits["val"]), names, [*left, *splits["val"]], data))
    return {"train": tuple(left), **splits}


def _too_many(option: str, wanted: int, names: Sequence[str], left: Sequence[str], data: str) -> str:
    others = "two to learn from" if option == "val_classes" else "two to learn from and two to validate"
    most = len(left) - (LEAST if option == "val_classes" else 2 * LEAST)
    what = f"data={data} has {len(names)} classes" + (
        f", {len(left)} without the unseen" if len(left) != len(names) else ""
    )
    allowed = f"at most {most}" if most >= LEAST else "too few for any"
    return f"data.{option}={wanted}: {what}; {allowed}, to leave {others}"


def rows_of_classes(
    splits: Mapping[str, Split], classes: Mapping[str, Sequence[str]], names: Sequence[str]
) -> dict[str, Split]:
    """Rows of each split's own classes: from the split itself if it is given, else from `all` or `train`.

    Raises:
        UserError: a class of the validation or the test has fewer than two rows, which no pair can be made of.
    """
    whole = "all" if "all" in splits else "train"
    found = {}
    for split, wanted in classes.items():
        source = splits[split if split in splits else whole]
        target = tensor_of(source, "target")
        numbers = torch.tensor([names.index(name) for name in wanted])
        rows = torch.isin(target, numbers).nonzero().squeeze(1)
        counts = torch.bincount(target[rows], minlength=len(names))[numbers]
        least = 1 if split == "train" else LEAST
        for name, count in zip(wanted, counts.tolist(), strict=True):
            if count < least:
                option = {"test": "held_out_classes", "val": "val_classes", "train": "held_out_classes"}[split]
                raise UserError(
                    f"data.{option}: class {name} has {count} row{'s' if count != 1 else ''} in {split}, at least"
                    f" {least} {'are' if least > 1 else 'is'} needed{' for a pair' if least > 1 else ''}"
                )
        found[split] = {key: rows_of(column, rows) for key, column in source.items()}
    return found
