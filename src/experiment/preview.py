"""Preview of what a run of a configuration would record: its parts are built, and nothing is started."""

from __future__ import annotations

from typing import NamedTuple

from omegaconf import DictConfig

from src.experiment.assemble import assemble
from src.experiment.resume import find_start
from src.experiment.run import quieten
from src.runtime.signals import Signals
from src.training import cost


class Outlook(NamedTuple):
    """Preview of what a run of a configuration will record.

    Attributes:
        monitor, mode: the metric that it returns, and whether `min` or `max` is better; None without validation.
        metrics: names of all values that it has at its end.
        processes: that train together.
        logs: whether the model logs further metrics of its own.
    """

    monitor: str | None
    mode: str
    metrics: tuple[str, ...]
    processes: int
    logs: bool


def outlook(config: DictConfig) -> Outlook:
    """Preview the metrics of a run of this configuration.

    Raises:
        UserError: the parts do not fit together.
    """
    quieten()
    parts = assemble(config, Signals(), find_start(config))
    model, trainer = parts.model, parts.trainer
    validates = "val" in parts.data.splits and trainer.limit_val_batches != 0
    tests = config.test and "test" in parts.data.splits
    stages = [stage for stage, has in (("val", validates), ("test", tests)) if has]
    metrics = [f"{stage}/{name}" for stage in stages for name in {**model.task.metric_modes, **model.task.own_metrics}]
    return Outlook(
        monitor=model.monitor if validates else None,
        mode=model.monitor_mode,
        metrics=(*metrics, *cost.NAMES),
        processes=trainer.world_size,
        logs=model.logs_metrics,
    )
