"""InputSpec: what one example is. Each modality has a subclass in a file of its own."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

from src.errors import UserError, suggest
from src.spec.plain import frozen

_BY_NAME: dict[str, type[InputSpec]] = {}


@dataclass(frozen=True)
class InputSpec:
    """Base of all modalities.

    Attributes:
        modality: its name; empty where a class only holds what several modalities share.
        unlabelled: tasks without a target that all data of this modality offers.
        shape: of one example without the batch.
        mean, std: one number a channel or column, in the unit of the raw input; empty where the input is used as it is.
            Models apply them, so a checkpoint takes raw input.
        average: mean of each value of a row, flattened, over up to 2,000 training rows; in the place of each column of
            categories the share of each code. Empty where rows are not in memory, or hold more than 16,384 values.
        feature_names: of the columns, where they have names.
    """

    modality: ClassVar[str] = ""
    unlabelled: ClassVar[tuple[str, ...]] = ()

    shape: tuple[int, ...]
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    average: tuple[float, ...] = field(default=(), repr=False)
    feature_names: tuple[str, ...] = ()

    def __init_subclass__(cls) -> None:
        if "modality" in vars(cls):
            _BY_NAME[cls.modality] = cls

    @property
    def arguments(self) -> dict[str, object]:
        """What a net of a user's own may ask for by the name of an argument: sizes of one example.

        `input_shape`, and `in_features`, of a row flattened; modalities add theirs.
        """
        return {"input_shape": self.shape, "in_features": math.prod(self.shape)}

    @staticmethod
    def named(modality: str) -> type[InputSpec]:
        """The class for a modality.

        Raises:
            UserError: there is none of that name.
        """
        if modality not in _BY_NAME:
            raise UserError(f"{modality} is no modality of data that is known here{suggest(modality, _BY_NAME)}")
        return _BY_NAME[modality]

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Read what `plain` wrote; names that this release does not know are left out."""
        return cls(**frozen(cls, values))
