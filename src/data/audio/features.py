"""Sound as a picture: files read as one channel, resampled, brought to one length, and their log-mel spectrograms."""

from __future__ import annotations

import io
import math
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from src.errors import UserError
from src.spec import LogMelSpec

FORMATS = (".wav", ".flac", ".ogg", ".mp3", ".aif", ".aiff")


@dataclass(frozen=True)
class Recording:
    """Samples of a sound file, the mean of its channels, float32 (N,), and how it was stored."""

    samples: np.ndarray
    sample_rate: int
    channels: int

    @property
    def seconds(self) -> float:
        """Length in seconds."""
        return len(self.samples) / self.sample_rate


def read(source: Path | bytes, name: str) -> Recording:
    """Read a sound file, or the content of one.

    Args:
        name: of the file, for a complaint.

    Raises:
        UserError: it cannot be read as sound, has no samples, or one that is not finite.
    """
    import soundfile  # noqa: PLC0415 (a native library, only where files are read)

    try:
        if not (len(source) if isinstance(source, bytes) else source.stat().st_size):
            raise UserError(f"data.path: {name} is empty (0 bytes); remove it")
        stream = io.BytesIO(source) if isinstance(source, bytes) else str(source)
        samples, rate = soundfile.read(stream, dtype="float32", always_2d=True)
    except (OSError, soundfile.LibsndfileError) as error:
        reason = getattr(error, "strerror", None) or "its content is not a sound file's"
        raise UserError(f"data.path: {name} cannot be read as sound ({reason}); repair or remove it") from None
    if not len(samples):
        raise UserError(f"data.path: {name} has no samples (0 seconds); remove it")
    wrong = ~np.isfinite(samples).all(1)
    if wrong.any():
        place = int(wrong.argmax())
        raise UserError(f"data.path: {name}: sample {place} ({place / rate:.3f} s) is not finite; repair or remove it")
    return Recording(samples.mean(1), rate, samples.shape[1])


def resample(samples: np.ndarray, rate: int, wanted: int) -> np.ndarray:
    """Samples (N,) at another rate (ceil(N * wanted / rate),), by a polyphase filter against aliases."""
    if rate == wanted:
        return samples
    from scipy.signal import resample_poly  # noqa: PLC0415 (slow to import)

    divisor = math.gcd(rate, wanted)
    return resample_poly(samples, wanted // divisor, rate // divisor).astype(np.float32)


@dataclass(frozen=True)
class LogMel(LogMelSpec):
    """Log-mel spectrograms of clips, as images (1, frames, n_mels): time runs down, so that what reads an image row by
    row reads sound frame by frame.

    A clip is brought to `seconds`: a longer one is cropped about its centre, a shorter one followed by silence. Bands
    are triangles, evenly spaced on the mel scale 2595 log10(1 + f / 700) (O'Shaughnessy 1987) from 0 to half the sample
    rate, over the power spectrum of Hann windows. Values are decibels below the clip's loudest, from -range_db to 0:
    how loud a recording is as a whole does not count.

    Args:
        sample_rate: in hertz; clips of another rate are resampled.
        seconds: length of a clip.
        n_mels: bands.
        window_ms, hop_ms: length of a window, and from one to the next, in milliseconds.
        range_db: what is so many decibels below the loudest or quieter counts as silence.

    Raises:
        UserError: a value out of its range, more bands than the window can tell apart.
    """

    def __post_init__(self) -> None:
        for option, value in asdict(self).items():
            if value <= 0:
                raise UserError(f"data.{option}={value} must be above 0")
        if self.hop < 1 or self.window < 4:
            raise UserError(
                f"data.window_ms={self.window_ms} and data.hop_ms={self.hop_ms} are too short at {self.sample_rate} Hz"
            )
        empty = (self._filters.sum(1) == 0).sum().item()
        if empty:
            advice = "fewer bands or a longer data.window_ms"
            raise UserError(f"data.n_mels={self.n_mels}: {empty} bands are narrower than the window tells: {advice}")

    @property
    def samples(self) -> int:
        """Samples of a clip, at `sample_rate`."""
        return max(1, round(self.seconds * self.sample_rate))

    @property
    def window(self) -> int:
        """Samples of a window."""
        return round(self.window_ms * self.sample_rate / 1000)

    @property
    def hop(self) -> int:
        """Samples from the start of one window to the next."""
        return round(self.hop_ms * self.sample_rate / 1000)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape (1, frames, n_mels) of a clip's spectrogram."""
        return 1, 1 + self.samples // self.hop, self.n_mels

    @property
    def spec(self) -> LogMelSpec:
        """Settings as a DataSpec holds them."""
        return LogMelSpec(**asdict(self))

    @classmethod
    def from_spec(cls, spec: LogMelSpec) -> LogMel:
        """Build from the settings that a DataSpec holds."""
        return cls(**asdict(spec))

    def of(self, recording: Recording) -> Tensor:
        """Spectrogram (1, frames, n_mels) of a recording, resampled first."""
        return self(torch.from_numpy(resample(recording.samples, recording.sample_rate, self.sample_rate)))

    def __call__(self, samples: Tensor) -> Tensor:
        """Turn samples (N,) at `sample_rate` into a spectrogram, float32 (1, frames, n_mels)."""
        bins = self._size // 2 + 1
        spectrum = torch.stft(
            self._fitted(samples),
            self._size,
            self.hop,
            self.window,
            torch.hann_window(self.window),
            pad_mode="constant",
            return_complex=True,
        )
        power = self._filters @ spectrum.abs().square().view(bins, -1)  # (n_mels, frames)
        loudest = power.max()
        if loudest <= 1e-20:  # silence
            return torch.full(self.shape, -float(self.range_db))
        decibels = 10 * (power / loudest).clamp(min=10 ** (-self.range_db / 10)).log10()
        return decibels.t().contiguous().unsqueeze(0)

    def _fitted(self, samples: Tensor) -> Tensor:
        """Crop samples about their centre, or append silence."""
        extra = len(samples) - self.samples
        if extra > 0:
            return samples[extra // 2 : extra // 2 + self.samples]
        return torch.nn.functional.pad(samples, (0, -extra))

    @property
    def _size(self) -> int:
        """Size of the Fourier transform: the smallest power of two that holds a window."""
        return 1 << (self.window - 1).bit_length()

    @cached_property
    def _filters(self) -> Tensor:
        """Weights (n_mels, bins) of the bins in each band."""
        frequencies = torch.linspace(0, self.sample_rate / 2, self._size // 2 + 1, dtype=torch.float64)
        highest = 2595 * math.log10(1 + self.sample_rate / 2 / 700)
        edges = 700 * (10 ** (torch.linspace(0, highest, self.n_mels + 2, dtype=torch.float64) / 2595) - 1)
        low, centre, high = edges[:-2, None], edges[1:-1, None], edges[2:, None]
        rising, falling = (frequencies - low) / (centre - low), (high - frequencies) / (high - centre)
        return torch.minimum(rising, falling).clamp(min=0).float()
