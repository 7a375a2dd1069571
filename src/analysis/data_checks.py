"""Checks of data before training: classes, rows that two splits share, columns that tell too much or nothing.

Every check is a function of the splits and the spec alone. Rows are read piece by piece: data need not fit in memory.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from src.analysis.leakage import COLUMNS, Scores, single_columns
from src.data.core.chunks import Split, in_split, pieces, spread
from src.data.core.lazy import Column
from src.data.core.modality import modality_of
from src.runtime.format import listed, number
from src.spec import DataSpec

IMBALANCE = 10.0  # rows of the largest class beside those of the smallest


FEW = 10  # training rows of a class


MISSING = 0.5  # share of a column's cells


FAR = 10.0  # interquartile ranges from the quartiles; Tukey (1977) calls 3 far out


LEAK = {"AUROC": 0.99, "balanced accuracy": 0.99, "R2": 0.98}  # of one column alone, on rows it was not fitted to


NAMED = 3  # rows or columns that a finding names, where it says more of each than its name


_SAMPLE = 20_000  # training rows from which quartiles come


_FAR_OFF = f"values over {FAR:.0f} interquartile ranges off"


class Finding(NamedTuple):
    """Finding of a check: a warning wants an answer, a note may be all right."""

    level: Literal["warning", "note"]
    subject: str
    text: str


def find(
    spec: DataSpec,
    splits: Mapping[str, Split],
    missing: Mapping[str, float] | None = None,
    rows: int | None = None,
    place: Callable[[str, int], str] = in_split,
    ordered: bool = True,
) -> list[Finding]:
    """Make all checks and list their findings, warnings first.

    Args:
        spec: of the data.
        splits: its rows; `predict` is left out.
        missing: of each column of the file, the share of cells without a value.
        rows: of each split that are looked at, spread evenly; None: all.
        place: names a row of a split.
        ordered: whether the order of the rows is that of a file, and not made from their classes.
    """
    modality = modality_of(spec)
    if not modality.is_stored:
        return []
    splits = {name: split for name, split in splits.items() if name != "predict"}
    target = splits["train"].get("target")
    labels = target if isinstance(target, Tensor) and target.ndim == 1 else None
    found = [*classes(spec), *mostly_missing(missing or {})]
    if labels is not None:
        found += [*target_values(spec, labels), *(order(spec, labels) if ordered else [])]
    table = modality.column_rows(splits["train"])
    if table is not None:
        found += spread_of_columns(spec, table, rows)
        if labels is not None:
            found += leaks(spec, single_columns(spec, table, labels))
    if not modality.shares_rows:
        found += shared_rows(splits, rows, place)
    return sorted(found, key=lambda finding: finding.level != "warning")


# the target -----------------------------------------------------------------------------------------------------------


def classes(spec: DataSpec) -> list[Finding]:
    """Classes of very different size, and those with hardly any training row."""
    counts = dict(zip(spec.class_names, spec.class_counts, strict=True))
    if not counts or spec.target is None:
        return []
    found, what = [], spec.target.counted
    ranked = sorted(counts, key=counts.__getitem__)
    most, least = ranked[-1], next(name for name in ranked if counts[name])
    if counts[most] > IMBALANCE * counts[least]:
        ratio = counts[most] / counts[least]
        found.append(
            Finding(
                "warning",
                "imbalance",
                f"{most} has {counts[most]:,} training {what}, {least} {counts[least]:,}, {ratio:.0f} times fewer"
                + (": accuracy says little; task.class_weights=balanced evens them out" if what == "rows" else ""),
            )
        )
    few = [f"{name} ({counts[name]})" for name in ranked if counts[name] < FEW and name not in spec.held_out]
    if few:
        found.append(Finding("warning", f"few {what}", f"classes of fewer than {FEW} training {what}: {listed(few)}"))
    return found


def target_values(spec: DataSpec, target: Tensor) -> list[Finding]:
    """A numeric target (N,) that never changes, or with values far from all others."""
    if not target.is_floating_point():
        return []
    if target.min() == target.max():
        return [Finding("warning", "target", f"it is {number(target[0].item())} in every training row")]
    far = _outliers(target.unsqueeze(1), (0.0,), (1.0,), None).values()
    return [Finding("note", "outliers", f"{_FAR_OFF} in the target ({text})") for text in far]


def order(spec: DataSpec, target: Tensor) -> list[Finding]:
    """A target (N,) that is sorted by row."""
    steps = target[1:] - target[:-1]
    changes = int((steps != 0).sum())
    if spec.class_names:
        is_sorted = len(target.unique()) == changes + 1 and len(target) >= 2 * spec.num_classes
        text = "rows lie class by class, one after the other"
    else:
        is_sorted = len(target) > NAMED and changes > 0 and bool((steps >= 0).all() or (steps <= 0).all())
        text = "rows lie in the order of the target"
    if not is_sorted:
        return []
    return [
        Finding("note", "order", f"{text}: a split that is cut off at the end, not drawn, would differ from the rest")
    ]


# columns --------------------------------------------------------------------------------------------------------------


def mostly_missing(shares: Mapping[str, float]) -> list[Finding]:
    """Columns of which most cells have no value."""
    columns = [f"{name} ({100 * share:.0f} %)" for name, share in shares.items() if share > MISSING]
    return [Finding("warning", "missing", f"most cells are empty in {listed(columns)}")] if columns else []


def spread_of_columns(spec: DataSpec, table: Tensor | Column, rows: int | None = None) -> list[Finding]:
    """Columns (N, F) that never change, and those with values far from all others."""
    modality = modality_of(spec)
    names, may_be = modality.column_names(table.shape[1]), modality.may_be_constant()
    low = torch.full((table.shape[1],), math.inf)
    high = -low
    for _, values in pieces(table, rows):
        low, high = torch.minimum(low, values.amin(0)), torch.maximum(high, values.amax(0))
    found = []
    constant = [name for name, same in zip(names, (low == high).tolist(), strict=True) if same and name not in may_be]
    if constant:
        found.append(Finding("warning", "constant", f"the training rows have one value only in {listed(constant)}"))
    numeric = modality.numeric_columns(table.shape[1])
    if numeric:
        mean, std = modality.units(numeric)
        far = [f"{names[place]} ({text})" for place, text in _outliers(table, mean, std, rows).items()]
        if far:
            text = f"{_FAR_OFF} in {listed(far, NAMED)}{modality.outlier_remedy}"
            found.append(Finding("note", "outliers", text))
    return found


def _outliers(table: Tensor | Column, mean: Sequence[float], std: Sequence[float], rows: int | None) -> dict[int, str]:
    """Count of values far off, and how far, for each of the first columns of (N, F) that has some. A column of which
    half the values are the same has no spread to measure by, and is left out.

    Args:
        mean, std: by which each of these columns was standardised.
    """
    count = len(mean)
    sample = table[spread(len(table), _SAMPLE)][:, :count].double().numpy()
    first, third = np.quantile(sample, (0.25, 0.75), axis=0)
    width = third - first
    many, least, most, seen = np.zeros(count, dtype=int), first, third, 0
    for _, values in pieces(table, rows):
        array = values[:, :count].double().numpy()
        many += ((array < first - FAR * width) | (array > third + FAR * width)).sum(0)
        least, most = np.minimum(least, array.min(0)), np.maximum(most, array.max(0))
        seen += len(array)
    found = {}
    for place in np.flatnonzero((many > 0) & (width > 0)).tolist():
        low, quarter, three, high = (
            _rounded(value[place] * std[place] + mean[place], width[place] * std[place])
            for value in (least, first, third, most)
        )
        found[place] = f"{many[place]:,} of {seen:,}: {low} to {high}, half of all are {quarter} to {three}"
    return found


def _rounded(value: float, width: float) -> str:
    """Round to a small part of a column's width: standardised in float32 and back, a 0 is no longer quite one."""
    return f"{round(value, 5 - math.floor(math.log10(width))) + 0.0:.4g}"


def leaks(spec: DataSpec, scores: Scores) -> list[Finding]:
    """Columns that alone predict the target so well that they may be made from it."""
    names, least = modality_of(spec).column_names(len(scores.values)), LEAK[scores.metric]
    found = [
        Finding(
            "warning",
            "leak",
            f"{names[place]} alone predicts the target ({scores.metric} {scores.values[place]:.4f} on rows it was not"
            " fitted to): is it known before the target is?",
        )
        for place in np.flatnonzero(scores.values >= least).tolist()
    ]
    if len(names) > COLUMNS:
        text = f"the first {COLUMNS} of {len(names):,} columns were looked at one by one"
        found.append(Finding("note", "leak", text))
    return found


# rows in two splits ---------------------------------------------------------------------------------------------------


class _Hashes(NamedTuple):
    """Hashes of rows that were read: their numbers, the hash of the input, and that of input and target, each (N,)."""

    numbers: np.ndarray
    inputs: np.ndarray
    both: np.ndarray


def shared_rows(
    splits: Mapping[str, Split], rows: int | None = None, place: Callable[[str, int], str] = in_split
) -> list[Finding]:
    """Find rows whose input stands in two splits, byte for byte as a model gets it. Only hashes of rows are kept."""
    hashes = {name: _hashes(split, rows) for name, split in splits.items()}
    found = []
    for one, other in combinations(hashes, 2):
        first, second = hashes[one], hashes[other]
        shared = np.isin(second.inputs, first.inputs)
        if not shared.any():
            continue
        same = np.isin(second.both[shared], first.both).sum()
        by_hash = np.argsort(first.inputs, kind="stable")
        examples = []
        for row in np.flatnonzero(shared)[:NAMED]:
            partner = by_hash[np.searchsorted(first.inputs, second.inputs[row], sorter=by_hash)]
            examples.append(f"{place(other, int(second.numbers[row]))} = {place(one, int(first.numbers[partner]))}")
        back = int(np.isin(first.inputs, second.inputs).sum())
        count = int(shared.sum())
        alike = "all" if same == count else f"{same:,} of them"
        text = (
            f"{count:,} of {len(shared):,} rows of {other} ({100 * count / len(shared):.1f} %) equal a row of {one} in"
            f" all that a model sees, {alike} in the target too; in {one} these are {back:,} of {len(first.numbers):,}"
            f" rows: {', '.join(examples)}"
        )
        found.append(Finding("warning", "shared rows", text))
    return found


def _hashes(split: Split, rows: int | None) -> _Hashes:
    read = []
    for index, values in pieces(split["input"], rows):
        target = split["target"][index] if "target" in split else None
        inputs, both = [], []
        for place, row in enumerate(_plain(values)):
            # padding stands at the end, and its width is that of the batch
            digest = hashlib.blake2b(row.tobytes().rstrip(b"\0"), digest_size=8)
            inputs.append(digest.digest())
            if target is not None:
                digest.update(b"/" + target[place].numpy().tobytes().rstrip(b"\0"))
            both.append(digest.digest())
        read.append((index.numpy(), *(np.frombuffer(b"".join(kind), np.uint64) for kind in (inputs, both))))
    return _Hashes(*(np.concatenate(kind) for kind in zip(*read, strict=True)))


def _plain(values: Tensor) -> np.ndarray:
    """Rows whose equal numbers have equal bytes: there are two zeros."""
    return (values + 0.0 if values.is_floating_point() else values).contiguous().numpy()
