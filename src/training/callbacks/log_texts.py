"""Texts: a table of what a language model writes after each validation, growing while it is trained."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.strategies import FSDPStrategy
from typing_extensions import override

from src.data.core.modality import modality_of
from src.data.core.module import DataModule
from src.runtime.ranges import NonNegativeInt
from src.spec.tokenizer import Tokenizer
from src.tasks import view
from src.tasks.abilities import Generates

if TYPE_CHECKING:
    from src.models.base import Model

MOST = 100  # validations that the table shows


class Texts(pl.Callback):
    """Callback that lets the model go on writing the first rows of the validation split, and keeps the texts.

    The table is `texts.csv` among the run's files: epoch, step, row, prompt (of pairs the source), text, and of pairs
    the target. After 100 validations every second one counts, later every fourth, and so on, so that the table stays
    short and a long training does not spend its time on it. Sampling has its own random state. The table is part of a
    checkpoint: after a resume it goes on as if nothing had happened.

    Args:
        rows: of the validation split; 0: none, and nothing is written.

    Attributes:
        folder: where the table goes; the caller sets it once there is a run.
        notes: a line that says why there is no table, where that is not the model's nature.
    """

    def __init__(self, rows: NonNegativeInt = 3) -> None:
        self.rows = rows
        self.folder = Path()
        self.notes: list[str] = []
        self._validations = 0
        self._table: list[list[Any]] = []  # number of the validation, then the row of the table

    @override
    def on_fit_start(self, trainer: pl.Trainer, model: Model) -> None:
        if isinstance(trainer.strategy, FSDPStrategy):  # outside of a step no process has all weights
            self.rows = 0

    @override
    def on_validation_epoch_end(self, trainer: pl.Trainer, model: Model) -> None:
        # here and not at validation's end, where averaged weights have been put back
        if trainer.sanity_checking or not self.rows:
            return
        stride = 1 << max(0, math.ceil(math.log2((self._validations + 1) / MOST)))
        number, self._validations = self._validations, self._validations + 1
        if number % stride:
            return
        try:
            written = self._written(trainer, model)
            if written is None:
                self.rows = 0
                return
            self._table = [line for line in self._table if line[0] % stride == 0]
            self._table += [[number, trainer.current_epoch + 1, trainer.global_step, *line] for line in written]
            if trainer.is_global_zero:
                header = ("epoch", "step", "row", "prompt", "text", "target")[: len(self._table[0]) - 1]
                view.write(self.folder / "texts.csv", header, (line[1:] for line in self._table))
        except Exception as error:  # noqa: BLE001 (training does not depend on it)
            self.rows = 0
            self.notes.append(f"texts.csv: stopped, {type(error).__name__}: {error}".splitlines()[0])

    @torch.no_grad()
    def _written(self, trainer: pl.Trainer, model: Model) -> list[list[Any]] | None:
        """Lines (row, prompt, text) and, where there is one, the target; None where the model writes nothing."""
        data: DataModule = trainer.datamodule  # type: ignore[attr-defined]  # Lightning sets it
        batch = {name: column.to(model.device) for name, column in data.head("val", self.rows).items()}
        written = model.generate_texts(batch) if isinstance(model, Generates) else None
        if written is None:
            return None
        tokenizer = Tokenizer(modality_of(model.spec).tokenizer)
        texts = ([tokenizer.decode(ids) for ids in side.tolist()] for side in written)
        return [[row, *line] for row, line in enumerate(zip(*texts, strict=True))]

    @override
    def state_dict(self) -> dict[str, Any]:
        return {"validations": self._validations, "table": [list(line) for line in self._table]}

    @override
    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._validations, self._table = state["validations"], [list(line) for line in state["table"]]
