"""Worst examples: the rows of an epoch with the largest losses, found without keeping the others."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from src.errors import UserError
from src.runtime.ranks import gather
from src.tasks.base import Batch, Task


class WorstExamples:
    """The rows of an epoch with the largest losses, found without keeping the others.

    A row's loss is what the task gives for a batch of it alone, so weights of classes cancel, and a loss that gives a
    mean alone serves as well.

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
            losses = self._one_by_one(alone, outputs, batch)
        except Exception as error:  # noqa: BLE001 (a task of the user's own may fail row by row; the test goes on)
            self.problem = f"{type(error).__name__}: {error}".splitlines()[0]
            return
        rows = batch["index"].to(losses.device)
        if self._losses is not None:
            losses, rows = torch.cat([self._losses, losses]), torch.cat([self._rows, rows])
        self._losses, places = losses.topk(min(self.size, len(losses)))
        self._rows = rows[places]

    def _one_by_one(self, alone: Callable[[Tensor, Batch], Tensor], outputs: Tensor, batch: Batch) -> Tensor:
        """Loss of each row (B,), in one pass where the loss allows it."""
        try:
            return torch.func.vmap(alone)(outputs, dict(batch)).float()
        except Exception:
            if not self.task.has_own:
                raise
        # a loss of the user's own may look at values, which only single rows let it do
        rows = [{name: column[row] for name, column in batch.items()} for row in range(len(outputs))]
        losses = torch.stack([alone(output, row) for output, row in zip(outputs, rows, strict=True)]).float()
        if not losses.isfinite().all():
            raise UserError("the loss of a single row is not finite")
        return losses

    def compute(self) -> list[tuple[int, float]]:
        """(row of the split, loss), the largest loss first, of all ranks; every rank calls it."""
        found = [] if self._losses is None else list(zip(self._rows.tolist(), self._losses.tolist(), strict=True))
        found = [pair for own in gather(found) for pair in own]
        return sorted(found, key=lambda pair: (-pair[1], pair[0]))[: self.size]
