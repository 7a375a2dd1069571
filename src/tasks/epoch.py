"""Metrics of one epoch: gathered on the device without waiting for it, exact after a resume."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torchmetrics import Metric, MetricCollection

from src.runtime.compat.torchmetrics import mark_updated
from src.runtime.ranks import gather, is_distributed
from src.tasks.base import StepOutput, Task

# outputs kept before they are folded into the metrics' own state: 4 MB of float32
PENDING_ELEMENTS = 1 << 20


@contextlib.contextmanager
def counting() -> Iterator[None]:
    """Lets torchmetrics count with `torch.bincount`.

    In deterministic mode it compares every value with every bin instead, which takes seconds for a thousand rows and
    all memory for ten thousand. Counts are integers, so they do not depend on the order in which they are added.
    """
    deterministic = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    torch.use_deterministic_algorithms(False)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(deterministic, warn_only=warn_only)


class EpochMetrics:
    """Mean loss and the task's metrics over one epoch.

    A step only appends to lists: outputs wait until there are many, since one metric update costs as much as a small
    training step. The losses of all steps stay, so that the epoch's mean does not depend on when a checkpoint was
    written.

    Attributes:
        losses: scalar loss of each step so far, on the device.
    """

    def __init__(
        self, task: Task, with_curves: bool = False, training: bool = False, *, only_loss: bool = False
    ) -> None:
        self.task = task
        self.losses: list[Tensor] = []
        self._sizes: list[int | Tensor] = []
        self._outputs: list[Tensor] = []
        self._targets: list[Tensor] = []
        self._references: list[Tensor] = []
        self._pending = 0
        self._folded = False
        self._device = torch.device("cpu")
        self._curves = self._baseline = self._metrics = MetricCollection({})
        if not only_loss:
            self._metrics = task.collection("train" if training else "val")
        if with_curves:
            self._metrics, self._curves, self._baseline = (
                task.collection("test"),
                task.curves(),
                task.collection("test"),
            )

    def append(self, step_output: StepOutput) -> None:
        """One step; nothing waits for the device."""
        loss, outputs, target, reference, weight = step_output
        self.losses.append(loss.detach())
        self._sizes.append(len(target) if weight is None else weight)
        self._outputs.append(outputs.detach())
        self._targets.append(target)
        if reference is not None and len(self._baseline):
            self._references.append(reference)
        self._pending += outputs.numel()
        if self._pending > PENDING_ELEMENTS:
            self._fold()

    def append_loss(self, loss: Tensor, rows: int) -> None:
        """One step of which no more is known than its loss."""
        self.losses.append(loss.detach())
        self._sizes.append(rows)

    def _fold(self) -> None:
        if not self._outputs:
            return
        target = torch.cat(self._targets)
        prediction = self.task.prediction(torch.cat(self._outputs))
        self._move(target.device)
        with counting():
            for collection in (self._metrics, self._curves):
                collection.update(prediction, target)
            if len(self._baseline):
                reference = torch.cat(self._references) if self._references else None
                self._baseline.update(self.task.baseline(target, reference), target)
        self._outputs, self._targets, self._references, self._pending, self._folded = [], [], [], 0, True

    def _move(self, device: torch.device) -> None:
        if device != self._device:  # asking every metric each time costs a small net a step an epoch
            self._device = device
            for collection in (self._metrics, self._curves, self._baseline):
                collection.to(device)

    def mean_loss(self) -> float:
        """Mean over all rows (or what the task weighs) of all ranks; every rank calls it."""
        device = self.losses[0].device
        # double precision where the device has it, so that the mean of a million steps keeps its digits
        dtype = torch.float32 if device.type == "mps" else torch.float64
        sizes = torch.tensor(list(map(int, self._sizes)), dtype=dtype, device=device)
        total = torch.stack([(torch.stack(self.losses).to(dtype) * sizes).sum(), sizes.sum()])
        if is_distributed():
            dist.all_reduce(total)
        return float(total[0] / total[1])

    def compute(self) -> dict[str, float]:
        """`loss` and the task's metrics by name; empty where the epoch had no step."""
        if not self.losses:
            return {}
        self._fold()
        values = {name: float(value) for name, value in self._metrics.compute().items()}
        return {"loss": self.mean_loss(), **values}

    def metric(self, name: str) -> Metric:
        """One of the task's, for what it knows beside its values once they are computed."""
        return self._metrics[name]

    def curves(self) -> dict[str, Any]:
        """Confusion matrix and curves of the epoch, as tensors on the CPU."""
        self._fold()
        return {
            name: tuple(part.cpu() for part in value) if isinstance(value, tuple) else value.cpu()
            for name, value in self._curves.compute().items()
        }

    def baseline(self) -> dict[str, float]:
        """The same metrics for the task's trivial baseline on the same rows."""
        self._fold()
        return {name: float(value) for name, value in self._baseline.compute().items()}

    def reset(self) -> None:
        """Forget the epoch: its losses, outputs and the state of the metrics."""
        self.losses, self._sizes = [], []
        self._outputs, self._targets, self._references, self._pending = [], [], [], 0
        if self._folded:
            for collection in (self._metrics, self._curves, self._baseline):
                collection.reset()
            self._folded = False

    def state_dict(self) -> list[dict[str, Any]]:
        """Plain containers and tensors of each rank; every rank calls it.

        What is pending stays pending, so that a resume folds at the same places.
        """
        self._metrics.persistent(True)
        own = {
            "losses": torch.stack(self.losses).cpu() if self.losses else torch.empty(0),
            "sizes": list(map(int, self._sizes)),
            "outputs": [t.cpu() for t in self._outputs],
            "targets": [t.cpu() for t in self._targets],
            "folded": self._folded,
            "metrics": {str(k): self._metrics[str(k)].state_dict() for k in self._metrics} if self._folded else {},
        }
        return gather(own)

    def load_state_dict(self, states: list[dict[str, Any]], device: torch.device) -> None:
        """Takes this rank's own; with another number of ranks than before, the epoch's metrics begin anew."""
        self.reset()
        rank, ranks = (dist.get_rank(), dist.get_world_size()) if is_distributed() else (0, 1)
        if len(states) != ranks:
            return
        state = states[rank]
        self.losses = list(state["losses"].to(device))
        self._sizes = list(state["sizes"])
        self._outputs = [t.to(device) for t in state["outputs"]]
        self._targets = [t.to(device) for t in state["targets"]]
        self._pending = sum(t.numel() for t in self._outputs)
        self._folded = state["folded"]
        self._move(device)
        self._metrics.persistent(True)
        for name, values in state["metrics"].items():
            self._metrics[name].load_state_dict(values)
            mark_updated(self._metrics[name])
