"""Worst examples: the rows of an epoch with the largest losses, found without keeping the others."""

from __future__ import annotations

import torch
from torch import Tensor

from src.runtime.ranks import gather
from src.tasks.base import Batch, Task


class WorstExamples:
    """The rows of an epoch with the largest losses, found without keeping the others.

    A row's loss is what the task gives for a batch of it alone, so weights of classes cancel.

    Args:
        size: rows kept.
    """

    def __init__(self, task: Task, size: int = 16) -> None:
        self.task, self.size = task, size
        self.reset()

    def reset(self) -> None:
        """Forget the rows of the epoch so far."""
        self._losses: Tensor | None = None
        self._rows = torch.empty(0)
        self.problem: str | None = None  # why there are none

    @torch.no_grad()
    def append(self, outputs: Tensor, batch: Batch) -> None:
        """One prepared batch, with its `index`; nothing waits for the device."""
        if self.problem is not None or "index" not in batch:
            return

        def alone(output: Tensor, row: Batch) -> Tensor:
            return self.task.loss(output.unsqueeze(0), {name: column.unsqueeze(0) for name, column in row.items()})

        try:
            losses = torch.func.vmap(alone)(outputs, dict(batch)).float()
        except Exception as error:  # noqa: BLE001 (a task of the user's own may fail row by row; the test goes on)
            self.problem = f"{type(error).__name__}: {error}".splitlines()[0]
            return
        rows = batch["index"].to(losses.device)
        if self._losses is not None:
            losses, rows = torch.cat([self._losses, losses]), torch.cat([self._rows, rows])
        self._losses, places = losses.topk(min(self.size, len(losses)))
        self._rows = rows[places]

    def compute(self) -> list[tuple[int, float]]:
        """(row of the split, loss), the largest loss first, of all ranks; every rank calls it."""
        found = [] if self._losses is None else list(zip(self._rows.tolist(), self._losses.tolist(), strict=True))
        found = [pair for own in gather(found) for pair in own]
        return sorted(found, key=lambda pair: (-pair[1], pair[0]))[: self.size]
