"""Spectrograms as a person reads them: time to the right, low frequencies at the bottom."""

from __future__ import annotations

import numpy as np

from src.spec import AudioSpec, DataSpec


def upright(spec: DataSpec, values: np.ndarray) -> np.ndarray:
    """Images of sound (..., frames, bands), or what lies over them, as (..., bands, frames); all else as it is."""
    return np.swapaxes(values, -1, -2)[..., ::-1, :] if isinstance(spec.input, AudioSpec) else values


def axes(spec: DataSpec) -> str:
    """Labels of the two sides of such a picture; nothing for all else."""
    if not isinstance(spec.input, AudioSpec):
        return ""
    log_mel = spec.input.log_mel
    seconds, decibels, highest = log_mel.seconds, log_mel.range_db, log_mel.sample_rate / 2
    sides = f"to the right: time to {seconds:g} s; upwards: mel bands to {highest:,.0f} Hz"
    return f"{sides}; black: {decibels:g} dB below white"
