"""TargetSpec: what is to be learnt of an example."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from typing_extensions import override

from src.errors import UserError, suggest
from src.spec.plain import frozen

_BY_NAME: dict[str, type[TargetSpec]] = {}


@dataclass(frozen=True)
class TargetSpec:
    """Base of all targets.

    Attributes:
        form: its name, under which a checkpoint holds it.
        counted: what has a class: rows, or something of which a row may hold several.
    """

    form: ClassVar[str] = ""
    counted: ClassVar[str] = "rows"

    @property
    def block(self) -> int:
        """Neighbouring rows whose targets overlap, which a bootstrap draws together."""
        return 1

    def __init_subclass__(cls) -> None:
        if "form" in vars(cls):
            _BY_NAME[cls.form] = cls

    @staticmethod
    def named(name: str) -> type[TargetSpec]:
        """The class for a form of target.

        Raises:
            UserError: there is none of that name.
        """
        if name not in _BY_NAME:
            raise UserError(f"{name} is no form of target that is known here{suggest(name, _BY_NAME)}")
        return _BY_NAME[name]

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Read what `plain` wrote; names that this release does not know are left out."""
        return cls(**frozen(cls, values))


@dataclass(frozen=True)
class Labels(TargetSpec):
    """One of several names; a base.

    Attributes:
        names: one a class, in the order of their numbers.
        counts: how many of each the training split has; empty where there is nothing to count.
    """

    names: tuple[str, ...]
    counts: tuple[int, ...] = ()


@dataclass(frozen=True)
class Classes(Labels):
    """A class for each row, int64 (N,).

    Attributes:
        anomalies: classes that only the test split has.
        held_out_test, held_out_val: classes that only the test split, and only the validation split has (verification).
    """

    form = "classes"

    anomalies: tuple[str, ...] = ()
    held_out_test: tuple[str, ...] = ()
    held_out_val: tuple[str, ...] = ()


@dataclass(frozen=True)
class Boxes(Labels):
    """Boxes around objects, each with a class; `counts` is of objects.

    Attributes:
        mean_boxes: the mean box of each class in the training split, `x1 y1 x2 y2` in pixels of the input.
        most: objects in one image.
    """

    form = "boxes"
    counted = "boxes"

    mean_boxes: tuple[tuple[float, ...], ...] = ()
    most: int = 0


@dataclass(frozen=True)
class Actions(Labels):
    """Actions of an environment, of which a policy chooses one in each step; there is nothing to count."""

    form = "actions"


@dataclass(frozen=True)
class Number(TargetSpec):
    """A number for each row, float32 (N,), with mean and standard deviation in its own unit."""

    form = "number"

    mean: float = 0.0
    std: float = 1.0


@dataclass(frozen=True)
class Horizon(TargetSpec):
    """The next steps of a series (N, steps, channels); the channels are the first ones of the input.

    Attributes:
        steps: to be forecast.
        naive_errors: of each channel, the mean absolute error of its naive forecast, one season or step ahead, in the
            training split.
    """

    form = "horizon"

    steps: int
    naive_errors: tuple[float, ...]

    @property
    @override
    def block(self) -> int:
        """As many as are forecast at once."""
        return self.steps
