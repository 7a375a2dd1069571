"""What general code asks of sound, whose rows are images of log-mel spectrograms."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

import numpy as np
from typing_extensions import override

from src import plots
from src.data.audio.inputs import Sounds
from src.data.core.modality import register_modality
from src.data.images.inputs import Pictures
from src.data.images.modality import ImageModality
from src.runtime.format import number
from src.spec import AudioSpec


@register_modality("audio")
class AudioModality(ImageModality):
    """Sound in files: drawn and explained as images, time to the right and low frequencies at the bottom."""

    files: ClassVar[type[Pictures]] = Sounds

    def _values(self, described: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        form = self.spec.input_as(AudioSpec)
        sound, (_, frames, bands) = form.log_mel, form.shape
        steps = f"{frames} frames, {sound.hop_ms:g} ms apart, of {bands} mel bands"
        yield "clips", f"{sound.seconds:g} s at {sound.sample_rate:,} Hz: {steps}"
        if form.mean:
            mean, std = number(form.mean[0]), number(form.std[0])
            yield "values", f"-{sound.range_db:g} to 0 decibels, mean {mean}, deviation {std}"
        if "seconds" in described:
            low, middle, high = described["seconds"]
            changed = f"{described['cropped']:,} are cropped, {described['padded']:,} padded with silence"
            yield "files", f"{low:.2f} to {high:.2f} s, median {middle:.2f} s; {changed}"
            rates, channels = described["sample_rates"], described["channels"]
            rates = ", ".join(f"{int(rate):,} Hz ({count:,})" for rate, count in rates.items())
            yield "stored at", f"{rates}; channels: " + ", ".join(f"{n} ({count:,})" for n, count in channels.items())

    @override
    def upright(self, values: np.ndarray) -> np.ndarray:
        return plots.spectrograms.upright(values)

    @property
    @override
    def axes(self) -> str:
        log_mel = self.spec.input_as(AudioSpec).log_mel
        return plots.spectrograms.axes(log_mel.seconds, log_mel.range_db, log_mel.sample_rate / 2)
