"""Tasks: for each kind of problem its loss, its metrics, its prediction, its baseline and what to monitor."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Literal

import torch
import torch.nn.functional as F
import torchmetrics as tm
from torch import Tensor, nn
from torchmetrics import classification as tmc
from torchmetrics import regression as tmr

from src.errors import UserError, suggest
from src.spec import DataSpec

Loss = Callable[[Tensor, Tensor], Tensor]
LossName = Literal["cross_entropy", "focal", "mse", "l1", "huber", "bce"]


class Task(nn.Module):
    """One kind of problem on one dataset. A module only so that class weights move to the device with the model.

    Attributes:
        losses: names that `task.loss=` accepts, the default first.
        monitor: validation metric that picks the best checkpoint and is the objective of a sweep.
        directions: for each metric whether `max` or `min` is better.
        num_outputs: size of the model's last layer.
    """

    losses: tuple[str, ...] = ()
    monitor: str = "loss"
    directions: Mapping[str, Literal["min", "max"]] = {"loss": "min"}
    num_outputs: int = 1

    def __init__(self, spec: DataSpec, loss: Loss, class_weights: Tensor | None = None) -> None:
        super().__init__()
        self.spec = spec
        self.loss_function = loss
        self.register_buffer("class_weights", class_weights, persistent=False)

    @property
    def name(self) -> str:
        return next(name for name, kind in TASKS.items() if kind is type(self))

    def target(self, batch: Mapping[str, Tensor]) -> Tensor:
        """The part of a batch that the outputs are compared with."""
        return batch["target"]

    def loss(self, outputs: Tensor, batch: Mapping[str, Tensor]) -> Tensor:
        """Mean loss of a batch, a scalar: `outputs` (B, num_outputs)."""
        raise NotImplementedError(f"{type(self).__name__}.loss")

    def predict(self, outputs: Tensor) -> Tensor:
        """What the metrics and a person read: probabilities, or values in the target's own unit."""
        return outputs

    def metrics(self) -> tm.MetricCollection:
        """Fresh metrics of (prediction, target), computed once an epoch."""
        raise NotImplementedError(f"{type(self).__name__}.metrics")

    def curves(self) -> tm.MetricCollection:
        """What the test pictures need (confusion matrix, ROC, sampled pairs), small whatever the number of rows."""
        return tm.MetricCollection({})

    def baseline(self, target: Tensor) -> Tensor:
        """Predictions (N, ...) of the best constant that the training part suggests, for a target (N,)."""
        raise NotImplementedError(f"{type(self).__name__}.baseline")


class Classification(Task):
    """One of several classes. Outputs are logits (B, C), targets class ids (B,)."""

    losses = ("cross_entropy", "focal")
    monitor = "accuracy"
    directions = {"loss": "min", "accuracy": "max", "f1": "max"}

    def __init__(self, spec: DataSpec, loss: Loss, class_weights: Tensor | None = None) -> None:
        super().__init__(spec, loss, class_weights)
        self.num_outputs = spec.num_classes

    def loss(self, outputs: Tensor, batch: Mapping[str, Tensor]) -> Tensor:
        return self.loss_function(outputs, self.target(batch), weight=self.class_weights)

    def predict(self, outputs: Tensor) -> Tensor:
        """Class probabilities (B, C)."""
        return outputs.float().softmax(-1)

    def metrics(self) -> tm.MetricCollection:
        classes = self.spec.num_classes
        return tm.MetricCollection(
            {
                "accuracy": tmc.MulticlassAccuracy(classes, average="micro", validate_args=False),
                "f1": tmc.MulticlassF1Score(classes, average="macro", validate_args=False),
            },
            compute_groups=False,
        )

    def curves(self) -> tm.MetricCollection:
        return tm.MetricCollection(
            {"confusion": tmc.MulticlassConfusionMatrix(self.spec.num_classes, validate_args=False)}
        )

    def baseline(self, target: Tensor) -> Tensor:
        counts = torch.tensor(self.spec.class_counts, dtype=torch.float32, device=target.device)
        return (counts / counts.sum()).expand(len(target), -1)


class Binary(Task):
    """One of two classes. Outputs are logits (B, 1), targets 0 or 1 (B,)."""

    losses = ("bce", "focal")
    directions = {"loss": "min", "accuracy": "max", "auroc": "max", "f1": "max", "average_precision": "max"}

    def loss(self, outputs: Tensor, batch: Mapping[str, Tensor]) -> Tensor:
        target = self.target(batch)
        weight = None if self.class_weights is None else self.class_weights[target]
        return self.loss_function(outputs.squeeze(-1), target.to(outputs.dtype), weight=weight)

    def predict(self, outputs: Tensor) -> Tensor:
        """Probability of class 1, (B,)."""
        return outputs.float().squeeze(-1).sigmoid()

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

    def curves(self) -> tm.MetricCollection:
        return tm.MetricCollection(
            {
                "confusion": tmc.BinaryConfusionMatrix(validate_args=False),
                "roc": tmc.BinaryROC(thresholds=200, validate_args=False),
                "precision_recall": tmc.BinaryPrecisionRecallCurve(thresholds=200, validate_args=False),
            },
            compute_groups=False,
        )

    def baseline(self, target: Tensor) -> Tensor:
        negative, positive = self.spec.class_counts
        return torch.full(target.shape, positive / (negative + positive), device=target.device)


class PairSample(tm.Metric):
    """A sample of (prediction, target) pairs, each row as likely as any other, the same at every run.

    Args:
        size: pairs kept, however many there were.
    """

    full_state_update = False

    def __init__(self, size: int = 2000) -> None:
        super().__init__()
        self.size = size
        self.add_state("rows", default=[], dist_reduce_fx="cat")  # one (N, 3): priority, prediction, target

    def update(self, prediction: Tensor, target: Tensor) -> None:
        """Takes predictions (B,) and targets (B,); the `size` smallest of all random priorities stay."""
        generator = torch.Generator().manual_seed(self._update_count)
        priority = torch.rand(len(target), generator=generator).to(prediction.device)
        rows = torch.stack([priority, prediction.float(), target.float()], dim=1)
        self.rows = [self._smallest(torch.cat([*self.rows, rows]))]

    def compute(self) -> tuple[Tensor, Tensor]:
        """(prediction, target), each (N,), of all ranks."""
        rows = self._smallest(torch.cat(self.rows) if isinstance(self.rows, list) else self.rows)
        return rows[:, 1], rows[:, 2]

    def _smallest(self, rows: Tensor) -> Tensor:
        return rows if len(rows) <= self.size else rows[rows[:, 0].topk(self.size, largest=False).indices]


class Regression(Task):
    """One number. Outputs (B, 1) are in standard units of the training target; predictions are in its own unit.

    The loss is taken in standard units, so that one learning rate serves prices and percentages alike; MAE and RMSE
    are in the target's own unit.
    """

    losses = ("mse", "l1", "huber")
    directions = {"loss": "min", "mae": "min", "rmse": "min", "r2": "max"}

    def loss(self, outputs: Tensor, batch: Mapping[str, Tensor]) -> Tensor:
        target = (self.target(batch) - self.spec.target_mean) / self.spec.target_std
        return self.loss_function(outputs.squeeze(-1), target.to(outputs.dtype))

    def predict(self, outputs: Tensor) -> Tensor:
        """Values (B,) in the target's unit."""
        return outputs.float().squeeze(-1) * self.spec.target_std + self.spec.target_mean

    def metrics(self) -> tm.MetricCollection:
        return tm.MetricCollection(
            {"mae": tmr.MeanAbsoluteError(), "rmse": tmr.MeanSquaredError(squared=False), "r2": tmr.R2Score()},
            compute_groups=False,
        )

    def curves(self) -> tm.MetricCollection:
        return tm.MetricCollection({"scatter": PairSample()})

    def baseline(self, target: Tensor) -> Tensor:
        return torch.full(target.shape, self.spec.target_mean, device=target.device)


TASKS: dict[str, type[Task]] = {"classification": Classification, "binary": Binary, "regression": Regression}


def focal_cross_entropy(outputs: Tensor, target: Tensor, *, gamma: float, weight: Tensor | None = None) -> Tensor:
    """Cross-entropy scaled by (1 - p)^gamma, so that easy examples count less (Lin et al. 2017, arXiv:1708.02002)."""
    log_p = F.log_softmax(outputs, -1).gather(-1, target[:, None]).squeeze(-1)
    loss = -((1 - log_p.exp()) ** gamma) * log_p
    if weight is None:
        return loss.mean()
    return (loss * weight[target]).sum() / weight[target].sum()


def focal_binary(outputs: Tensor, target: Tensor, *, gamma: float, weight: Tensor | None = None) -> Tensor:
    """Binary focal loss on logits (B,) and targets 0. or 1. (B,)."""
    loss = F.binary_cross_entropy_with_logits(outputs, target, reduction="none")
    loss = loss * (1 - torch.exp(-loss)) ** gamma
    return loss.mean() if weight is None else (loss * weight).sum() / weight.sum()


def make_task(
    spec: DataSpec,
    supported: tuple[str, ...],
    *,
    name: Literal["auto", "classification", "binary", "regression"] = "auto",
    loss: LossName | None = None,
    label_smoothing: float = 0.0,
    class_weights: str | list[float] | None = None,
    focal_gamma: float = 2.0,
    huber_delta: float = 1.0,
) -> Task:
    """The first task that both the data offers and the model supports, or the one asked for.

    Args:
        spec: what the data is.
        supported: tasks that the model can serve.
        name: a task, or `auto`.
        loss: one of the task's losses; null is its usual one.
        label_smoothing: for cross_entropy, mass spread over the other classes.
        class_weights: `balanced` (inverse frequency in the training part, mean 1), or one number a class.
        focal_gamma: for focal, how strongly easy examples are played down.
        huber_delta: for huber, where it turns from square to straight, in standard units.

    Raises:
        UserError: no common task, a loss that the task does not have, weights that do not fit the classes.
    """
    common = [task for task in spec.tasks if task in supported]
    if name == "auto" and not common:
        raise UserError(f"data={spec.name} offers {', '.join(spec.tasks)}; the model serves {', '.join(supported)}")
    if name != "auto" and name not in common:
        raise UserError(f"task={name} does not fit data={spec.name} and this model{suggest(name, common)}")
    kind = TASKS[common[0] if name == "auto" else name]
    chosen = loss or kind.losses[0]
    if chosen not in kind.losses:
        raise UserError(f"task.loss={chosen} is no loss of this task{suggest(chosen, kind.losses)}")
    if label_smoothing and chosen != "cross_entropy":
        raise UserError(f"task.label_smoothing is for cross_entropy, not for task.loss={chosen}")
    if not 0 <= label_smoothing < 1:
        raise UserError(f"task.label_smoothing={label_smoothing}: a number from 0 up to 1")
    functions: dict[str, Loss] = {
        "cross_entropy": partial(F.cross_entropy, label_smoothing=label_smoothing),
        "focal": partial(focal_binary if kind is Binary else focal_cross_entropy, gamma=focal_gamma),
        "bce": F.binary_cross_entropy_with_logits,
        "mse": F.mse_loss,
        "l1": F.l1_loss,
        "huber": partial(F.huber_loss, delta=huber_delta),
    }
    weights = None if class_weights is None else _class_weights(spec, kind, class_weights)
    return kind(spec, functions[chosen], weights)


def _class_weights(spec: DataSpec, kind: type[Task], wanted: str | list[float]) -> Tensor:
    if kind is Regression:
        raise UserError("task.class_weights is for classes; the task is regression")
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
