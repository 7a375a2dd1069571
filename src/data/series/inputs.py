"""The end of a series, from which a trained model forecasts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from src.data.series.dataset import Transform, transformed
from src.data.series.reader import Timetable, following, read_timetable
from src.errors import UserError
from src.spec import DataSpec, Horizon


@dataclass(frozen=True)
class Latest:
    """The end of a series, from which the next steps are forecast.

    Attributes:
        input: the window (1, context, F) as the model takes it.
        times: of the next steps, as the file writes them; empty where they cannot be told.
    """

    input: Tensor
    times: list[str]
    _last: Tensor
    _transform: str

    def restored(self, forecast: Tensor) -> Tensor:
        """Undo the training's transform: a forecast (H, targets) in the file's own units."""
        if self._transform.endswith("diff"):
            forecast = self._last + forecast.double().cumsum(0)
        return forecast.exp() if self._transform.startswith("log") else forecast


def latest(spec: DataSpec, path: Path, options: Mapping[str, Any]) -> Latest:
    """Read the last rows of a csv file with the columns of the training series.

    Args:
        options: of the `Series` that the model was trained on; `time`, `transform` and `gaps` count.

    Raises:
        UserError: as `read_timetable`, or fewer rows than the model looks at.
    """
    transform = options.get("transform", "none")
    table = read_timetable(path, options.get("time", "date"), spec.input.feature_names, options.get("gaps", "error"))
    values = torch.from_numpy(transformed(table, transform, path))
    context = spec.input_shape[0]
    if len(values) < context:
        needed = context + (len(table.values) - len(values))
        raise UserError(f"data.path: {path} has {len(table.values)} rows, this model looks at the last {needed}")
    target = spec.target_as(Horizon)
    targets = len(target.naive_errors)
    level: Transform = "log" if transform.startswith("log") else "none"
    last = torch.from_numpy(transformed(_end(table), level, path))[0, :targets]
    times = following(table.times, target.steps) if options.get("gaps") != "allow" else []
    return Latest(values[-context:].float().unsqueeze(0), times, last, transform)


def _end(table: Timetable) -> Timetable:
    return table._replace(values=table.values[-1:], times=table.times[-1:], lines=table.lines[-1:])
