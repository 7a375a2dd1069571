"""Forecasts of the next steps of a series."""

from __future__ import annotations

from collections.abc import Iterator

from omegaconf import DictConfig

from src.data.series import inputs
from src.inference.answers.base import Columns, data_path, reading_options
from src.inference.load import Trained


def forecast(trained: Trained, config: DictConfig) -> Iterator[Columns]:
    """The steps after the last row of a csv file, in the file's own units."""
    model, spec = trained.model, trained.model.spec
    options = trained.data_options | reading_options(config, ("time", "gaps"))
    series = inputs.latest(spec, data_path(config), options)
    values = series.restored(model.predict_step({"input": series.input.to(model.device)}, 0)[0].cpu())
    columns: Columns = {"step": list(range(1, spec.target.steps + 1))}
    if series.times:
        columns[options.get("time", "date")] = series.times
    names = spec.input.feature_names[: values.shape[1]]
    yield columns | {name: values[:, i].tolist() for i, name in enumerate(names)}
