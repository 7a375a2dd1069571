"""Search for a trained run by what a person types, and loading from its checkpoint."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from src import tracking
from src.errors import UserError
from src.models.base import Model
from src.models.load import load_model


@dataclass
class Trained:
    """A run's best model, in evaluation mode on its device.

    Attributes:
        name: the run's id, or the checkpoint's path.
        run: None for a checkpoint that was named by its path.
        notes: what a person should know about the answers, complete once all were given.
    """

    name: str
    model: Model
    run: tracking.RunInfo | None
    notes: list[str] = field(default_factory=list)

    @property
    def data_options(self) -> dict[str, Any]:
        """Options of the data that it was trained on."""
        return self.model.config["data"]


def load(reference: str, *, uri: str | None, device: str) -> Trained:
    """Load the model of a run (an id, its beginning, last, best:METRIC) or of a .ckpt.

    Raises:
        UserError: no such run or file, a damaged one, a device that is not there.
    """
    run = None
    if reference.endswith(".ckpt"):
        path = Path(reference).expanduser().absolute()
    else:
        run = tracking.find_run(reference, uri=uri)
        path = tracking.download(run, "checkpoints/best.ckpt")
    model = load_model(path)
    try:
        model.to(_device(device))
    except RuntimeError as error:
        raise UserError(f"device={device}: {str(error).splitlines()[0]}") from None
    trained = Trained(run.id if run else str(path), model, run)
    if model.changed_code:
        trained.notes.append(model.changed_code)
    return trained


def _device(name: str) -> str:
    if name != "auto":
        return name
    return "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
