"""Series: steps of one or more numbers."""

from __future__ import annotations

from dataclasses import dataclass

from typing_extensions import override

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

    @property
    @override
    def arguments(self) -> dict[str, object]:
        """`in_features` and `in_channels`, both of a step, and `sequence_length`."""
        steps, features = self.shape
        own = {"in_features": features, "in_channels": features, "sequence_length": steps}
        return super().arguments | own
