"""Tiny sounds."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import soundfile

from src.data.core.module import DataModule
from tests.scratch import Tiny, at, scratch


def sound_folder() -> str:
    """Two classes of short sines, low and high."""
    folder = scratch() / "sounds"
    for label, row in itertools.product(range(2), range(20)):
        (folder / f"class{label}").mkdir(parents=True, exist_ok=True)
        samples = np.sin(2 * np.pi * (400 + 1_600 * label + 10 * row) * np.arange(1_600) / 8_000)
        soundfile.write(folder / f"class{label}" / f"{row}.wav", samples.astype(np.float32), 8_000)
    return str(folder)


def recordings() -> dict[str, bytes]:
    """Ten recordings of each digit by one speaker, named as those of spoken_digits are."""
    files = sorted(Path(sound_folder()).rglob("*.wav"))
    return {f"{digit}_theo_{row}.wav": files[digit + row].read_bytes() for digit in range(10) for row in range(10)}


def fill(data: DataModule) -> None:
    data._files = recordings


DATASETS = {
    "audio_folder": at(sound_folder),
    "spoken_digits": Tiny(fill=fill),
    "tones": Tiny(lambda: ["data.rows=200"]),
}
