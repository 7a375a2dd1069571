"""Series: steps of one or more numbers."""

from __future__ import annotations

from dataclasses import dataclass

from src.spec.inputs import InputSpec


@dataclass(frozen=True)
class SeriesSpec(InputSpec):
    """Steps of numbers, float32 (T, F).

    Attributes:
        season: steps after which the series repeats itself; 0: none is known.
        differenced: the series is made of changes, so that no change is what the naive forecast is.
    """

    modality = "series"

    season: int = 0
    differenced: bool = False
