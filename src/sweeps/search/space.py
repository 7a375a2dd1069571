"""A search space in Hydra's own grammar, and the configurations of its trials, which files can no longer change."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override, RangeSweep, Sweep
from omegaconf import DictConfig, OmegaConf

from src.errors import UserError, suggest
from src.sweeps.jobs.freeze import freeze, replicates
from src.sweeps.jobs.ledger import JobSpec

TAGS = ("log", "int")


@dataclass(frozen=True)
class Dimension:
    """One key that varies: over choices, or over numbers from `low` to `high`, both of which belong to it.

    Attributes:
        key: as an override names it.
        choices: as an override writes them; empty where it is numbers.
        low, high: whole numbers where it takes no others.
        step: between numbers; None where they lie anywhere.
        log: numbers are drawn by their logarithm.
        group: the choices are files of a config group.
    """

    key: str
    choices: tuple[str, ...] = ()
    low: float = 0
    high: float = 0
    step: float | None = None
    log: bool = False
    group: bool = False

    @property
    def integer(self) -> bool:
        """True if it takes whole numbers only."""
        return isinstance(self.low, int) and isinstance(self.high, int)

    @property
    def edges(self) -> tuple[str, ...]:
        """Overrides that together show whether the key takes all values."""
        return tuple(self.text(value) for value in self.choices or dict.fromkeys((self.low, self.high)))

    def text(self, value: str | float) -> str:
        """Override that sets it."""
        return f"{self.key}={value}"

    def short(self, value: str | float) -> str:
        """The same for a table."""
        return f"{self.key}={value:.4g}" if isinstance(value, float) else self.text(value)


def read(override: Override, group: bool) -> Dimension:
    """Read the dimension that an override such as `optimizer.lr=tag(log,interval(1e-4,1e-1))` spans.

    Raises:
        UserError: it spans none.
    """
    line, sweep = str(override.input_line), override.value()
    key = line.partition("=")[0]
    tags = sweep.tags if isinstance(sweep, Sweep) else set()  # glob(...) has none
    unknown = sorted(tags - set(TAGS))
    if unknown:
        raise UserError(f"{line}: a search knows no tag {unknown[0]}{suggest(unknown[0], TAGS)}")
    log = "log" in tags
    if not isinstance(sweep, IntervalSweep | RangeSweep):
        if tags:
            raise UserError(f"{line}: the tag {min(tags)} is for interval(...) and range(...), not for choices")
        return Dimension(key, tuple(dict.fromkeys(override.sweep_string_iterator())), group=group)
    low, high, step = _ends(line, sweep)
    if "int" in tags or (isinstance(low, int) and isinstance(high, int)):
        if (low, high) != (int(low), int(high)):
            raise UserError(f"{line}: whole numbers need whole ends")
        low, high, step = int(low), int(high), int(step or 1)
    if log and low <= 0:
        raise UserError(f"{line}: a logarithmic scale starts above 0")
    if log and step not in (None, 1):
        raise UserError(f"{line}: a logarithmic scale has no steps; an interval has none either")
    return Dimension(key, low=low, high=high, step=step, log=log)


def _ends(line: str, sweep: IntervalSweep | RangeSweep) -> tuple[float, float, float | None]:
    """Both ends, and the step between."""
    if isinstance(sweep, RangeSweep):
        values = list(sweep.range())
        if not values:
            raise UserError(f"{line}: this range is empty; range(START,STOP,STEP) ends before STOP")
        return min(values), max(values), abs(sweep.step)
    low, high = sweep.start, sweep.end
    if low is None or high is None or not math.isfinite(low) or not math.isfinite(high) or low > high:
        raise UserError(f"{line}: interval(LOW,HIGH) goes from a lower to a higher number")
    return low, high, None


@dataclass(frozen=True)
class Space:
    """Dimensions and templates that a trial's jobs are made of.

    Attributes:
        dimensions: what varies.
        templates: a frozen configuration as YAML for each combination of choices from config groups, the last group's
            choices running fastest; other dimensions are set in it.
        runs: of each trial, the overrides that set one apart from the next: seeds and folds.
    """

    dimensions: tuple[Dimension, ...]
    templates: tuple[str, ...]
    runs: tuple[tuple[str, ...], ...]

    @classmethod
    def freeze(
        cls, dimensions: Sequence[Dimension], fixed: Sequence[str], compose: Callable[[Sequence[str]], DictConfig]
    ) -> tuple[Space, list[str]]:
        """Freeze the space around these fixed overrides, and the hashes of its templates.

        Composes, and so checks, every choice and both ends of all numbers with every combination of groups.

        Raises:
            UserError: a value does not fit.
        """
        groups = [one for one in dimensions if one.group]
        others = [one for one in dimensions if not one.group]
        rows = max((len(one.edges) for one in others), default=1)
        templates: list[JobSpec] = []
        runs: list[list[str]] = [[]]
        for combination in product(*(one.edges for one in groups)):
            for row in range(rows):
                overrides = [*fixed, *combination, *(one.edges[row % len(one.edges)] for one in others)]
                config = compose(overrides)
                if row == 0:
                    runs = replicates(config)
                    templates.append(freeze(config, 0))
                if runs[0]:
                    compose([*overrides, *runs[0]])
        space = cls(tuple(dimensions), tuple(one.config for one in templates), tuple(map(tuple, runs)))
        return space, [one.hash for one in templates]

    @classmethod
    def of(cls, plain: Mapping[str, Any]) -> Space:
        """Read what `dataclasses.asdict` made of one and JSON kept."""
        dimensions = (Dimension(**one | {"choices": tuple(one["choices"])}) for one in plain["dimensions"])
        return cls(tuple(dimensions), tuple(plain["templates"]), tuple(map(tuple, plain["runs"])))

    def jobs(self, values: Mapping[str, Any], trial: int) -> Iterator[JobSpec]:
        """Make the jobs of a trial.

        Args:
            values: of each key, as a Dimension has them.
        """
        template = 0
        for one in self.dimensions:
            if one.group:
                template = template * len(one.choices) + one.choices.index(values[one.key])
        texts = [one.text(values[one.key]) for one in self.dimensions if not one.group]
        short = [one.short(values[one.key]) for one in self.dimensions]
        for run in self.runs:
            spec = _vary(self.templates[template], [*texts, *run], trial)
            yield spec._replace(name=" ".join([*short, *run]))


def _vary(template: str, overrides: Sequence[str], trial: int) -> JobSpec:
    """Change plain values of a frozen configuration, as Hydra itself would."""
    config, parser = OmegaConf.create(template), OverridesParser.create()
    assert isinstance(config, DictConfig)
    for text in overrides:
        override = parser.parse_override(text)
        OmegaConf.update(config, override.key_or_group, override.value(), merge=True, force_add=True)
    config.hydra.overrides.task = [*config.hydra.overrides.task, *overrides]
    return freeze(config, trial)
