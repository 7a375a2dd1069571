"""What a sweep asks of a run that is one of its jobs, and how it is told of the run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import pytorch_lightning as pl


class JobHooks(Protocol):
    """A job of a sweep, as `experiment.run.train` needs to know it.

    Attributes:
        overrides: what tells the job from the sweep's others; the run is named by them where its config gives no name.
        pruned: epoch after which the sweep gave the run up; 0: it did not. Such a run is not tested.
    """

    @property
    def overrides(self) -> Sequence[str]: ...

    @property
    def pruned(self) -> int: ...

    def callbacks(self) -> Sequence[pl.Callback]:
        """Further callbacks, which come after all others."""

    def update(self, **changes: Any) -> None:
        """Takes note of `run` (its id) once there is one, and of `metrics` (all final values) at its end."""
