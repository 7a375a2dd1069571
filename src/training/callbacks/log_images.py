"""Pictures: grids of a model's images after each validation, which the run's page shows step by step."""

from __future__ import annotations

import math
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.strategies import FSDPStrategy
from typing_extensions import override

from src.data.core.module import DataModule
from src.plots.grid import THUMBNAIL, grid
from src.runtime.ranges import NonNegativeInt

if TYPE_CHECKING:
    from src.models.base import Model

MOST = 100  # validations that have pictures


class Pictures(pl.Callback):
    """Asks the task's view for images of the first rows of the validation split, and keeps a grid of each:
    reconstructions, samples, or what the model finds in the images.

    The files lie in `images/` of the run, named as MLflow names those of `log_image(key, step)`, so that its page has
    a slider over the steps. After 100 validations every second one counts, later every fourth, and so on. Random
    draws start from the same state each time, apart from that of the training: only the weights make a difference
    between two steps. What a killed run drew after its last checkpoint is replaced when it is resumed.

    Args:
        count: rows of the validation split; 0: none, and nothing is drawn.

    Attributes:
        folder: of the run's files; the caller sets it once there is a run.
        announce: called when there is the first picture; likewise.
        notes: a line that says why there are none, where that is not the model's nature.
    """

    def __init__(self, count: NonNegativeInt = 16) -> None:
        self.count = count
        self.folder = Path()
        self.announce: Callable[[], None] = lambda: None
        self.notes: list[str] = []
        self._validations = 0
        self._steps: list[list[int]] = []  # number of the validation, step

    @override
    def on_fit_start(self, trainer: pl.Trainer, model: Model) -> None:
        if isinstance(trainer.strategy, FSDPStrategy):  # outside of a step no process has all weights
            self.count = 0

    @override
    def on_validation_epoch_end(self, trainer: pl.Trainer, model: Model) -> None:
        # here and not at validation's end, where averaged weights have been put back
        if trainer.sanity_checking or not self.count:
            return
        stride = 1 << max(0, math.ceil(math.log2((self._validations + 1) / MOST)))
        number, self._validations = self._validations, self._validations + 1
        if number % stride or not trainer.is_global_zero:
            return
        try:
            self._draw(trainer, model, number, stride)
        except Exception as error:  # noqa: BLE001 (training does not depend on it)
            self.count = 0
            self.notes.append(f"pictures: stopped, {type(error).__name__}: {error}".splitlines()[0])

    @torch.no_grad()
    def _draw(self, trainer: pl.Trainer, model: Model, number: int, stride: int) -> None:
        data: DataModule = trainer.datamodule  # type: ignore[attr-defined]  # Lightning sets it
        batch = {name: column.to(model.device) for name, column in data.head("val", self.count).items()}
        devices = [model.device] if model.device.type == "cuda" else []
        with torch.random.fork_rng(devices):
            torch.manual_seed(0)
            pictures = model.task.view.images(model, batch)
        if not pictures:
            self.count = 0
            return
        folder, step = self.folder / "images", trainer.global_step
        folder.mkdir(parents=True, exist_ok=True)
        for _, old in [line for line in self._steps if line[0] % stride] + [[number, step]]:
            for path in folder.glob(f"*+step+{old}+*"):
                path.unlink()
        if not self._steps:
            self.announce()
        self._steps = [line for line in self._steps if not line[0] % stride] + [[number, step]]
        for name, images in pictures.items():
            image = grid(images)
            # as mlflow.log_image names them; the second one is what a page with many runs shows
            place = folder / f"{name}+step+{step}+timestamp+{time.time_ns() // 1_000_000}+{uuid.uuid4()}"
            image.save(f"{place}.png")
            image.thumbnail((THUMBNAIL, THUMBNAIL))
            image.save(f"{place}+compressed.webp")

    @override
    def state_dict(self) -> dict[str, Any]:
        return {"validations": self._validations, "steps": [list(line) for line in self._steps]}

    @override
    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._validations, self._steps = state["validations"], [list(line) for line in state["steps"]]
