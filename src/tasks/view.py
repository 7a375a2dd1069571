"""Tables of a run as csv files, which the MLflow UI shows as tables, and what stands in them for an example."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from src.runtime import output
from src.spec import DataSpec, InteractionsSpec, TableSpec, TokenizedSpec
from src.spec.interactions import ITEM, USER
from src.spec.tokenizer import SEP, Tokenizer

FEATURES = 30  # columns of a table up to which an example's own are shown


def write(path: Path, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> Path:
    """Writes a table under a temporary name, then renames it over the previous one; returns its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with output.replacing(path) as temporary, open(temporary, "w", encoding="utf-8", newline="") as file:
        table = csv.writer(file)
        table.writerow(header)
        table.writerows(rows)
    return path


def judged(spec: DataSpec, predictions: Tensor, targets: Tensor) -> list[dict[str, str]]:
    """For each row what is true and what was predicted, as a person reads it; of classes also the probability.

    Args:
        predictions, targets: as of `Task.shown`: probabilities (N, C) or (N,), values (N,), or ids of tokens (N, L);
            codes of a list's first items (N, K) and of the item taken (N,).
    """
    if isinstance(spec.input, InteractionsSpec) and not predictions.is_floating_point():
        pairs = zip(item_names(spec, targets.tolist()), predictions.tolist(), strict=True)
        return [{"true": right, "predicted": ", ".join(item_names(spec, codes))} for right, codes in pairs]
    if not predictions.is_floating_point():
        tokenizer = Tokenizer(spec.input_as(TokenizedSpec).tokenizer)
        texts = zip(targets.tolist(), predictions.tolist(), strict=True)
        return [{"true": tokenizer.decode(right), "predicted": tokenizer.decode(ids)} for right, ids in texts]
    if not spec.class_names:
        pairs = zip(targets.tolist(), predictions.tolist(), strict=True)
        return [{"true": f"{right:.6g}", "predicted": f"{value:.6g}"} for right, value in pairs]
    if predictions.ndim == 1:
        predictions = predictions.new_tensor([1, 0]) + predictions.unsqueeze(1) * predictions.new_tensor([-1, 1])
    probability, chosen = predictions.max(1)
    return [
        {"true": spec.class_names[int(right)], "predicted": spec.class_names[guess], "probability": f"{p:.4f}"}
        for right, guess, p in zip(targets.tolist(), chosen.tolist(), probability.tolist(), strict=True)
    ]


def scored(spec: DataSpec, scores: Tensor, targets: Tensor | None) -> list[dict[str, str]]:
    """For each row the score (N,) of the anomaly, and its class where there are classes."""
    found = [{"score": f"{score:.6g}"} for score in scores.tolist()]
    if targets is None:
        return found
    names = [spec.class_names[number] for number in targets.tolist()]
    return [{"true": name} | score for name, score in zip(names, found, strict=True)]


def item_names(spec: DataSpec, codes: Iterable[float]) -> list[str]:
    """Items as a person calls them; `?` is one that training did not have."""
    known = spec.input_as(InteractionsSpec)
    names = ("?", *(known.item_names or known.items))
    return [names[int(code)] for code in codes]


def content(spec: DataSpec, task: str, inputs: Tensor) -> list[dict[str, str]]:
    """For each row of raw inputs (N, ...) what it is: its text, or its columns where they are few; else nothing."""
    if isinstance(spec.input, TokenizedSpec):
        if task == "causal_lm":  # the true text is all there is
            return [{} for _ in inputs]
        tokenizer = Tokenizer(spec.input.tokenizer)
        return [{"text": _text(tokenizer, ids)} for ids in inputs.tolist()]
    if isinstance(spec.input, InteractionsSpec):
        users, items = ("?", *spec.input.users), item_names(spec, inputs[:, ITEM].tolist())
        return [{"user": users[int(u)], "item": item} for u, item in zip(inputs[:, USER].tolist(), items, strict=True)]
    if isinstance(spec.input, TableSpec) and len(spec.input.feature_names) <= FEATURES:
        return [dict(zip(spec.input.feature_names, cells(spec, row), strict=True)) for row in inputs.tolist()]
    return [{} for _ in inputs]


def cells(spec: DataSpec, row: Sequence[float]) -> list[str]:
    """The cells of a table's row as its file has them: categories by name, numbers and the parts of dates in their own
    unit. Numbers that were mapped by their quantiles stay in standard units.
    """
    found, names = [f"{value:.4g}" for value in row], list(spec.input.feature_names)
    for column in spec.input_as(TableSpec).columns:
        if column.type == "category":
            place = names.index(column.name)
            found[place] = ("unknown", *column.categories)[int(row[place])] or "missing"
        elif column.type == "number" and not column.quantiles:
            place = names.index(column.name)
            (mean,), (std,) = column.mean, column.std
            value = row[place] * std + mean
            found[place] = f"{value:.4g}" if abs(value) > 1e-5 * std else "0"  # float32 hardly gives a 0 back
        elif column.type == "date":
            first = names.index(f"{column.name} year")
            for place, (mean, std) in enumerate(zip(column.mean, column.std, strict=True), first):
                found[place] = f"{row[place] * std + mean:.6g}"
    return found


def _text(tokenizer: Tokenizer, ids: list[int]) -> str:
    """The text of a row, question and context on lines of their own."""
    if SEP not in ids:
        return tokenizer.decode(ids)
    place = ids.index(SEP)
    return f"{tokenizer.decode(ids[:place])}\n{tokenizer.decode(ids[place:])}"
