"""Task, the base class of all: loss, metrics, prediction, baseline and monitored metric of one kind of problem."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Literal, NamedTuple

import torch
import torchmetrics as tm
from torch import Tensor, nn

from src.errors import UserError
from src.metrics.modes import Mode, modes, without_stage
from src.spec import DataSpec
from src.tasks import own
from src.tasks.view import RowView, TaskView

Loss = Callable[..., Tensor]
Batch = Mapping[str, Tensor]
Named = dict[str, tm.Metric | tm.MetricCollection]  # metrics by name, as a collection takes them


class StepOutput(NamedTuple):
    """Result of one step: the loss, and what the metrics of the epoch need.

    Attributes:
        loss: mean of the batch, a scalar.
        outputs: outputs that the metrics' predictions are made of (B, ...).
        target: values that the predictions are compared with (B, ...).
        reference: input of the trivial baseline beside the target (B, ...), where the target is not enough.
        weight: number of items that the loss is the mean of, a whole number as a scalar; None: the rows.
    """

    loss: Tensor
    outputs: Tensor
    target: Tensor
    reference: Tensor | None = None
    weight: Tensor | None = None


class Task(nn.Module):
    """One kind of problem on one dataset. A module only so that its buffers move to the device with the model.

    A subclass is registered with `@register_task("name")`. Its options are the keyword-only arguments of its
    constructor, with defaults: `task.OPTION=` sets them, and what a name does not stand there for is refused.

    Attributes:
        name: the name it is registered by.
        losses: losses that `task.loss=` accepts by name, the default first; none where the loss is the model's own. A
            class is made with its options, which are the user's too; a function has none.
        takes_own_loss: a loss of the user's own may stand in their place; it is called as they are.
        monitor: validation metric that picks the best checkpoint, stops early and is the objective of a sweep.
        metric_modes: for each metric whether `max` or `min` is better; names need not be known to src/metrics/modes.py.
        own_metrics: metrics of the user's own, by name, beside the task's; as they were made, for copies.
        num_outputs: size of the model's last layer.
        answer_per_row: each prediction is a class, a number or a score of one row.
        one_pass: a prediction is one pass of the net, so that an exported graph gives it.
        from_noise: the net takes noise (N, latent_size) in the place of rows.
        per_token: the model gives its outputs for each position of the input, (B, T, num_outputs).
        view_class: how general code shows what the task came to; see `view`.
        bootstrapped: whether metrics of resampled rows, some of them drawn twice, tell how uncertain they are.
    """

    name: ClassVar[str] = ""
    losses: ClassVar[Mapping[str, Callable[..., Any]]] = {}
    takes_own_loss: ClassVar[bool] = True
    monitor: str = "loss"
    metric_modes: Mapping[str, Mode] = modes("loss")
    own_metrics: Mapping[str, tm.Metric] = {}
    num_outputs: int = 1
    per_token: bool = False
    answer_per_row: bool = True
    one_pass: bool = True
    from_noise: bool = False
    view_class: ClassVar[type[TaskView]] = RowView
    bootstrapped: bool = True

    def __init__(self, spec: DataSpec, loss: Loss | None = None) -> None:
        super().__init__()
        self.spec = spec
        self.loss_function: Loss = _no_loss if loss is None else loss

    def take_own(self, loss: Mapping[str, Any] | None, metrics: Mapping[str, Any], known: Mapping[str, Mode]) -> None:
        """Take a loss and metrics of the user's own beside the task's.

        Args:
            loss, metrics: nodes of the configuration; None: the loss stays.
            known: whether `max` or `min` is better, by name, also of what the task does not compute.

        Raises:
            UserError: one cannot be made, or has the name of one that is there.
        """
        if loss is not None:
            self.loss_function = own.loss_of(loss, self.spec, self)
        made = own.metrics_of(metrics, self.spec, self)
        for name in made:
            if name in self.metric_modes:
                raise UserError(f"metrics.{name}: {self.name} has a metric of that name, give it another")
        told = {name: mode for name, metric in made.items() if (mode := own.direction(name, metric))}
        if made or known:
            self.own_metrics = made
            self.metric_modes = {**self.metric_modes, **told, **{without_stage(name): known[name] for name in known}}

    @property
    def has_own(self) -> bool:
        """True if the loss or a metric is the user's own."""
        return bool(self.own_metrics) or isinstance(self.loss_function, own.OwnLoss)

    def check_own(self, outputs: Tensor, batch: Batch) -> None:
        """Try what is the user's own on a prepared batch.

        Raises:
            UserError: the loss or a metric fails, or gives what cannot be used.
        """
        loss = self.loss_function
        try:
            step = self.evaluate_batch(outputs, batch)
        except UserError:
            raise
        except Exception as error:
            if not isinstance(loss, own.OwnLoss):
                raise
            shapes = f"outputs {tuple(outputs.shape)} and targets {tuple(self.target(batch).shape)}"
            raise UserError(f"task.loss: {loss.target} fails on {shapes} ({own.reason(error)})") from error
        if isinstance(loss, own.OwnLoss):
            own.check_loss(loss, step.loss, len(outputs))
        prediction = self.prediction(step.outputs.detach())
        for name, metric in self.own_metrics.items():
            own.check_metric(name, metric, prediction, step.target)

    @classmethod
    def offered_by(cls, spec: DataSpec) -> bool:
        """True if data of this spec can be learned with this task; by default where the data itself names it."""
        return cls.name in spec.tasks

    @property
    def view(self) -> TaskView:
        """Rows, figures and explanations of what the task came to, for a terminal, files and pictures."""
        return self.view_class(self)

    def prepare(self, batch: Batch, training: bool = False) -> Batch:
        """Turn a batch of the data into what the model and the loss take, such as shifted or masked tokens."""
        return batch

    def evaluate_batch(self, outputs: Tensor, batch: Batch) -> StepOutput:
        """Compute the loss of a batch, and what the metrics of the epoch need of it."""
        return StepOutput(self.loss(outputs, batch), outputs, self.target(batch))

    def prediction(self, outputs: Tensor) -> Tensor:
        """Predictions (B, ...) that the metrics compare with the target, from the outputs of `evaluate_batch`."""
        return self.predict(outputs)

    def decode_for_display(self, outputs: Tensor, batch: Batch) -> tuple[Tensor, Tensor | None]:
        """Predictions and right answers to be printed row by row; ids of tokens (B, L) where both are texts."""
        return self.predict(outputs), batch.get("target")

    @classmethod
    def default_loss(cls, spec: DataSpec) -> str:
        """Name of the loss where none is asked for; empty where the loss is the model's own."""
        return next(iter(cls.losses), "")

    def target(self, batch: Batch) -> Tensor:
        """Values of a batch that the outputs are compared with."""
        return batch["target"]

    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        """Mean loss of a batch, a scalar: `outputs` (B, num_outputs)."""
        raise NotImplementedError(f"{type(self).__name__}.loss")

    def predict(self, outputs: Tensor) -> Tensor:
        """Predictions as a person reads them: probabilities, or values in the target's own unit."""
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

    def collection(self, stage: Literal["train", "val", "test"]) -> tm.MetricCollection:
        """Fresh metrics of a split: the task's, and the user's own."""
        made = {"train": self.training_metrics, "val": self.metrics, "test": self.test_metrics}[stage]()
        if not self.own_metrics:
            return made
        everything: Named = {str(name): made[str(name)] for name in made}
        everything |= {name: metric.clone() for name, metric in self.own_metrics.items()}
        # no groups: metrics that happen to have equal states in the first batch would share them
        return tm.MetricCollection(everything, compute_groups=False)

    def curves(self) -> tm.MetricCollection:
        """Fresh metrics for the test figures (confusion matrix, ROC, sampled pairs); their size is that of few rows."""
        return tm.MetricCollection({})

    def bootstrap_clusters(self, target: Tensor) -> Tensor:
        """Cluster of each row (N,) for the bootstrap, from the target (N, ...): one number for what is together."""
        return torch.arange(len(target))

    def as_clusters(self, target: Tensor, cluster: Tensor) -> Tensor:
        """Target of resampled rows in which each drawn cluster (N,) is one of its own, even if it was drawn twice."""
        return target

    def remarks(self, outputs: Tensor, target: Tensor) -> list[str]:
        """Remarks on the outputs (N, ...) and targets of a split to be printed beside the metrics, a line each."""
        return []

    def baseline(self, target: Tensor, reference: Tensor | None = None) -> Tensor:
        """Predictions (N, ...) of the trivial model that this one is compared with, for a target (N, ...)."""
        raise NotImplementedError(f"{type(self).__name__}.baseline")


def _no_loss(*arguments: object, **settings: object) -> Tensor:
    raise NotImplementedError("the loss of this task is the model's own")
