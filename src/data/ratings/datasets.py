"""Ratings of items by users: your own table, MovieLens, or generated ones of low rank."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Unpack

import numpy as np
import torch
from annotated_types import Ge
from torch import Tensor
from typing_extensions import override

from src.data.core.files import data_root, download, own_file, required
from src.data.core.module import DataModule
from src.data.core.options import SplitOptions, with_defaults
from src.data.core.splits import Split, TooFewRows, tensor_of
from src.data.ratings.histories import History, Rows
from src.data.ratings.reader import Ratings, movielens, read_ratings
from src.errors import UserError
from src.runtime.compat.lightning import own_rank
from src.runtime.ranges import PositiveInt
from src.runtime.stateless_random import generator
from src.spec import DataSpec, InputSpec, InteractionsSpec
from src.spec.packed_interactions import Interactions

_KINDS = {"low_rank": "low_rank_ratings", "movielens": "movielens", "file": "ratings"}
_MOST = 1 << 24  # codes that a float32 holds exactly


class InteractionData(DataModule):
    """One row an interaction of a user with an item; the target is its rating, where there are ratings.

    A row of the input is `user, item, history, its ratings`: codes as whole numbers (0: not in training), then those
    of the last `history` items that the user rated, the latest first, then their ratings, both 0 where there
    are fewer. What a row is asked about is never in its own history. Where the split is by time the history is what
    came before, for the test the validation's item among it; where it is at random it is all else of the user that is
    in the training split.

    Args:
        source: `movielens` (ml-latest-small, Harper and Konstan 2015, downloaded once), `low_rank` (generated), `file`.
        path: of the user's own csv, tsv or Parquet file.
        root: folder for downloads; null: LABBOOK_DATA_ROOT, else data/ in the project.
        user, item, rating, time: names of the columns; null: the common ones (userId, user_id, user ...). A rating or a
            time that there is none of may be missing: `rating=none` leaves out one that is there. Without a time the
            order of the file counts.
        split: `random`, or `leave_last_out`: of each user with three interactions or more the last one is in the test
            part and the one before in the validation split.
        history: most items of a row's history.
        implicit_from: interactions rated lower are left out, and the ratings of the others forgotten; null: all count.
        rows: of the generated ones.

    Raises:
        UserError: a file, column, row or option that cannot be used; fewer than two users or items; no user with three
            interactions where the last one is left out.
    """

    inputs = (InteractionsSpec,)
    tasks: tuple[str, ...] = ("rating", "ranking")

    def __init__(
        self,
        *,
        source: Literal["movielens", "low_rank", "file"] = "low_rank",
        path: str | None = None,
        root: str | None = None,
        user: str | None = None,
        item: str | None = None,
        rating: str | None = None,
        time: str | None = None,
        split: Literal["random", "leave_last_out"] = "random",
        history: PositiveInt = 50,
        implicit_from: float | None = None,
        rows: Annotated[int, Ge(100)] = 3_000,
        data_seed: int = 0,
        **common: Unpack[SplitOptions],
    ) -> None:
        super().__init__(standardize=False, **with_defaults(common, eval_batch_size=128, val_fraction=0.1))
        for option, value, known in (("source", source, _KINDS), ("split", split, ("random", "leave_last_out"))):
            if value not in known:
                raise UserError(f"data.{option}={value}: one of {', '.join(known)}")
        self.name, self.chosen = _KINDS[source], source
        self.path = own_file(source, path)
        self.root = data_root(root)
        self.columns = {"user": user, "item": item, "rating": rating, "time": time}
        self.split, self.length, self.implicit_from = split, history, implicit_from
        self.rows, self.data_seed = rows, data_seed
        self._facts: dict[str, Any] = {}

    @override
    def prepare_data(self) -> None:
        if self.chosen == "movielens":
            self.path = download("movielens", self.root)[0]

    # reading ---------------------------------------------------------------------------------------------------------

    def _read(self) -> Ratings:
        """Read all interactions, each pair of a user and an item once, each user's in the order of time."""
        self.prepare_data()
        if self.chosen == "low_rank":
            self.source = "torch.randn"
            return low_rank(self.rows, self.data_seed)
        self.source = str(self.path)
        path = required(self.path)
        found = movielens(path) if self.chosen == "movielens" else read_ratings(path, self.columns)
        if self.implicit_from is not None:
            found = found.at_least(self.implicit_from, f"data.implicit_from={self.implicit_from}")
        return found

    @override
    def load(self) -> dict[str, Split]:
        found = self._read()
        where = f"data.path: {self.path}" if self.path else f"data={self.name}"
        for what, ids in (("user", found.users), ("item", found.items)):
            if len(np.unique(ids)) < 2:
                raise UserError(f"{where} has interactions of one {what} only: two or more are needed")
        users, number = np.unique(found.users, return_inverse=True)
        index = self._last_out(number, where) if self.split == "leave_last_out" else self._at_random(len(number), where)
        train = index["train"].numpy()
        vocabulary = {"users": _ids(found.users[train]), "items": _ids(found.items[train])}
        if max(map(len, vocabulary.values())) >= _MOST:
            raise UserError(f"{where} has too many users or items: at most {_MOST:,} of each")
        known = self._coded(found, vocabulary, train)
        rated = found.ratings is not None and len(np.unique(found.ratings[train])) > 1
        order = ("rating", "ranking") if self.split == "random" else ("ranking", "rating")
        self.tasks = order if rated else ("ranking",)
        self._facts = vocabulary | {
            "packed": known.pack(),
            "item_names": tuple(found.names.get(item, item) for item in vocabulary["items"]) if found.names else (),
            "rating_range": (float(known.ratings.min()), float(known.ratings.max())) if rated else (),
        }
        self._tell(found, rated, len(users))
        timeline = self._coded(found, vocabulary, None) if self.split == "leave_last_out" else known
        parts = {}
        for name, rows in index.items():
            own = self._coded(found, vocabulary, rows.numpy())
            parts[name] = self._part(own, timeline, rows if self.split == "leave_last_out" else None)
            parts[name]["group"] = torch.from_numpy(number[rows.numpy()])
            self._tell_unknown(name, own)
        return parts

    @override
    def whole(self, spec: DataSpec) -> Split:
        found = self._read()
        if "rating" in spec.tasks and found.ratings is None:
            raise UserError(f"data.path: {self.path} has no ratings, the model's data had")
        form = spec.input_as(InteractionsSpec)
        own = self._coded(found, {"users": form.users, "items": form.items}, None)
        self.length = form.history_length  # the model's
        part = self._part(own, Interactions.of(form), None)
        part["group"] = torch.from_numpy(np.unique(found.users, return_inverse=True)[1])
        self._tell_unknown("test", own)
        return part

    def _part(self, own: Interactions, timeline: Interactions, place: Tensor | None) -> Split:
        """Rows of interactions with histories from a timeline, where `place` says which of it each row is."""
        part: Split = {"input": Rows.of(own, History(timeline, self.length), place)}
        return part | ({"target": own.ratings} if "rating" in self.tasks else {})

    def _coded(
        self, found: Ratings, vocabulary: Mapping[str, tuple[str, ...]], rows: np.ndarray | None
    ) -> Interactions:
        """Rows (all: None) as codes of a vocabulary, 0 where it lacks them."""
        rows = np.arange(len(found.users)) if rows is None else rows
        users, items = codes(found.users[rows], vocabulary["users"]), codes(found.items[rows], vocabulary["items"])
        rated = np.zeros(len(rows)) if found.ratings is None else found.ratings[rows]
        return Interactions(users, items, torch.from_numpy(rated).float())

    # rows of the parts -----------------------------------------------------------------------------------------------

    def _at_random(self, rows: int, where: str) -> dict[str, Tensor]:
        try:
            parts = self._assigned({"all": {"input": torch.arange(rows)}})
        except TooFewRows as error:
            raise UserError(f"{where}: {error}") from None
        return {name: tensor_of(part, "input") for name, part in parts.items()}

    def _last_out(self, number: np.ndarray, where: str) -> dict[str, Tensor]:
        """Rows by the user's number (N,), each user's together."""
        count = np.bincount(number)
        last = count.cumsum() - 1
        enough = count >= 3
        if not enough.any():
            raise UserError(f"{where}: no user has 3 interactions or more: data.split=random")
        test, val = last[enough], last[enough] - 1
        train = np.setdiff1d(np.arange(len(number)), np.concatenate([test, val]))
        return {name: torch.from_numpy(rows) for name, rows in (("train", train), ("val", val), ("test", test))}

    def _split(self, parts: dict[str, Split]) -> dict[str, Split]:
        return parts  # `load` has split them: codes come from the training split

    def _measure_input(self, **more: object) -> InputSpec:
        return super()._measure_input(**self._facts, **more)

    # what was found --------------------------------------------------------------------------------------------------

    def _tell(self, found: Ratings, rated: bool, users: int) -> None:
        if self.chosen == "low_rank" or own_rank():
            return
        what = "ratings" if rated else "interactions without ratings"
        if found.ratings is not None and not rated:
            what = "interactions, all of one rating, which says nothing"
        told = f"{len(found.users):,} {what} of {users:,} users"
        if found.doubled:
            told += f"; {found.doubled:,} pairs of a user and an item stood there before: the last one counts"
        print(f"{self.name}: {told}", file=sys.stderr)

    def _tell_unknown(self, name: str, own: Interactions) -> None:
        counts = {what: int((codes == 0).sum()) for what, codes in (("users", own.users), ("items", own.items))}
        if any(counts.values()) and self.chosen != "low_rank" and not own_rank():
            told = " and ".join(f"{count:,} of {what}" for what, count in counts.items() if count)
            print(
                f"{self.name}: {name} has {told} that training did not have, out of {len(own.users):,}", file=sys.stderr
            )


def codes(ids: np.ndarray, vocabulary: tuple[str, ...]) -> Tensor:
    """Place of each id in the vocabulary, from 1 on; 0 where it is not in it."""
    number = {name: code for code, name in enumerate(vocabulary, start=1)}
    return torch.tensor([number.get(name, 0) for name in ids.tolist()], dtype=torch.int64)


def _ids(ids: np.ndarray) -> tuple[str, ...]:
    """Distinct ids, in the order of numbers if all are numbers."""
    found = sorted(set(ids.tolist()))
    return tuple(sorted(found, key=int) if all(name.isdecimal() for name in found) else found)


def low_rank(rows: int, seed: int, users: int = 100, items: int = 60, rank: int = 3) -> Ratings:
    """Ratings from 1 to 5 made of biases, vectors and noise; users take rather the items that they like, one by one."""
    random = generator(seed)
    user, item = (torch.randn(n, rank, generator=random) for n in (users, items))
    of_user, of_item = (0.5 * torch.randn(n, 1, generator=random) for n in (users, items))
    liking = of_user + of_item.T + 0.5 * user @ item.T
    noise = -torch.log(-torch.log(torch.rand(users, items, generator=random).clamp(1e-6, 1 - 1e-6)))
    order = (liking + noise).argsort(dim=1, descending=True)  # drawn by Gumbel noise, without replacement
    each = min(items, -(-rows // users))
    rated = 3.5 + liking + 0.3 * torch.randn(users, items, generator=random)
    chosen = order[:, :each]
    ratings = rated.gather(1, chosen).mul(2).round().div(2).clamp(1, 5).flatten()[:rows]
    ids = torch.arange(users).repeat_interleave(each)[:rows]
    names = [
        np.array([f"{word}{i}" for i in column.tolist()], dtype=object)
        for word, column in (("u", ids), ("i", chosen.flatten()[:rows]))
    ]
    by_user = np.argsort(names[0], kind="stable")
    return Ratings(names[0][by_user], names[1][by_user], ratings.double().numpy()[by_user], {}, 0)
