"""View of recommendations: the first items of each list, and the one that the user took."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from src.spec import InteractionsSpec
from src.tasks.explained import Explained
from src.tasks.terminal import Table
from src.tasks.view import RowView, TrainedModel

if TYPE_CHECKING:
    from src.tasks.recommendation.task import Ranking


class FirstItem:
    """The first item of a list, from scores of the catalogue (B, I), without those that the user took."""

    numeric = False

    def __init__(self, task: Ranking) -> None:
        self.task = task

    def choose(self, outputs: Tensor, x: Tensor) -> Tensor:
        """The item's place in the catalogue (B,)."""
        return outputs.masked_fill(self.task.left_out(x), float("-inf")).argmax(1)

    def score(self, outputs: Tensor, chosen: Tensor) -> Tensor:
        """The item's score (B,)."""
        return outputs.float().gather(1, chosen.unsqueeze(1)).squeeze(1)

    def confidence(self, outputs: Tensor, chosen: Tensor) -> Tensor:
        """The item's probability (B,)."""
        return outputs.float().softmax(1).gather(1, chosen.unsqueeze(1)).squeeze(1)


class ListView(RowView):
    """A list of items a row: predictions are the codes of its first items (N, K), right answers those taken (N,)."""

    task: Ranking

    @property
    def explained(self) -> Explained:
        """The first item of the list."""
        return FirstItem(self.task)

    def table(self, predictions: Tensor, targets: Tensor | None, width: int) -> Table:
        """The first items of the list, and the one taken."""
        rows = [[str(row), self._list(codes)] for row, codes in enumerate(predictions.tolist())]
        if targets is not None:
            rows = [[*cells, name] for cells, name in zip(rows, self._names(targets.tolist()), strict=True)]
        return Table("recommendations", ["row", "recommended", *(["actual"] if targets is not None else [])], rows)

    def rows(self, predictions: Tensor, targets: Tensor | None) -> list[dict[str, str]]:
        """The item taken, and the first items of the list."""
        assert targets is not None
        pairs = zip(self._names(targets.tolist()), predictions.tolist(), strict=True)
        return [{"true": right, "predicted": self._list(codes)} for right, codes in pairs]

    def captions(self, model: TrainedModel, x: Tensor, targets: Tensor | None) -> list[str]:
        """The first item of each list."""
        x = x.to(model.device)
        with torch.inference_mode():
            chosen = self.explained.choose(model.forward(x), x)
        return [f"recommended: {name}" for name in self._names((chosen + 1).tolist())]

    def _list(self, codes: list[int]) -> str:
        return ", ".join(self._names(codes))

    def _names(self, codes: Iterable[float]) -> list[str]:
        return self.spec.input_as(InteractionsSpec).names_of(codes)
