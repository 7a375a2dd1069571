"""Tasks with one answer an example: a class, one of two, or a number."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
import torchmetrics as tm
from torch import Tensor
from torchmetrics import classification as tmc
from torchmetrics import regression as tmr
from typing_extensions import override

from src.errors import UserError
from src.metrics.modes import modes
from src.metrics.regression import PairSample
from src.spec import DataSpec, Number
from src.tasks.base import Batch, Loss, Task
from src.tasks.losses import BinaryFocal, CrossEntropy, Focal, Huber
from src.tasks.registry import register_task
from src.tasks.supervised.view import BinaryView, ClassificationView, RegressionView
from src.tasks.view import TaskView


@register_task("classification")
class Classification(Task):
    """One of several classes. Outputs are logits (B, C), targets class ids (B,).

    Args:
        class_weights: weight of each class in the loss: `balanced` (inverse frequency in the training split, mean 1),
            or one number a class; None: all the same.
    """

    losses = {"cross_entropy": CrossEntropy, "focal": Focal}
    monitor = "accuracy"
    metric_modes = modes("loss", "accuracy", "f1")
    view_class = ClassificationView

    def __init__(
        self,
        spec: DataSpec,
        loss: Loss | None = None,
        *,
        class_weights: Literal["balanced"] | list[float] | None = None,
    ) -> None:
        super().__init__(spec, loss)
        self.num_outputs = spec.num_classes
        self.class_weights: Tensor | None
        self.register_buffer("class_weights", weights_of_classes(spec, class_weights), persistent=False)

    @override
    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        return self.loss_function(outputs, self.target(batch), weight=self.class_weights)

    def predict(self, outputs: Tensor) -> Tensor:
        """Class probabilities (B, C)."""
        return outputs.float().softmax(-1)

    def columns(self, predictions: Tensor) -> dict[str, list[Any]]:
        """The likeliest class, its probability, and the probability of each class."""
        names, (probability, best) = self.spec.class_names, predictions.max(-1)
        each = {f"P({name})": column.tolist() for name, column in zip(names, predictions.T, strict=True)}
        return {"predicted": [names[i] for i in best.tolist()], "probability": probability.tolist(), **each}

    @override
    def metrics(self) -> tm.MetricCollection:
        classes = self.spec.num_classes
        return tm.MetricCollection(
            {
                "accuracy": tmc.MulticlassAccuracy(classes, average="micro", validate_args=False),
                "f1": tmc.MulticlassF1Score(classes, average="macro", validate_args=False),
            },
            compute_groups=False,
        )

    @override
    def curves(self) -> tm.MetricCollection:
        return tm.MetricCollection(
            {"confusion": tmc.MulticlassConfusionMatrix(self.spec.num_classes, validate_args=False)}
        )

    @override
    def baseline(self, target: Tensor, reference: Tensor | None = None) -> Tensor:
        """Shares of the classes in the training split, the same for every row (N, C)."""
        counts = torch.tensor(self.spec.class_counts, dtype=torch.float32, device=target.device)
        return (counts / counts.sum()).expand(len(target), -1)


@register_task("binary")
class Binary(Task):
    """One of two classes. Outputs are logits (B, 1), targets 0 or 1 (B,).

    Args:
        class_weights: as of Classification.
    """

    losses = {"bce": F.binary_cross_entropy_with_logits, "focal": BinaryFocal}
    metric_modes = modes("loss", "accuracy", "auroc", "f1", "average_precision")
    view_class = BinaryView

    def __init__(
        self,
        spec: DataSpec,
        loss: Loss | None = None,
        *,
        class_weights: Literal["balanced"] | list[float] | None = None,
    ) -> None:
        super().__init__(spec, loss)
        self.class_weights: Tensor | None
        self.register_buffer("class_weights", weights_of_classes(spec, class_weights), persistent=False)

    @override
    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        target = self.target(batch)
        weight = None if self.class_weights is None else self.class_weights[target]
        return self.loss_function(outputs.squeeze(-1), target.to(outputs.dtype), weight=weight)

    def predict(self, outputs: Tensor) -> Tensor:
        """Probability of class 1, (B,)."""
        return outputs.float().squeeze(-1).sigmoid()

    def columns(self, predictions: Tensor) -> dict[str, list[Any]]:
        """The likelier class, and the probability of class 1."""
        names, likely = self.spec.class_names, (predictions >= 0.5).long().tolist()
        return {"predicted": [names[i] for i in likely], f"P({names[1]})": predictions.tolist()}

    @override
    def metrics(self) -> tm.MetricCollection:
        return tm.MetricCollection(
            {
                "accuracy": tmc.BinaryAccuracy(validate_args=False),
                "auroc": tmc.BinaryAUROC(validate_args=False),
                "f1": tmc.BinaryF1Score(validate_args=False),
                "average_precision": tmc.BinaryAveragePrecision(validate_args=False),
            },
            compute_groups=False,
        )

    @override
    def curves(self) -> tm.MetricCollection:
        return tm.MetricCollection(
            {
                "confusion": tmc.BinaryConfusionMatrix(validate_args=False),
                "roc": tmc.BinaryROC(thresholds=200, validate_args=False),
                "precision_recall": tmc.BinaryPrecisionRecallCurve(thresholds=200, validate_args=False),
            },
            compute_groups=False,
        )

    @override
    def baseline(self, target: Tensor, reference: Tensor | None = None) -> Tensor:
        """Share of class 1 in the training split, the same for every row (N,)."""
        negative, positive = self.spec.class_counts
        return torch.full(target.shape, positive / (negative + positive), device=target.device)


def weights_of_classes(spec: DataSpec, wanted: str | list[float] | None) -> Tensor | None:
    """Weights (C,) of the classes in the loss; None: all the same.

    Raises:
        UserError: they do not fit the classes.
    """
    if wanted is None:
        return None
    if wanted == "balanced":
        counts = torch.tensor(spec.class_counts, dtype=torch.float32).clamp(min=1)
        return counts.sum() / (len(counts) * counts)
    if isinstance(wanted, str):
        raise UserError(f"task.class_weights={wanted}: null, balanced, or a list of {spec.num_classes} numbers")
    if len(wanted) != spec.num_classes:
        raise UserError(
            f"task.class_weights has {len(wanted)} numbers, data={spec.name} has {spec.num_classes} classes"
        )
    return torch.tensor(wanted, dtype=torch.float32)


@register_task("regression")
class Regression(Task):
    """One number. Outputs (B, 1) are in standard units of the training target; predictions are in its own unit.

    The loss is taken in standard units, so that one learning rate serves prices and percentages alike; MAE and RMSE
    are in the target's own unit.
    """

    losses = {"mse": F.mse_loss, "l1": F.l1_loss, "huber": Huber}
    metric_modes = modes("loss", "mae", "rmse", "r2")
    view_class: ClassVar[type[TaskView]] = RegressionView

    @override
    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        number = self.spec.target_as(Number)
        target = (self.target(batch) - number.mean) / number.std
        return self.loss_function(outputs.squeeze(-1), target.to(outputs.dtype))

    def predict(self, outputs: Tensor) -> Tensor:
        """Values (B,) in the target's unit."""
        number = self.spec.target_as(Number)
        return outputs.float().squeeze(-1) * number.std + number.mean

    @override
    def metrics(self) -> tm.MetricCollection:
        return tm.MetricCollection(
            {"mae": tmr.MeanAbsoluteError(), "rmse": tmr.MeanSquaredError(squared=False), "r2": tmr.R2Score()},
            compute_groups=False,
        )

    @override
    def curves(self) -> tm.MetricCollection:
        return tm.MetricCollection({"scatter": PairSample()})

    @override
    def baseline(self, target: Tensor, reference: Tensor | None = None) -> Tensor:
        """Mean of the training split, the same for every row (N,)."""
        return torch.full(target.shape, self.spec.target_as(Number).mean, device=target.device)
