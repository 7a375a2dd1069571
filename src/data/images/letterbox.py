"""Pictures in files brought to one size without distorting them: scaled to fit, the rest filled with grey."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from typing_extensions import override

from src.data.images.decode import ImageFiles, open_image, raw_pixels

FILL = 114  # the grey around a picture, as YOLO has it


class Letterboxed(ImageFiles):
    """A column of pictures (N, C, H, W), each in the upper left corner, as large as it fits."""

    @override
    def decode(self, path: Path) -> Tensor:
        return letterbox(path, self._size, self._channels)

    @override
    def subset(self, index: Tensor) -> Letterboxed:
        files = [self._root / name for name in self._names[index.numpy()]]
        return Letterboxed(files, self._root, self._size, self._channels)


def letterbox(path: Path, size: tuple[int, int], channels: int) -> Tensor:
    """A picture as uint8 (channels, height, width), upright.

    Raises:
        UserError: it cannot be read as a picture; names the file.
    """
    height, width = inner(dimensions(path), size)
    picture = raw_pixels(path, (height, width), channels)
    if picture.shape[1:] != (height, width):
        picture = F.interpolate(picture.unsqueeze(0), (height, width), mode="bilinear", antialias=True).squeeze(0)
    return F.pad(picture, (0, size[1] - width, 0, size[0] - height), value=FILL)


def picture(path: Path) -> Tensor:
    """A picture as it is, upright, uint8 (3, height, width)."""
    return raw_pixels(path, dimensions(path), 3)


def dimensions(path: Path) -> tuple[int, int]:
    """(height, width) of the picture as it is seen, read from its header.

    Raises:
        UserError: it cannot be read as a picture; names the file.
    """
    with open_image(path) as picture:
        sideways = picture.getexif().get(0x0112, 1) >= 5  # the camera was held so
        return (picture.width, picture.height) if sideways else (picture.height, picture.width)


def inner(original: tuple[int, int], size: tuple[int, int]) -> tuple[int, int]:
    """(height, width) that a picture has inside an input of this size."""
    scale = min(size[0] / original[0], size[1] / original[1])
    height, width = (min(most, max(1, round(side * scale))) for side, most in zip(original, size, strict=True))
    return height, width


def scales(originals: Tensor, size: tuple[int, int]) -> Tensor:
    """Factors (N, 4) that bring boxes `x1 y1 x2 y2` of pictures of these heights and widths (N, 2) to the input."""
    factors = []
    for height, width in originals.tolist():
        rows, columns = inner((height, width), size)
        factors.append([columns / width, rows / height] * 2)
    return torch.from_numpy(np.array(factors, dtype=np.float32).reshape(-1, 4))
