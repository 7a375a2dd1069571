"""Recommendations and ratings for the users and items of a file, from a trained recommender's checkpoint alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from src.data.ratings.datasets import codes
from src.data.ratings.histories import History, Rows
from src.data.ratings.reader import find_columns, ids_of
from src.data.tables.reader import TableFile
from src.errors import UserError
from src.inference.answers.base import Columns, Request, register_answer
from src.inference.load import Trained
from src.spec import InteractionsSpec
from src.spec.packed_interactions import Interactions
from src.tasks.recommendation.task import Ranking

COLUMNS = ("user", "item")  # options that name them
USERS_AT_ONCE = 128  # each is asked about the whole catalogue


@register_answer("ranking")
def recommend(trained: Trained, request: Request, *, top_n: int) -> Iterator[Columns]:
    """List the first items for each user, of those that the user has not taken yet."""
    return ranked(trained, request.file, request.options(*COLUMNS), top_n)


@register_answer("rating")
def rate(trained: Trained, request: Request) -> Iterator[Columns]:
    """Predict the rating of each row's item by its user."""
    return rated(trained, request.file, request.options(*COLUMNS), request.batch_size)


def rated(trained: Trained, path: Path, given: Mapping[str, Any], size: int) -> Iterator[Columns]:
    """Predict the rating of each row of the file.

    Args:
        trained: a `src.inference.load.Trained`; what could not be known is noted there.
        path: of a table with users and items.
        given: names of its columns, as far as they are not those of the training's file nor common.
        size: rows at a time.

    Raises:
        UserError: a file, column or cell that cannot be used.
    """
    model, known = trained.model, trained.model.spec.input_as(InteractionsSpec)
    file, found = _open(trained, path, given, ("user", "item"))
    unknown = {"user": 0, "item": 0}
    rows = 0
    for first, piece in file:
        ids = {kind: np.array(ids_of(file, piece, first, found[kind]), dtype=object) for kind in COLUMNS}
        user, item = codes(ids["user"], known.users), codes(ids["item"], known.items)
        column = Rows.of(Interactions(user, item, torch.zeros(len(user))), _history(known), None)
        for index in torch.arange(len(user)).split(size):
            answer = model.predict_step({"input": column[index].to(model.device)}, 0).cpu()
            yield {
                "row": (rows + index + 1).tolist(),
                **{found[kind]: ids[kind][index.numpy()].tolist() for kind in COLUMNS},
                "predicted": answer.tolist(),
            }
        rows += len(user)
        unknown["user"] += int((user == 0).sum())
        unknown["item"] += int((item == 0).sum())
    if not rows:
        raise UserError(f"{file.where} has no rows")
    trained.notes += [
        f"rows with {'a user' if kind == 'user' else 'an item'} that training did not have, whose bias is unknown: {n}"
        for kind, n in unknown.items()
        if n
    ]


def ranked(trained: Trained, path: Path, given: Mapping[str, Any], top: int) -> Iterator[Columns]:
    """List the first `top` items for each user of the file, without those that the user took: in training or, where
    the file has items beside the users, there. These become the latest of the user's history, in the file's order.

    Raises:
        UserError: a file, column or cell that cannot be used, or `top` out of its range.
    """
    model, task, known = trained.model, trained.model.task, trained.model.spec.input_as(InteractionsSpec)
    assert isinstance(task, Ranking)
    if not 1 <= top <= len(known.items):
        raise UserError(f"top_n={top}: from 1 to {len(known.items)}, the items that the model knows")
    file, found = _open(trained, path, given, ("user",))
    taken = _taken(file, found)
    history = _history(known)
    names = dict(zip(known.items, known.item_names, strict=True)) if known.item_names else {}
    asked = list(taken)
    unknown = 0
    for start in range(0, len(asked), USERS_AT_ONCE):
        some = asked[start : start + USERS_AT_ONCE]
        user = codes(np.array(some, dtype=object), known.users)
        more = [codes(np.array(taken[name], dtype=object), known.items) for name in some]
        x = _inputs(history, user, more)
        unknown += int(((user == 0) & (x[:, 2:] == 0).all(1)).sum())
        inputs = x.to(model.device)
        scores = model(inputs)
        left_out = task.left_out(inputs)
        for row, seen in enumerate(more):  # a history may be too short to hold them all
            left_out[row, seen[seen > 0] - 1] = True
        best = scores.masked_fill(left_out, float("-inf")).topk(top, dim=1)
        for name, values, places in zip(some, best.values.tolist(), best.indices.tolist(), strict=True):
            pairs = [(known.items[i], value) for i, value in zip(places, values, strict=True) if value > -np.inf]
            chosen = [item for item, _ in pairs]
            columns: Columns = {
                found["user"]: [name] * len(pairs),
                "rank": list(range(1, len(pairs) + 1)),
                found.get("item", "item"): chosen,
            }
            columns |= {"name": [names[item] for item in chosen]} if names else {}
            if pairs:
                yield columns | {"score": [value for _, value in pairs]}
    if unknown:
        trained.notes.append(f"users of whom nothing is known, who get what is liked in general: {unknown}")


def _taken(file: TableFile, found: Mapping[str, str]) -> dict[str, list[str]]:
    """Read the items of each user of the file, in its order; empty texts where it has no items.

    Raises:
        UserError: it has no rows.
    """
    taken: dict[str, list[str]] = {}
    for first, piece in file:
        users = ids_of(file, piece, first, found["user"])
        items = ids_of(file, piece, first, found["item"]) if "item" in found else [""] * len(users)
        for user, item in zip(users, items, strict=True):
            taken.setdefault(user, []).append(item)
    if not taken:
        raise UserError(f"{file.where} has no rows")
    return taken


def _inputs(history: History, user: Tensor, more: list[Tensor]) -> Tensor:
    """Make rows (B, 2 + 2 L) of users (B,) without an item to score, with items that came after all that is known."""
    nobody = torch.zeros_like(user)
    x = Rows.of(Interactions(user, nobody, nobody.float()), history, None)[torch.arange(len(user))]
    length = history.length
    for row, items in enumerate(more):
        items = items[items > 0].flip(0)  # the latest first
        past = torch.cat([items.float(), x[row, 2 : 2 + length]])[:length]
        ratings = torch.cat([torch.zeros(len(items)), x[row, 2 + length :]])[:length]
        x[row, 2:] = torch.cat([past, ratings])
    return x


def _history(known: InteractionsSpec) -> History:
    return History(Interactions.of(known), known.history_length)


def _open(
    trained: Trained, path: Path, given: Mapping[str, Any], needed: tuple[str, ...]
) -> tuple[TableFile, dict[str, str]]:
    """Open the file, and find its columns of users and items by the names given, the training's, or common ones."""
    known = {kind: trained.data_options.get(kind) for kind in COLUMNS} | dict(given)
    file = TableFile(path, known=[str(name) for name in known.values() if name])
    asked = {
        kind: str(name) for kind, name in known.items() if name is not None and (kind in given or name in file.columns)
    }
    return file, find_columns(file, asked, needed=needed)
