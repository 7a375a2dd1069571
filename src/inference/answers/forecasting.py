"""Forecasts of the next steps of a series."""

from __future__ import annotations

from collections.abc import Iterator

from src.data.series import inputs
from src.inference.answers.base import Columns, Request, register_answer
from src.inference.load import Trained
from src.spec import Horizon


@register_answer("forecasting")
def forecast(trained: Trained, request: Request) -> Iterator[Columns]:
    """Forecast the steps after the last row of a csv file, in the file's own units."""
    model, spec = trained.model, trained.model.spec
    options = trained.data_options | request.options("time", "gaps")
    series = inputs.latest(spec, request.file, options)
    values = series.restored(model.predict_step({"input": series.input.to(model.device)}, 0)[0].cpu())
    columns: Columns = {"step": list(range(1, spec.target_as(Horizon).steps + 1))}
    if series.times:
        columns[options.get("time", "date")] = series.times
    names = spec.input.feature_names[: values.shape[1]]
    yield columns | {name: values[:, i].tolist() for i, name in enumerate(names)}
