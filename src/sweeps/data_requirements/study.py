"""Study of how much data is enough: a sweep over shares of the training split.

`python -m src.train -m study=data_requirements model=cnn data=digits`. Each share is a trial of an ordinary sweep, with
so many seeds, each of which also draws rows of its own. Settings that vary beside it make a curve each.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from src.errors import UserError
from src.metrics.modes import mode_of

BUDGET = ("trainer.max_epochs", "trainer.check_val_every_n_epoch")  # what `budget=steps` sets


class DataRequirements:
    """Options of `study=data_requirements`.

    Args:
        fractions: of the training split, two or more different ones, each above 0 and at most 1.
        repeats: seeds of each.
        budget: `steps`: a share is gone through so often that training takes the steps that all rows would, with as
            many validations (an epoch where a schedule or patience counts them is a shorter one); `epochs`: as often
            as all rows, so that small shares are trained less.
        metric: such as test/accuracy; null: what the runs monitor, of their test split where all have it.
        level: of the intervals.

    Raises:
        UserError: a value out of its range.
    """

    def __init__(
        self,
        *,
        fractions: list[float],
        repeats: int = 3,
        budget: Literal["steps", "epochs"] = "steps",
        metric: str | None = None,
        level: float = 0.95,
    ) -> None:
        for fraction in fractions:
            if not 0 < fraction <= 1:
                raise UserError(f"study.fractions: {fraction} must be above 0 and at most 1")
        if len(set(fractions)) < 2 or len(set(fractions)) < len(fractions):
            given = ", ".join(map(str, fractions))
            raise UserError(f"study.fractions=[{given}]: a curve needs two different shares or more, each once")
        if repeats < 1:
            raise UserError(f"study.repeats={repeats} must be at least 1")
        if not 0 < level < 1:
            raise UserError(f"study.level={level} must be above 0 and below 1, such as 0.95")
        if metric is not None and mode_of(metric) is None:
            raise UserError(f"study.metric={metric}: it is not known whether more of it is better")
        self.fractions, self.repeats, self.budget = sorted(fractions), repeats, budget
        self.metric, self.level = metric, level

    @property
    def space(self) -> dict[str, str]:
        """Values of what it varies, by key."""
        return {"train_fraction": ",".join(map(str, self.fractions)), "repeats": str(self.repeats)}

    def overrides(self, given: Sequence[str], varied: Sequence[str], repeats: int) -> list[str]:
        """Overrides that it adds to those of the command.

        Args:
            given, varied: keys of the command, and those with several values.
            repeats: of the command.

        Raises:
            UserError: the command sets what the study does.
        """
        for key, option in (("train_fraction", "fractions"), ("repeats", "repeats")):
            if key in given or (key == "repeats" and repeats != 1):
                raise UserError(f"{key}: in this study study.{option} says so")
        if "seed" in varied:
            raise UserError("seed: study.repeats draws so many seeds from one on: give one value")
        for key in BUDGET:
            if key in varied and self.budget == "steps":
                raise UserError(f"{key}: study.budget=steps sets it for each share: give one value, or budget=epochs")
        return [f"{key}={value}" for key, value in self.space.items()]


def study_of(config: DictConfig) -> DataRequirements | None:
    """Make the study that a sweep's configuration asks for.

    Raises:
        UserError: options of a study, and no study; or one out of its range.
    """
    node = config.get("study")
    if node is None:
        return None
    if "_target_" not in node:
        raise UserError(f"study.{next(iter(node), '')}: of which study? add study=data_requirements")
    try:
        return instantiate(node, _convert_="all")
    except InstantiationException as error:  # Hydra says it again, around what is wrong
        raise error.__cause__ if isinstance(error.__cause__, UserError) else error from None


def stretch_epochs(config: DictConfig) -> list[str]:
    """Overrides by which a job on a share takes as many steps, and validations, as one of all rows."""
    study, share = config.get("study"), config.get("train_fraction", 1)
    if study is None or study.get("budget") != "steps" or share == 1:
        return []
    epochs, every = config.trainer.get("max_epochs"), config.trainer.get("check_val_every_n_epoch")
    if epochs in (None, -1):
        return []
    times = max(1, math.floor(1 / share + 1e-9))
    found = [f"{BUDGET[0]}={times * max(1, round(epochs / share / times))}"]
    return found + ([f"{BUDGET[1]}={every * times}"] if every and times > 1 else [])


def study_settings(config: DictConfig) -> dict[str, Any] | None:
    """Read the study of a sweep's configuration as plain data, for its ledger."""
    node = config.get("study")
    return None if node is None else OmegaConf.to_container(node, resolve=True)  # type: ignore[return-value]
