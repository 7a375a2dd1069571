"""Schedules of the learning rate as a model makes and steps them: this project's, torch's, and a user's own."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, Literal

from torch.optim import Optimizer
from torch.optim.lr_scheduler import ReduceLROnPlateau

Interval = Literal["step", "epoch"]

# of the saved state what is no option: those may be others after a resume
PLATEAU_STATE = ("best", "num_bad_epochs", "cooldown_counter", "last_epoch")


def make(factory: Callable[..., Any], optimizer: Optimizer, **known: object) -> Any:  # noqa: ANN401 (any scheduler)
    """Make a schedule: the factory is given what it takes by name of what is known, unless the config gives it."""
    return factory(optimizer, **{name: value for name, value in known.items() if takes(factory, name)})


def takes(factory: Callable[..., Any], name: str) -> bool:
    """True if a factory has an argument of that name which the config does not give."""
    return name in inspect.signature(factory).parameters and name not in getattr(factory, "keywords", {})


def interval_of(factory: Callable[..., Any]) -> Interval:
    """When a schedule is stepped if nobody says so: each optimizer step where it knows how many there are (as this
    project's and OneCycleLR do), else each epoch, as torch's documentation has it.
    """
    return "step" if "total_steps" in inspect.signature(factory).parameters else "epoch"


def step_epoch(schedule: Any, value: float | None, mode: str) -> None:  # noqa: ANN401 (any scheduler)
    """Step a schedule after an epoch.

    Args:
        value: of the monitored metric; None: there is none yet.
        mode: in which it is better.
    """
    if not isinstance(schedule, ReduceLROnPlateau):
        schedule.step()
    elif value is not None:
        schedule.step(value if mode == schedule.mode else -value)


def load_state(schedule: Any, saved: dict[str, Any], factory: Callable[..., Any]) -> None:  # noqa: ANN401 (any scheduler)
    """Go on from a saved state; options of the config and the optimizer's learning rates stay those of today."""
    if isinstance(schedule, ReduceLROnPlateau):
        kept = {name: saved[name] for name in PLATEAU_STATE}
    else:
        options = {*getattr(factory, "keywords", {}), "base_lrs"} - {"lr_lambda"}
        kept = {name: value for name, value in saved.items() if name not in options}
    schedule.load_state_dict(kept)
