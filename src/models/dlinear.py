"""DLinear: a forecast linear in the window, one map for its trend and one for the rest (Zeng et al. 2022,
arXiv:2205.13504, "Are Transformers effective for time series forecasting?").
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from src.errors import UserError
from src.models.base import Model
from src.models.components.layers import WindowNorm, WindowNormKind
from src.runtime.ranges import PositiveInt
from src.spec import DataSpec, Horizon, SeriesSpec
from src.tasks import Task


class DLinear(Model):
    """Maps a window's trend (a moving average) and the rest of it from T steps to the horizon, alike for all channels.

    Channels do not see each other, and covariates are not seen at all.

    Args:
        spec: what the data is; input (T, F).
        task: says what is forecast.
        kernel_size: odd, steps of the moving average; 1: no trend apart, a single map (NLinear with window_norm=last).
        window_norm: level subtracted from each window and added to its forecast; see WindowNorm.

    Raises:
        UserError: a kernel that is even or below 1.
    """

    inputs = (SeriesSpec,)
    tasks = ("forecasting",)

    def __init__(
        self, spec: DataSpec, task: Task, *, kernel_size: PositiveInt = 25, window_norm: WindowNormKind = "mean"
    ) -> None:
        super().__init__(spec, task)
        if kernel_size % 2 == 0:
            raise UserError(
                f"model.kernel_size={kernel_size}: an odd number, so that the average looks both ways alike"
            )
        self.kernel_size = kernel_size
        steps = spec.target_as(Horizon).steps
        self.targets = task.num_outputs // steps
        self.window_norm = WindowNorm(window_norm, self.targets)
        self.trend = nn.Linear(spec.input_shape[0], steps) if kernel_size > 1 else None
        self.head = nn.Linear(spec.input_shape[0], steps)

    def forward(self, x: Tensor) -> Tensor:
        """Raw windows (B, T, F) to forecasts (B, horizon * targets)."""
        x = self.normalize(x)
        level, scale = self.window_norm.measure(x)
        steps = ((x - level) / scale)[..., : self.targets].mT  # (B, targets, T)
        if self.trend is None:
            forecast = self.head(steps)
        else:
            trend = self._average(steps)
            forecast = self.head(steps - trend) + self.trend(trend)
        return self.window_norm.give_back(forecast.mT.flatten(1), level, scale)

    def _average(self, steps: Tensor) -> Tensor:
        """Moving average of (B, F, T), the ends held."""
        # padding by "replicate" has no deterministic gradient on CUDA
        margin = self.kernel_size // 2
        first, last = (end.expand(-1, -1, margin) for end in (steps[..., :1], steps[..., -1:]))
        return F.avg_pool1d(torch.cat([first, steps, last], dim=2), self.kernel_size, stride=1)
