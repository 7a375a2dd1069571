"""Interactions of users with items as a modality."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from typing_extensions import override

from src import plots
from src.data.core.modality import Modality, register_modality
from src.data.tables.modality import handed_array
from src.spec import InteractionsSpec
from src.spec.interactions import HISTORY, ITEM, USER

if TYPE_CHECKING:
    from src.data.core.inputs import Inputs
    from src.plots.base import Figure


@register_modality("interactions")
class InteractionsModality(Modality):
    """Rows `user, item, history, its ratings`, of which an attribution may remove items of the history."""

    @property
    def form(self) -> InteractionsSpec:
        """The spec's input."""
        return self.spec.input_as(InteractionsSpec)

    def from_memory(self, rows: Any, folder: Path) -> Inputs:
        """Read rows of codes (N, 2 + 2 * history_length)."""
        return handed_array(self, np.asarray(rows), folder)

    @override
    def content(self, inputs: Tensor) -> list[dict[str, str]]:
        users, items = ("?", *self.form.users), self.form.names_of(inputs[:, ITEM].tolist())
        return [{"user": users[int(u)], "item": item} for u, item in zip(inputs[:, USER].tolist(), items, strict=True)]

    # attributions ---------------------------------------------------------------------------------------------------

    @property
    def methods(self) -> tuple[str, ...]:
        """Ablation, one item of the history after the other, since there is no gradient through a code."""
        return ("ablation",)

    def removable(self, x: Tensor) -> Tensor:
        """Mask of the places (B, history) with an item."""
        return x[:, HISTORY : HISTORY + _length(x)] > 0

    def spread(self, mask: Tensor, x: Tensor) -> Tensor:
        """Expand a mask of the history to its ratings: an item is removed with its own."""
        return torch.cat([torch.zeros_like(mask[:, :HISTORY]), mask, mask], dim=1)

    def groups(self, x: Tensor) -> Tensor:
        """Groups of an item and its rating; user and item asked about are one more group."""
        places = torch.arange(_length(x), device=x.device)
        return torch.cat([places.new_full((HISTORY,), len(places)), places, places]).unsqueeze(0)

    @override
    def per_cell(self, values: Tensor) -> Tensor:
        return values[:, HISTORY : HISTORY + _length(values)]

    @override
    def cell_names(self, x: Tensor) -> list[list[str]]:
        history = x[:, HISTORY : HISTORY + _length(x)]
        return [self.form.names_of(filter(None, row)) for row in history.tolist()]

    @override
    def draw_attributions(self, x: Tensor, found: Mapping[str, Tensor], titles: Sequence[str]) -> Figure:
        ((method, values),) = found.items()
        return plots.attribution.words(self.cell_names(x), values.tolist(), titles, method)


def _length(rows: Tensor) -> int:
    """Number of places in a history."""
    return (rows.shape[1] - HISTORY) // 2
