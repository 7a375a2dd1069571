"""Spectrograms as a person reads them: time to the right, low frequencies at the bottom."""

from __future__ import annotations

import numpy as np


def upright(values: np.ndarray) -> np.ndarray:
    """Images of sound (..., frames, bands), or what lies over them, as (..., bands, frames)."""
    return np.swapaxes(values, -1, -2)[..., ::-1, :]


def axes(seconds: float, decibels: float, highest: float) -> str:
    """Labels of the two sides of such a picture.

    Args:
        seconds: length of a clip.
        decibels: between the loudest and what counts as silence.
        highest: frequency in hertz.
    """
    sides = f"to the right: time to {seconds:g} s; upwards: mel bands to {highest:,.0f} Hz"
    return f"{sides}; black: {decibels:g} dB below white"
