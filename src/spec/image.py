"""Images: channels first, raw pixels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from typing_extensions import override

from src.spec.inputs import InputSpec


@dataclass(frozen=True)
class ImageSpec(InputSpec):
    """An image (C, H, W), uint8 or float32.

    Attributes:
        levels: the largest value that a pixel can have; 1: a number from 0 to 1; 0: a number of any scale.
        crop: shares of a picture's height that are cut off at its top and bottom before it is scaled; empty: nothing.
    """

    modality = "image"
    unlabelled: ClassVar[tuple[str, ...]] = ("reconstruction", "density", "generation")

    levels: int = 255
    crop: tuple[float, ...] = ()

    @property
    def is_float(self) -> bool:
        """Whether values are float32."""
        return self.levels <= 1

    @property
    @override
    def arguments(self) -> dict[str, object]:
        """`in_channels`, or `in_chans`, beside those of all data."""
        return super().arguments | {"in_channels": self.shape[0], "in_chans": self.shape[0]}
