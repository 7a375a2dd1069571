"""What a trained recommender says of users and items in a file, from its checkpoint alone."""

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
from src.inference.load import Trained
from src.spec.packed_interactions import Interactions

COLUMNS = ("user", "item")  # options that name them
USERS_AT_ONCE = 128  # each is asked about the whole catalogue

Columns = dict[str, list[Any]]


def rated(trained: Trained, path: Path, given: Mapping[str, Any], size: int) -> Iterator[Columns]:
    """Rows of the file with the predicted rating.

    Args:
        trained: a `src.inference.load.Trained`; what could not be known is noted there.
        path: of a table with users and items.
        given: names of its columns, as far as they are not those of the training's file nor common.
        size: rows at a time.

    Raises:
        UserError: a file, column or cell that cannot be used.
    """
    model, spec = trained.model, trained.model.spec
    file, found = _open(trained, path, given, ("user", "item"))
    unknown = {"user": 0, "item": 0}
    rows = 0
    for first, piece in file:
        ids = {kind: np.array(ids_of(file, piece, first, found[kind]), dtype=object) for kind in COLUMNS}
        user, item = codes(ids["user"], spec.input.users), codes(ids["item"], spec.input.items)
        column = Rows.of(Interactions(user, item, torch.zeros(len(user))), _history(model), None)
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
    """The first `top` items for each user of the file, without those that the user took: in training or, where
    the file has items beside the users, there. These become the latest of the user's history, in the file's order.

    Raises:
        UserError: a file, column or cell that cannot be used, or `top` out of its range.
    """
    model, spec = trained.model, trained.model.spec
    if not 1 <= top <= len(spec.input.items):
        raise UserError(f"top_n={top}: from 1 to {len(spec.input.items)}, the items that the model knows")
    file, found = _open(trained, path, given, ("user",))
    taken: dict[str, list[str]] = {}
    for first, piece in file:
        users = ids_of(file, piece, first, found["user"])
        items = ids_of(file, piece, first, found["item"]) if "item" in found else [""] * len(users)
        for user, item in zip(users, items, strict=True):
            taken.setdefault(user, []).append(item)
    if not taken:
        raise UserError(f"{file.where} has no rows")
    history = _history(model)
    names = dict(zip(spec.input.items, spec.input.item_names, strict=True)) if spec.input.item_names else {}
    asked = list(taken)
    unknown = 0
    for start in range(0, len(asked), USERS_AT_ONCE):
        some = asked[start : start + USERS_AT_ONCE]
        user = codes(np.array(some, dtype=object), spec.input.users)
        more = [codes(np.array(taken[name], dtype=object), spec.input.items) for name in some]
        x = _inputs(history, user, more)
        unknown += int(((user == 0) & (x[:, 2:] == 0).all(1)).sum())
        inputs = x.to(model.device)
        scores = model(inputs)
        left_out = model.task.left_out(inputs)
        for row, seen in enumerate(more):  # a history may be too short to hold them all
            left_out[row, seen[seen > 0] - 1] = True
        best = scores.masked_fill(left_out, float("-inf")).topk(top, dim=1)
        for name, values, places in zip(some, best.values.tolist(), best.indices.tolist(), strict=True):
            known = zip(places, values, strict=True)
            pairs = [(spec.input.items[place], value) for place, value in known if value > -np.inf]
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


def _inputs(history: History, user: Tensor, more: list[Tensor]) -> Tensor:
    """Rows (B, 2 + 2 L) of users (B,) that are asked about no item, with items that came after all that is known."""
    nobody = torch.zeros_like(user)
    x = Rows.of(Interactions(user, nobody, nobody.float()), history, None)[torch.arange(len(user))]
    length = history.length
    for row, items in enumerate(more):
        items = items[items > 0].flip(0)  # the latest first
        past = torch.cat([items.float(), x[row, 2 : 2 + length]])[:length]
        ratings = torch.cat([torch.zeros(len(items)), x[row, 2 + length :]])[:length]
        x[row, 2:] = torch.cat([past, ratings])
    return x


def _history(model: Any) -> History:
    return History(Interactions.of(model.spec.input), model.spec.input.history_length)


def _open(
    trained: Trained, path: Path, given: Mapping[str, Any], needed: tuple[str, ...]
) -> tuple[TableFile, dict[str, str]]:
    """The file and its columns of users and items, called as asked, or as in the training's file, or commonly."""
    known = {kind: trained.data_options.get(kind) for kind in COLUMNS} | dict(given)
    file = TableFile(path, known=[str(name) for name in known.values() if name])
    asked = {
        kind: str(name) for kind, name in known.items() if name is not None and (kind in given or name in file.columns)
    }
    return file, find_columns(file, asked, needed=needed)
