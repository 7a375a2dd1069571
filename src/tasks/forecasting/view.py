"""View of forecasts: some steps as a table, and windows of the series beside the truth."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor

from src import plots
from src.runtime.format import number
from src.spec import Horizon
from src.tasks.explained import Explained, MeanOfNumbers
from src.tasks.terminal import Table
from src.tasks.view import Examples, Maker, RowView, TrainedModel

if TYPE_CHECKING:
    from src.tasks.forecasting.task import Forecasting

STEPS_SHOWN = 10


class ForecastView(RowView):
    """The next steps of a series: predictions and right answers are (N, H, F)."""

    task: Forecasting

    @property
    def explained(self) -> Explained:
        """The mean of all that is forecast."""
        return MeanOfNumbers()

    def table(self, predictions: Tensor, targets: Tensor | None, width: int) -> Table:
        """Predicted and, in brackets, actual values, a line for each of up to ten steps."""
        assert targets is not None
        horizon, names = self.spec.target_as(Horizon).steps, self.spec.input.feature_names[: self.task.channels]
        lines, rows = min(horizon, STEPS_SHOWN), []
        for row, (forecast, actual) in enumerate(zip(predictions.tolist(), targets.tolist(), strict=True)):
            for line in range(lines):
                step = line * (horizon - 1) // max(1, lines - 1)
                pairs = zip(forecast[step], actual[step], strict=True)
                cells = [f"{number(value)} ({target:.4g})" for value, target in pairs]
                rows.append([str(row), str(step + 1), *cells])
        return Table("forecasts", ["row", "step", *(f"{name} (actual)" for name in names)], rows, flush_left=2)

    def captions(self, model: TrainedModel, x: Tensor, targets: Tensor | None) -> list[str]:
        """The same for each row."""
        return ["mean of the forecast"] * len(x)

    def figures(self, examples: Examples) -> dict[str, Maker]:
        """Forecasts beside the truth and the naive forecast; these are the picture of the worst window too."""
        return {"forecasts": partial(self._forecasts, examples)}

    def _forecasts(self, examples: Examples, folder: Path) -> None:
        """Draw the windows in a row for a horizon of one step; else the first, the middle and the worst window."""
        count, names = len(examples), self.spec.input.feature_names
        rolling = self.spec.target_as(Horizon).steps == 1
        worst = examples.worst[0][0] if examples.worst else count - 1
        rows = list(range(min(count, plots.examples.ROLLING)))
        rows = rows if rolling else list(dict.fromkeys([0, count // 2, worst]))
        batch = examples.batch(rows)
        prediction = self.task.predict(examples.model.outputs(batch))
        values = (batch["input"], batch["target"], prediction, self.task.naive(batch["input"]))
        context, truth, forecast, naive = (tensor.float().cpu().numpy() for tensor in values)
        if rolling:
            figure = plots.examples.rolling_forecasts(truth[:, 0], forecast[:, 0], naive[:, 0], names)
        else:
            largest = [", largest loss" if worst and row == worst else "" for row in rows]
            titles = [f"row {row} of {examples.name}{note}" for row, note in zip(rows, largest, strict=True)]
            figure = plots.examples.forecasts(context, truth, forecast, naive, names, titles)
        plots.base.save(folder / "figures" / "forecasts.png", figure)
