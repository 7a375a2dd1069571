"""New clips for a trained model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from typing_extensions import override

from src.data.audio.clips import Clips
from src.data.audio.features import FORMATS as SOUNDS
from src.data.audio.features import LogMel
from src.data.images.inputs import Pictures
from src.spec import AudioSpec


@dataclass
class Sounds(Pictures):
    """A sound file, or all below a folder, as the log-mel images that the model was trained on."""

    what = "clip"
    formats = SOUNDS

    @override
    def column(self, files: list[Path], root: Path) -> Clips:
        names = [file.relative_to(root).as_posix() for file in files]
        return Clips(files, names, LogMel.from_spec(self.spec.input_as(AudioSpec).log_mel))
