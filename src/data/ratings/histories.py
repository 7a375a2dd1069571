"""Interactions as rows of a batch: codes of user and item, and what the user had rated, read from one timeline."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import torch
from torch import Tensor

from src.spec.packed_interactions import Interactions


class History:
    """Histories of the users: the items they rated, the latest first, at most `length` each.

    Args:
        timeline: interactions, each user's together and in the order of time.
        length: items of a history.
    """

    def __init__(self, timeline: Interactions, length: int) -> None:
        self.timeline, self.length = timeline, length
        users = timeline.users
        most = int(users.max()) + 1 if len(users) else 1
        count = torch.bincount(users, minlength=most)
        order = users.argsort(stable=True)
        self.items, self.ratings = timeline.items[order], timeline.ratings[order]
        self.end = count.cumsum(0)
        self.begin = self.end - count
        self.begin[0] = self.end[0]  # unknown users are several

    def bounds(self, users: Tensor) -> tuple[Tensor, Tensor]:
        """Begin and end of the users' interactions in the timeline, each (N,)."""
        users = torch.where(users < len(self.end), users, 0)
        return self.begin[users], self.end[users]


class Rows:
    """Rows `user, item, history, its ratings` as a column (N, 2 + 2 L) of float32, made when they are asked for.

    Args:
        users, items: codes (N,).
        begin, end: where in `past` the history of each row begins and ends (N,).
        past, ratings: items and ratings of a timeline (M,).
        length: L.
    """

    dtype = torch.float32
    in_memory = True
    _columns = ("users", "items", "begin", "end", "past", "ratings")

    def __init__(self, *columns: Tensor, length: int) -> None:
        self.users, self.items, self.begin, self.end, self.past, self.ratings = columns
        self.length = length
        self.shape = (len(self.users), 2 + 2 * length)

    @classmethod
    def of(cls, own: Interactions, history: History, place: Tensor | None) -> Rows:
        """Rows whose history ends at their own place (N,) in the timeline, or holds all of their user's (None)."""
        begin, end = history.bounds(own.users)
        if place is not None:
            past = history.timeline
            change = torch.cat([torch.zeros(1, dtype=torch.int64), (past.users.diff() != 0).nonzero()[:, 0] + 1])
            first = change[torch.searchsorted(change, place, right=True) - 1]
            return cls(own.users, own.items, first, place, past.items, past.ratings, length=history.length)
        return cls(own.users, own.items, begin, end, history.items, history.ratings, length=history.length)

    def __len__(self) -> int:
        return len(self.users)

    def __getitem__(self, index: Tensor) -> Tensor:
        users, items, begin, end = (column[index] for column in (self.users, self.items, self.begin, self.end))
        steps = torch.arange(1, self.length + 2, device=end.device)  # one more, should the row's own item be among them
        place = end.unsqueeze(1) - steps
        inside = place >= begin.unsqueeze(1)
        place = place.clamp(min=0)
        past, ratings = self.past[place] if len(self.past) else place, self.ratings[place] if len(self.past) else place
        inside = inside & (past > 0) & (past != items.unsqueeze(1))
        order = (~inside).int().argsort(dim=1, stable=True)[:, : self.length]  # what counts moves to the front
        kept = inside.gather(1, order)
        past, ratings = past.gather(1, order) * kept, ratings.gather(1, order) * kept
        codes = torch.stack([users, items], dim=1)
        return torch.cat([codes, past, ratings], dim=1).float()

    def subset(self, index: Tensor) -> Rows:
        """Column of the rows index (N,), over the same timeline."""
        rows = (column[index] for column in (self.users, self.items, self.begin, self.end))
        return Rows(*rows, self.past, self.ratings, length=self.length)

    def to(self, device: torch.device | str) -> Rows:
        """Copy of the rows with all tensors on a device."""
        return Rows(*(getattr(self, name).to(device) for name in self._columns), length=self.length)

    def digest(self) -> bytes:
        """sha256 of the codes, the places and the timeline."""
        content: Sequence[bytes] = [getattr(self, name).cpu().numpy().tobytes() for name in self._columns]
        return hashlib.sha256(b"".join(content)).digest()
