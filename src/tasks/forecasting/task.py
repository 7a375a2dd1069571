"""Forecasting: the next steps of a series, beside the naive forecast that a model has to beat."""

from __future__ import annotations

import torch
import torch.nn.functional as F
import torchmetrics as tm
from torch import Tensor
from torchmetrics import regression as tmr
from typing_extensions import override

from src.metrics.modes import modes
from src.metrics.regression import PairSample, ScaledError
from src.spec import DataSpec, Horizon, SeriesSpec
from src.tasks.base import Batch, Loss, StepOutput, Task
from src.tasks.forecasting.view import ForecastView
from src.tasks.losses import Huber
from src.tasks.registry import register_task


@register_task("forecasting")
class Forecasting(Task):
    """The next `horizon` steps of a series. Outputs (B, H * F) are in standard units, targets (B, H, F) as they are.

    The loss is taken in standard units of each channel in the training split, MAE and RMSE over all channels in their
    own units. Beside the model stands the naive forecast: of a season ago where the season is known, else the last
    value again; where the series is made of changes, none.
    """

    answer_per_row = False
    losses = {"mse": F.mse_loss, "l1": F.l1_loss, "huber": Huber}
    metric_modes = modes("loss", "mae", "rmse", "mase")
    view_class = ForecastView
    mean: Tensor
    std: Tensor

    def __init__(self, spec: DataSpec, loss: Loss | None = None) -> None:
        super().__init__(spec, loss)
        self.horizon, self.series = spec.target_as(Horizon), spec.input_as(SeriesSpec)
        self.channels = len(self.horizon.naive_errors)
        self.num_outputs = self.horizon.steps * self.channels
        # not persistent: both come from the spec
        self.register_buffer("mean", torch.tensor(spec.input.mean[: self.channels]), persistent=False)
        self.register_buffer("std", torch.tensor(spec.input.std[: self.channels]), persistent=False)

    @override
    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        target = (self.target(batch) - self.mean) / self.std
        return self.loss_function(outputs, target.flatten(1).to(outputs.dtype))

    @override
    def evaluate_batch(self, outputs: Tensor, batch: Batch) -> StepOutput:
        reference = None if self.training else self.naive(batch["input"])
        return super().evaluate_batch(outputs, batch)._replace(reference=reference)

    def naive(self, x: Tensor) -> Tensor:
        """The naive forecast (B, H, F) from raw windows (B, T, F and more)."""
        x, horizon = x[..., : self.channels], self.horizon.steps
        if self.series.differenced:
            return x.new_zeros(len(x), horizon, self.channels)
        season = self.series.season or 1
        steps = torch.arange(horizon, device=x.device) % season
        return x[:, x.shape[1] - season + steps]

    def predict(self, outputs: Tensor) -> Tensor:
        """Values (B, H, F) in the series' own units."""
        shape = (self.horizon.steps, self.channels)
        rows: Tensor = outputs.float().unflatten(1, shape)  # type: ignore[no-untyped-call, unused-ignore]
        return rows * self.std + self.mean

    @override
    def metrics(self) -> tm.MetricCollection:
        return tm.MetricCollection(
            {
                "mae": tmr.MeanAbsoluteError(),
                "rmse": tmr.MeanSquaredError(squared=False),
                "mase": ScaledError(self.horizon.naive_errors),
            },
            compute_groups=False,
        )

    @override
    def curves(self) -> tm.MetricCollection:
        return tm.MetricCollection({"scatter": PairSample()})

    @override
    def baseline(self, target: Tensor, reference: Tensor | None = None) -> Tensor:
        """Naive forecast (N, H, F): the reference itself."""
        assert reference is not None
        return reference
