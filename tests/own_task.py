"""A task, a loss and a model of one's own, as a user would write them in a file beside their data."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
import torchmetrics as tm
from torch import Tensor

from src import plots
from src.models import FNN
from src.spec import DataSpec
from src.tasks.base import Batch, Loss, Task
from src.tasks.registry import register_task
from src.tasks.view import Examples, Maker, RowView


@dataclass(frozen=True)
class Distance:
    """Mean distance of the probabilities to those that would be right.

    Args:
        power: of the distance of each class.
    """

    power: float = 2.0

    def __call__(self, probability: Tensor, target: Tensor) -> Tensor:
        return (probability - target).abs().pow(self.power).sum(1).mean()


class Brier(tm.Metric):
    """Mean squared distance of probabilities (B, C) to the right classes (B,)."""

    full_state_update = False

    def __init__(self) -> None:
        super().__init__()
        self.add_state("sums", torch.zeros(2, dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, prediction: Tensor, target: Tensor) -> None:
        error = (prediction - F.one_hot(target, prediction.shape[1])).square().sum()
        self.sums += torch.stack([error.double(), torch.tensor(float(len(target)), dtype=torch.float64)])

    def compute(self) -> Tensor:
        return self.sums[0] / self.sums[1]


class CertaintyView(RowView):
    """What is shown of such probabilities: how certain the model is of the right class."""

    def rows(self, predictions: Tensor, targets: Tensor | None) -> list[dict[str, str]]:
        assert targets is not None
        names, right = self.spec.class_names, predictions.gather(1, targets.unsqueeze(1)).squeeze(1)
        pairs = zip(targets.tolist(), right.tolist(), strict=True)
        return [{"class": names[target], "certainty": f"{p:.3f}"} for target, p in pairs]

    def figures(self, examples: Examples) -> dict[str, Maker]:
        return {"certainty": partial(self._certainty, examples), "broken": _broken} | super().figures(examples)

    def _certainty(self, examples: Examples, folder: Path) -> None:
        predictions, _ = examples.model.decode_for_display(examples.batch(range(len(examples))))
        figure, axes = plots.base.new_axes()
        axes.hist(predictions.max(1).values.cpu().numpy())
        plots.base.save(folder / "figures" / "certainty.png", figure)


def _broken(folder: Path) -> None:
    raise RuntimeError("no such figure")


@register_task("calibration")
class Calibration(Task):
    """Probabilities of classes that are near the truth.

    Args:
        sharpness: factor of the outputs before they become probabilities.
    """

    losses = {"distance": Distance}
    monitor = "brier"
    metric_modes = {"loss": "min", "brier": "min"}
    view_class = CertaintyView

    def __init__(self, spec: DataSpec, loss: Loss | None = None, *, sharpness: float = 1.0) -> None:
        super().__init__(spec, loss)
        self.sharpness, self.num_outputs = sharpness, spec.num_classes

    @classmethod
    def offered_by(cls, spec: DataSpec) -> bool:
        return spec.name == "iris" and spec.num_classes > 2  # of other data other tests say what is offered

    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        right = F.one_hot(self.target(batch), self.num_outputs)
        return self.loss_function((self.sharpness * outputs).softmax(-1), right)

    def predict(self, outputs: Tensor) -> Tensor:
        return (self.sharpness * outputs.float()).softmax(-1)

    def columns(self, predictions: Tensor) -> dict[str, list[Any]]:
        return {
            f"P({name})": column.tolist() for name, column in zip(self.spec.class_names, predictions.T, strict=True)
        }

    def metrics(self) -> tm.MetricCollection:
        return tm.MetricCollection({"brier": Brier()})

    def baseline(self, target: Tensor, reference: Tensor | None = None) -> Tensor:
        return torch.full((len(target), self.num_outputs), 1 / self.num_outputs, device=target.device)


class Net(FNN):
    """A fully connected net for that task alone."""

    tasks = ("calibration",)
