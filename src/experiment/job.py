"""Interface between a run and the sweep that it is a job of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import pytorch_lightning as pl


class JobHooks(Protocol):
    """A job of a sweep, as `experiment.run.train` needs to know it."""

    @property
    def overrides(self) -> Sequence[str]:
        """Overrides that tell the job from the sweep's others; they name a run whose config gives no name."""
        ...

    @property
    def pruned(self) -> int:
        """Epoch after which the sweep gave the run up, which is then not tested; 0: it did not."""
        ...

    def callbacks(self) -> Sequence[pl.Callback]:
        """List further callbacks, which come after all others."""

    def update(self, **changes: object) -> None:
        """Record `run` (its id) once there is one, and of `metrics` (all final values) at its end."""
