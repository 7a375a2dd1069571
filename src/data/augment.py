"""Random changes to a batch of images, each drawn from (seed, epoch, index of the image) and nothing else."""

from __future__ import annotations

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from src.errors import UserError
from src.randomness import BITS, draws, mix

_AUGMENTATION = 2  # keeps these draws apart from the order, which comes from the same seed
_UP, _LEFT, _FLIP, _ANGLE, _SIZE, _ROW, _COLUMN, _STREAMS = range(8)


class Augment:
    """Changes images (B, C, H, W), uint8 or float, on any device, and keeps their dtype.

    Args:
        crop: shift by up to this many pixels in each direction (a random crop of the picture padded by as many).
        padding: what a shift brings in: black (0), or the picture reflected at its edge. A turn brings in black.
        flip: mirror every second image, left to right; `alternating`: at random in the first epoch, and from then on
            each image the other way round than in the epoch before, so that two epochs show both ways (Jordan 2024,
            arXiv:2404.00498).
        rotate: turn by up to this many degrees either way.
        scale: enlarge or shrink by up to this fraction.
        cutout: side in pixels of one square that is blacked out; its centre lies anywhere in the picture.

    Raises:
        UserError: a value that makes no sense.
    """

    def __init__(
        self,
        *,
        crop: int = 0,
        padding: Literal["zero", "reflect"] = "zero",
        flip: bool | Literal["alternating"] = False,
        rotate: float = 0.0,
        scale: float = 0.0,
        cutout: int = 0,
    ) -> None:
        for option, value, limit in (
            ("crop", crop, math.inf),
            ("rotate", rotate, 180),
            ("scale", scale, 0.9),
            ("cutout", cutout, math.inf),
        ):
            if not 0 <= value <= limit:
                allowed = "at least 0" if limit == math.inf else f"between 0 and {limit}"
                raise UserError(f"data.augment.{option}={value} must be {allowed}")
        if padding not in ("zero", "reflect"):
            raise UserError(f"data.augment.padding={padding} must be zero or reflect")
        if flip not in (True, False, "alternating"):
            raise UserError(f"data.augment.flip={flip} must be true, false or alternating")
        self.crop = crop
        self.padding = padding
        self.flip = flip
        self.rotate = rotate
        self.scale = scale
        self.cutout = cutout

    @property
    def active(self) -> bool:
        return bool(self.crop or self.flip or self.rotate or self.scale or self.cutout)

    def __call__(self, images: Tensor, index: Tensor, *, seed: int, epoch: int) -> Tensor:
        """Augmented copy of images (B, C, H, W) whose rows in the dataset are index (B,)."""
        if not self.active:
            return images
        draw = draws(index, mix(seed, _AUGMENTATION, epoch), _STREAMS)
        if self.rotate or self.scale:
            angle = _spread(draw[_ANGLE], math.radians(self.rotate))
            images = _transform(images, angle, 1 + _spread(draw[_SIZE], self.scale))
        if self.crop:
            places = 2 * self.crop + 1
            padded = _reflected(images, self.crop) if self.padding == "reflect" else F.pad(images, (self.crop,) * 4)
            images = _windows(padded, images.shape, _below(draw[_UP], places), _below(draw[_LEFT], places))
        if self.flip:
            side = draw[_FLIP]
            if self.flip == "alternating":
                side = draws(index, mix(seed, _AUGMENTATION), 1)[0] + epoch
            images = torch.where((side & 1).bool().view(-1, 1, 1, 1), images.flip(-1), images)
        if self.cutout:
            height, width = images.shape[-2:]
            images = _cut(images, self.cutout, _below(draw[_ROW], height), _below(draw[_COLUMN], width))
        return images


def _below(draw: Tensor, n: int) -> Tensor:
    """Integers in [0, n)."""
    return (draw * n) >> BITS


def _spread(draw: Tensor, limit: float) -> Tensor:
    """Doubles in [-limit, limit), or floats where the device has no doubles."""
    return (draw.to(torch.float32 if draw.device.type == "mps" else torch.float64) * 2.0 ** (1 - BITS) - 1) * limit


def _reflected(images: Tensor, limit: int) -> Tensor:
    """Images padded by `limit` pixels all round, reflected at their edges; torch's own takes floats only."""
    for dim in (-2, -1):
        last = images.shape[dim] - 1
        place = torch.arange(-limit, last + limit + 1, device=images.device).remainder(max(1, 2 * last))
        images = images.index_select(dim, last - (place - last).abs())
    return images


def _windows(padded: Tensor, shape: torch.Size, up: Tensor, left: Tensor) -> Tensor:
    """Windows of this shape (B, C, H, W) out of padded images; up and left (B,) say where they start."""
    windows = padded.unfold(2, shape[2], 1).unfold(3, shape[3], 1)  # a view (B, C, 2l+1, 2l+1, H, W)
    return windows[torch.arange(len(padded), device=padded.device), :, up, left]


def _transform(images: Tensor, angle: Tensor, size: Tensor) -> Tensor:
    """Turn by angle (B,) in radians and enlarge by size (B,), about the centre, with bilinear interpolation."""
    height, width = images.shape[-2:]
    # in double and then rounded: float32 sines differ in the last bit with the place in a vector
    cos, sin = ((f(angle) / size).float().view(-1, 1, 1) for f in (torch.cos, torch.sin))
    y = torch.arange(height, device=images.device).view(-1, 1) - (height - 1) / 2
    x = torch.arange(width, device=images.device) - (width - 1) / 2
    grid = torch.stack(((cos * x + sin * y) * (2 / width), (cos * y - sin * x) * (2 / height)), dim=-1)
    moved = F.grid_sample(images.float(), grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    return moved if images.is_floating_point() else moved.round_().clamp_(0, 255).to(images.dtype)


def _cut(images: Tensor, side: int, row: Tensor, column: Tensor) -> Tensor:
    height, width = images.shape[-2:]
    device = images.device
    rows = torch.arange(height, device=device) - (row.unsqueeze(1) - side // 2)  # (B, H), 0 at the square's first row
    columns = torch.arange(width, device=device) - (column.unsqueeze(1) - side // 2)
    inside = ((rows >= 0) & (rows < side)).unsqueeze(2) & ((columns >= 0) & (columns < side)).unsqueeze(1)
    return images.masked_fill(inside.unsqueeze(1), 0)
