"""New images for a trained model."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor
from typing_extensions import override

from src.data.audio.clips import Clips
from src.data.core.class_folders import files_below
from src.data.core.inputs import Inputs, Rows
from src.data.images.decode import FORMATS, ImageFiles
from src.data.images.letterbox import Letterboxed
from src.errors import UserError
from src.spec import ImageSpec


@dataclass
class Pictures(Inputs):
    """A picture, or all below a folder, brought to the size and the channels that the model takes.

    `on_bad="skip"` leaves out those that cannot be decoded.
    """

    path: Path = Path()
    on_bad: str = "error"

    what = "picture"
    formats: ClassVar[tuple[str, ...]] = FORMATS

    def column(self, files: list[Path], root: Path) -> ImageFiles | Clips:
        """Column of files below `root`, as the model takes them."""
        channels, *shape = self.spec.input_shape
        return ImageFiles(files, root, (shape[0], shape[1]), channels, self.spec.input_as(ImageSpec).crop)

    @override
    def batches(self, size: int) -> Iterator[Rows]:
        if not self.path.exists():
            raise UserError(f"data.path={self.path}: there is no such file or folder")
        files = files_below(self.path, self.formats) if self.path.is_dir() else [self.path]
        if not files:
            raise UserError(f"data.path: no {self.what} in {self.path} ({', '.join(self.formats)})")
        root = self.path if self.path.is_dir() else self.path.parent
        column = self.column(files, root)
        broken: list[str] = []
        for index in torch.arange(len(files)).split(size):
            names, decoded = [], []
            for row in index.split(1):
                try:
                    decoded.append(column[row])
                except UserError:
                    if self.on_bad == "error":
                        raise
                    broken.append(column.name(int(row)))
                else:
                    names.append(column.name(int(row)))
            if names:
                yield Rows({"file": names}, self._levels(torch.cat(decoded)))
        if len(broken) == len(files):
            raise UserError(f"data.path: none of the {len(files)} {self.what}s in {root} can be decoded")
        if broken:
            told = f"{len(broken)} of {len(files)} {self.what}s cannot be decoded and are left out"
            self.notes.append(f"{told}: {', '.join(broken)}")

    def _levels(self, x: Tensor) -> Tensor:
        """Scale values from 0 to 255, as files have them, to the levels of the training pictures."""
        most = self.spec.input_as(ImageSpec).levels
        if not most:
            made = "the model was trained on pictures that its dataset turned into other numbers"
            raise UserError(f"data.path={self.path}: {made}; give such numbers in an .npz archive")
        if most == 1:
            return x.float() / 255
        return x if most == 255 else (x.float() * (most / 255)).round().to(x.dtype)


@dataclass
class Scenes(Pictures):
    """New pictures for a model that finds boxes: not cropped but scaled to fit."""

    @override
    def column(self, files: list[Path], root: Path) -> Letterboxed:
        channels, *shape = self.spec.input_shape
        return Letterboxed(files, root, (shape[0], shape[1]), channels)
