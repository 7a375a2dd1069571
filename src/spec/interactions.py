"""Interactions of users with items, such as ratings, each with the user's history."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from src.spec.inputs import InputSpec

USER, ITEM, HISTORY = 0, 1, 2  # columns of a row: the history's items stand before as many ratings


@dataclass(frozen=True)
class InteractionsSpec(InputSpec):
    """A row `user, item, history, its ratings`, float32 (2 + 2 * history_length,).

    Attributes:
        users, items: ids that the training split has: the code of the first is 1. 0 is any other.
        item_names: of each item, what a person calls it; empty where only ids are known.
        packed: the training split's interactions, as `src.spec.packed_interactions.Interactions` packs them.
        rating_range: the smallest and the largest rating of the training split; empty where there are none.
    """

    modality = "interactions"

    users: tuple[str, ...] = field(default=(), repr=False)
    items: tuple[str, ...] = field(default=(), repr=False)
    item_names: tuple[str, ...] = field(default=(), repr=False)
    packed: str = field(default="", repr=False)
    rating_range: tuple[float, ...] = ()

    @property
    def history_length(self) -> int:
        """Most items of a row's history."""
        return (self.shape[0] - HISTORY) // 2

    def names_of(self, codes: Iterable[float]) -> list[str]:
        """Items as a person calls them; `?` is one that training did not have."""
        names = ("?", *(self.item_names or self.items))
        return [names[int(code)] for code in codes]
