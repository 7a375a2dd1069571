"""Sound: clips as images of log-mel spectrograms."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

from typing_extensions import override

from src.spec.image import ImageSpec
from src.spec.plain import frozen


@dataclass(frozen=True)
class LogMelSpec:
    """Options by which a clip becomes a log-mel spectrogram.

    Attributes:
        sample_rate: in hertz; clips of another rate are resampled.
        seconds: length of a clip.
        n_mels: bands.
        window_ms, hop_ms: length of a window, and from one to the next, in milliseconds.
        range_db: what is so many decibels below the loudest or quieter counts as silence.
    """

    sample_rate: int
    seconds: float
    n_mels: int = 40
    window_ms: float = 25.0
    hop_ms: float = 10.0
    range_db: float = 80.0


@dataclass(frozen=True)
class AudioSpec(ImageSpec):
    """A clip as an image (1, frames, bands) in decibels, float32: a model of images takes it as one.

    Attributes:
        log_mel: what made the image.
    """

    modality = "audio"
    unlabelled: ClassVar[tuple[str, ...]] = ()  # values are decibels below 0: no brightness to be drawn or given back

    log_mel: LogMelSpec = field(kw_only=True)

    @property
    @override
    def is_float(self) -> bool:
        return True

    @classmethod
    @override
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Read what `to_dict` wrote, the spectrogram's options among it."""
        return cls(**frozen(cls, values) | {"log_mel": LogMelSpec(**frozen(LogMelSpec, values["log_mel"]))})
