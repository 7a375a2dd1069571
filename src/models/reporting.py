"""What a model measures, once an epoch: the task's metrics and what was logged, kept, and handed to the loggers."""

from __future__ import annotations

import inspect
import re
from typing import Any

import pytorch_lightning as pl
import torch
from typing_extensions import override

from src.errors import RunFailed
from src.metrics.modes import Mode, mode_of, without_stage
from src.tasks.base import Task
from src.tasks.epoch import EpochMetrics

Stage = str  # "train", "val" or "test"

LOG_OPTIONS = list(inspect.signature(pl.LightningModule.log).parameters)[3:]  # after self, name and value


class Reporting(pl.LightningModule):
    """Base of `Model`: its metrics and their history.

    Attributes:
        history: values of each epoch by metric, `{"val/loss": [[epoch, value], ...]}`; goes into every checkpoint.
        logged: names of metrics that `self.log` was given, which count where they are the task's too.
    """

    def __init__(self, task: Task) -> None:
        super().__init__()
        self.task = task
        self.history: dict[str, list[list[float]]] = {}
        self.metrics = {
            stage: EpochMetrics(task, with_curves=stage == "test", training=stage == "train")
            for stage in ("train", "val", "test")
        }
        self.logged: set[str] = set()
        self._fresh: set[str] = set()  # those of the epoch so far

    @property
    def monitor(self) -> str:
        """Metric that picks the best checkpoint: the task's, on the validation split."""
        return f"val/{self.task.monitor}"

    @property
    def monitor_mode(self) -> str:
        """Direction in which the monitored metric is better: `min` or `max`."""
        return self.task.metric_modes[self.task.monitor]

    @override
    def log(self, name: str, value: Any, *arguments: Any, **options: Any) -> None:
        """Log a value as Lightning does. One without a stage gets that of the step: `margin` is `val/margin` as well.

        Callbacks find it under both names; loggers, the table of results and `task.monitor` under that with the stage.
        """
        stage = "test" if self.trainer.testing else "train" if self.trainer.training else "val"
        given = re.match(r"(train|val|test)(?=[/_].)|(training|valid|validation)(?=[/_].)", name)
        if given:
            stage = "train" if given[0] == "training" else "val" if given[2] else given[1]
        full = f"{stage}/{without_stage(name)}"
        self.logged.add(full)
        self._fresh.add(full)
        options |= dict(zip(LOG_OPTIONS, arguments, strict=False))
        if full != name:
            super().log(name, value, **options | {"logger": False})
            options["prog_bar"] = False
        super().log(full, value, **options)

    def report(self, stage: Stage) -> dict[str, float]:
        """Compute a stage's metrics, keep them in the history beside those that were logged, and hand them to the
        loggers and the callbacks.

        Raises:
            RunFailed: the monitored metric is not among those of a validation.
        """
        epoch = 0 if self.trainer.max_epochs == 0 else self.trainer.current_epoch + 1
        values = {f"{stage}/{name}": value for name, value in self.metrics[stage].compute().items()}
        values = {name: value for name, value in values.items() if name not in self.logged}
        there = self.trainer.callback_metrics
        own = {name: float(there[name]) for name in sorted(self._fresh & there.keys()) if name.startswith(f"{stage}/")}
        self._fresh -= own.keys()
        for name, value in (values | own).items():
            self.history.setdefault(name, []).append([epoch, value])
        logged = dict(values)
        if stage == "val":
            if values and self.monitor not in self.history:
                found = ", ".join(sorted(values | own))
                raise RunFailed(f"task.monitor={self.task.monitor}: validation gave no {self.monitor}; it gave {found}")
            logged |= {f"{name}_best": self.best(name)[1] for name in values | own if self.mode_of(name)}
        # a test is a result of the whole run, not of a step
        step = None if stage == "test" else self.trainer.global_step
        for logger in self.loggers:
            logger.log_metrics(logged, step)
        # for the callbacks that watch a metric; `self.log` would take as long as some ten steps of a small net
        self.trainer.callback_metrics.update({name: torch.tensor(value) for name, value in values.items()})
        return values

    def mode_of(self, name: str) -> Mode | None:
        """Direction in which a metric of the history is better; None where that is not known."""
        return mode_of(name, self.task.metric_modes)

    def best(self, name: str) -> tuple[int, float]:
        """Best epoch so far and its value, for a metric of the history whose mode is known; of equal ones the later
        counts.
        """
        direction = max if self.mode_of(name) == "max" else min
        epoch, value = direction(reversed(self.history[name]), key=lambda point: point[1])
        return int(epoch), value

    def results(self) -> dict[str, float]:
        """Results of the run by metric: of the validation whose weights are kept, and of the test."""
        values = {name: points[-1][1] for name, points in self.history.items() if name.startswith("test/")}
        if self.monitor in self.history:
            monitored = [value for _, value in self.history[self.monitor]]
            place = monitored[::-1].index(self.best(self.monitor)[1]) + 1  # from the end: of equal ones the later
            values |= {name: points[-place][1] for name, points in self.history.items() if name.startswith("val/")}
        return values
