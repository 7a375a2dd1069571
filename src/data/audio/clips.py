"""Clips of sound in files, as a column of log-mel images, and how they were stored."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from src.data.audio.features import LogMel, Recording, read
from src.data.core.splits import spread


class Clips:
    """Sound files as a column of float32 (N, 1, frames, bands), read and transformed when a batch asks for them.

    Args:
        sources: paths, or the files' contents.
        names: of the files, for a person.
        log_mel: what makes an image of a clip.
    """

    dtype = torch.float32
    in_memory = False

    def __init__(self, sources: Sequence[Path | bytes], names: Sequence[str], log_mel: LogMel | None = None) -> None:
        self._sources, self._names, self._log_mel = list(sources), list(names), log_mel
        self.shape = (len(self._names), *(log_mel.shape if log_mel else ()))

    def __len__(self) -> int:
        return len(self._names)

    def name(self, row: int) -> str:
        """Name of a row's file, relative to its folder."""
        return self._names[row]

    def recording(self, row: int) -> Recording:
        """Read a row's samples as they are stored."""
        return read(self._sources[row], self._names[row])

    def __getitem__(self, index: Tensor) -> Tensor:
        return torch.stack([self._spectrogram(row) for row in index.tolist()])

    def subset(self, index: Tensor) -> Clips:
        """Column of the rows index (N,), none of them read yet."""
        rows = index.tolist()
        return Clips([self._sources[row] for row in rows], [self._names[row] for row in rows], self._log_mel)

    def made_by(self, log_mel: LogMel) -> Clips:
        """Column of the same clips as spectrograms of these settings."""
        return Clips(self._sources, self._names, log_mel)

    def read(self, label: str) -> Tensor:
        """Spectrograms of all clips (N, 1, frames, bands), made under a progress bar."""
        images = torch.empty(self.shape)
        for row in tracked(range(len(self)), f"spectrograms of {label}"):
            images[row] = self._spectrogram(row)
        return images

    def _spectrogram(self, row: int) -> Tensor:
        if self._log_mel is None:
            raise RuntimeError("made_by() comes first")
        return self._log_mel.of(self.recording(row))

    def digest(self) -> bytes:
        """sha256 of all names and of up to 2,000 images."""
        digest = hashlib.sha256("\n".join(self._names).encode())
        digest.update(self[spread(len(self), 2_000)].numpy().data.cast("B"))
        return digest.digest()


def described(measures: Tensor, log_mel: LogMel) -> dict[str, Any]:
    """Summary of clips (N, 3: seconds, sample rate, channels) as stored, and how many are cropped or padded."""
    seconds = measures[:, 0]
    rates, channels = (Counter(int(value) for value in column) for column in measures[:, 1:].t().tolist())
    return {
        "seconds": [seconds.min().item(), seconds.median().item(), seconds.max().item()],
        "sample_rates": {str(rate): count for rate, count in sorted(rates.items())},
        "channels": {str(number): count for number, count in sorted(channels.items())},
        "cropped": int((seconds > log_mel.seconds).sum()),
        "padded": int((seconds < log_mel.seconds).sum()),
    }


def tracked(rows: range, label: str) -> Iterable[int]:
    """Iterate over rows, with a progress bar if stderr is a terminal."""
    from rich.console import Console  # noqa: PLC0415 (only where clips are read: keeps imports fast)
    from rich.progress import track  # noqa: PLC0415 (likewise)

    console = Console(stderr=True)
    return track(rows, label, console=console, transient=True) if console.is_terminal else rows
