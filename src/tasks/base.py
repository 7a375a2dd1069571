"""Task: what a kind of problem is: its loss, its metrics, its prediction, its baseline and what to monitor."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
import torchmetrics as tm
from torch import Tensor, nn

from src.metrics.modes import Mode, modes
from src.spec import DataSpec

Loss = Callable[..., Tensor]
Batch = Mapping[str, Tensor]


class StepOutput(NamedTuple):
    """What one step says about the model.

    Attributes:
        loss: mean of the batch, a scalar.
        outputs: what the metrics' predictions are made of (B, ...).
        target: what they are compared with (B, ...).
        reference: what the trivial baseline is made of beside the target (B, ...), where the target is not enough.
        weight: of what the loss is the mean, a whole number as a scalar; None: of the rows.
    """

    loss: Tensor
    outputs: Tensor
    target: Tensor
    reference: Tensor | None = None
    weight: Tensor | None = None


class Task(nn.Module):
    """One kind of problem on one dataset. A module only so that class weights move to the device with the model.

    Attributes:
        losses: names that `task.loss=` accepts, the default first; none where the loss is the model's own.
        monitor: validation metric that picks the best checkpoint, stops early and is the objective of a sweep.
        metric_modes: for each metric whether `max` or `min` is better.
        num_outputs: size of the model's last layer.
        per_token: the model gives its outputs for each position of the input, (B, T, num_outputs).
        resampled: whether metrics of rows drawn anew, some of them twice, tell how far they can be trusted.
    """

    name: str
    losses: tuple[str, ...] = ()
    monitor: str = "loss"
    metric_modes: Mapping[str, Mode] = modes("loss")
    num_outputs: int = 1
    per_token: bool = False
    bootstrapped: bool = True

    def __init__(self, spec: DataSpec, loss: Loss | None, class_weights: Tensor | None = None) -> None:
        super().__init__()
        self.spec = spec
        self.loss_function = loss
        self.register_buffer("class_weights", class_weights, persistent=False)

    def prepare(self, batch: Batch, training: bool = False) -> Batch:
        """The batch as the model and the loss take it, where the data cannot know: shifted or masked tokens."""
        return batch

    def evaluate_batch(self, outputs: Tensor, batch: Batch) -> StepOutput:
        """Loss of a batch, and what the epoch's metrics need of it."""
        return StepOutput(self.loss(outputs, batch), outputs, self.target(batch))

    def prediction(self, outputs: Tensor) -> Tensor:
        """Of judged outputs (B, ...), what the metrics compare with the target."""
        return self.predict(outputs)

    def decode_for_display(self, outputs: Tensor, batch: Batch) -> tuple[Tensor, Tensor | None]:
        """(predictions, what would be right) to be printed row by row; ids of tokens (B, L) where both are texts."""
        return self.predict(outputs), batch.get("target")

    @classmethod
    def default_loss(cls, spec: DataSpec) -> str:
        """The loss where none is asked for; empty where it is the model's own."""
        return next(iter(cls.losses), "")

    def target(self, batch: Batch) -> Tensor:
        """The part of a batch that the outputs are compared with."""
        return batch["target"]

    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        """Mean loss of a batch, a scalar: `outputs` (B, num_outputs)."""
        raise NotImplementedError(f"{type(self).__name__}.loss")

    def predict(self, outputs: Tensor) -> Tensor:
        """What a person reads: probabilities, or values in the target's own unit."""
        return outputs

    def columns(self, predictions: Tensor) -> dict[str, list[Any]]:
        """Predictions (B, ...) of rows as named columns of a table."""
        return {"predicted": predictions.tolist()}

    def metrics(self) -> tm.MetricCollection:
        """Fresh metrics of (prediction, target), computed once an epoch."""
        raise NotImplementedError(f"{type(self).__name__}.metrics")

    def test_metrics(self) -> tm.MetricCollection:
        """Fresh metrics of the test split; more where they would mean nothing, or cost too much, elsewhere."""
        return self.metrics()

    def training_metrics(self) -> tm.MetricCollection:
        """Fresh metrics of the training split; fewer where they would cost too much there."""
        return self.metrics()

    def curves(self) -> tm.MetricCollection:
        """What the test pictures need (confusion matrix, ROC, sampled pairs), small whatever the number of rows."""
        return tm.MetricCollection({})

    def bootstrap_clusters(self, target: Tensor) -> Tensor:
        """What can be drawn anew on its own when a figure's spread is asked: a number for each row (N,) of the judged
        target, the same for rows that belong together.
        """
        return torch.arange(len(target))

    def as_clusters(self, target: Tensor, unit: Tensor) -> Tensor:
        """Rows that were drawn so, as if each unit (N,) were one of its own, also where it was drawn twice."""
        return target

    def remarks(self, outputs: Tensor, target: Tensor) -> list[str]:
        """What is to be said of judged outputs (N, ...) and their target beside the metrics, a line each."""
        return []

    def baseline(self, target: Tensor, reference: Tensor | None = None) -> Tensor:
        """Predictions (N, ...) of the trivial model beside which this one stands, for a target (N, ...)."""
        raise NotImplementedError(f"{type(self).__name__}.baseline")
