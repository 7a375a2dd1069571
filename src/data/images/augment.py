"""Random changes to a batch of images, each drawn from (seed, epoch, index of the image) and nothing else."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

import torch
import torch.nn.functional as F
from annotated_types import Interval
from torch import Tensor
from typing_extensions import override

from src.data.core.augmentation import InputChange
from src.errors import UserError
from src.runtime.ranges import NonNegativeFloat, checked
from src.runtime.stateless_random import BITS, draws, mix

_AUGMENTATION = 2  # keeps these draws apart from the order, which comes from the same seed
_UP, _LEFT, _FLIP, _ANGLE, _SIZE, _ROW, _COLUMN, _BRIGHT, _CONTRAST, _COLOR, _STREAMS = range(11)

# For any size of picture. Mirrored digits, letters, signs and scans are other ones: light turns nothing round.
PRESETS: dict[str | None, dict[str, Any]] = {
    None: {},
    "light": {"crop": 0.06, "padding": "reflect", "rotate": 5, "scale": 0.05},
    "photo": {"crop": 0.12, "padding": "reflect", "flip": True, "rotate": 10, "scale": 0.1, "color": 0.2},
    "strong": {
        **{"crop": 0.12, "padding": "reflect", "flip": True, "rotate": 15, "scale": 0.2, "color": 0.4},
        "cutout": 0.25,
    },
}


class Augment(InputChange):
    """Changes images (B, C, H, W), uint8 or float, on any device, and keeps their dtype.

    Args:
        preset: `light` (small shifts, turns and changes of size), `photo` (larger ones, mirrored, light and colour),
            `strong` (more of each, and a square blacked out). Options that are set as well win; what neither sets is
            off.
        crop: shift by up to this many pixels in each direction (a random crop of the picture padded by as many); below
            1 it is that share of the shorter side.
        padding: what a shift or a turn brings in: black (zero), or the picture reflected at its edge.
        flip: mirror every second image, left to right; `alternating`: at random in the first epoch, and from then on
            each image the other way round than in the epoch before, so that two epochs show both ways (Jordan 2024,
            arXiv:2404.00498).
        rotate: turn by up to this many degrees either way.
        scale: enlarge or shrink by up to this fraction.
        color: brightness, contrast and saturation each become up to this fraction more or less.
        cutout: side in pixels of one square that is blacked out, its centre anywhere in the picture; below 1 the share
            of the shorter side.

    Raises:
        UserError: a value that makes no sense.
    """

    @checked("data.augment")
    def __init__(
        self,
        *,
        preset: Literal["light", "photo", "strong"] | None = None,
        crop: NonNegativeFloat | None = None,
        padding: Literal["zero", "reflect"] | None = None,
        flip: bool | Literal["alternating"] | None = None,
        rotate: Annotated[float, Interval(ge=0, le=180)] | None = None,
        scale: Annotated[float, Interval(ge=0, le=0.9)] | None = None,
        color: Annotated[float, Interval(ge=0, le=0.9)] | None = None,
        cutout: NonNegativeFloat | None = None,
    ) -> None:
        if preset not in PRESETS:
            raise UserError(f"data.augment.preset={preset} must be {', '.join(filter(None, PRESETS))} or null")
        own = dict(crop=crop, padding=padding, flip=flip, rotate=rotate, scale=scale, color=color, cutout=cutout)
        chosen = PRESETS[preset] | {name: value for name, value in own.items() if value is not None}
        for option in ("crop", "cutout"):
            value = chosen.get(option, 0)
            if value >= 1 and value != int(value):
                raise UserError(f"data.augment.{option}={value} must be whole pixels, or a share of the side below 1")
        self.padding = chosen.get("padding", "zero")
        self.flip = chosen.get("flip", False)
        if self.padding not in ("zero", "reflect"):
            raise UserError(f"data.augment.padding={padding} must be zero or reflect")
        if self.flip not in (True, False, "alternating"):
            raise UserError(f"data.augment.flip={flip} must be true, false or alternating")
        self.crop, self.rotate, self.scale, self.color, self.cutout = (
            chosen.get(option, 0) for option in ("crop", "rotate", "scale", "color", "cutout")
        )

    @property
    @override
    def active(self) -> bool:
        return bool(self.crop or self.flip or self.rotate or self.scale or self.color or self.cutout)

    def __call__(self, images: Tensor, index: Tensor, *, seed: int, epoch: int) -> Tensor:
        """Augmented copy of images (B, C, H, W) whose rows in the dataset are index (B,)."""
        if not self.active:
            return images
        draw = draws(index, mix(seed, _AUGMENTATION, epoch), _STREAMS)
        if self.rotate or self.scale:
            angle = spread(draw[_ANGLE], math.radians(self.rotate))
            images = _transform(images, angle, 1 + spread(draw[_SIZE], self.scale), self.padding)
        if crop := _pixels(self.crop, images):
            places = 2 * crop + 1
            padded = _reflected(images, crop) if self.padding == "reflect" else F.pad(images, (crop,) * 4)
            images = _windows(padded, images.shape, _below(draw[_UP], places), _below(draw[_LEFT], places))
        if self.flip:
            side = draw[_FLIP]
            if self.flip == "alternating":
                side = draws(index, mix(seed, _AUGMENTATION), 1)[0] + epoch
            images = torch.where((side & 1).bool().view(-1, 1, 1, 1), images.flip(-1), images)
        if self.color:
            factors = (1 + spread(draw[stream], self.color) for stream in (_BRIGHT, _CONTRAST, _COLOR))
            images = colored(images, *(factor.float().view(-1, 1, 1, 1) for factor in factors))
        if cutout := _pixels(self.cutout, images):
            height, width = images.shape[-2:]
            images = _cut(images, cutout, _below(draw[_ROW], height), _below(draw[_COLUMN], width))
        return images


def _pixels(extent: float, images: Tensor) -> int:
    """A share of the shorter side in pixels, at least one; whole numbers are pixels already."""
    return max(1, round(extent * min(images.shape[-2:]))) if 0 < extent < 1 else int(extent)


def _below(draw: Tensor, n: int) -> Tensor:
    """Integers in [0, n)."""
    return (draw * n) >> BITS


def spread(draw: Tensor, limit: float) -> Tensor:
    """Doubles in [-limit, limit), or floats where the device has no doubles."""
    return (draw.to(torch.float32 if draw.device.type == "mps" else torch.float64) * 2.0 ** (1 - BITS) - 1) * limit


def _reflected(images: Tensor, limit: int) -> Tensor:
    """Pad images by `limit` pixels all round, reflected at their edges; torch's own takes floats only."""
    for dim in (-2, -1):
        last = images.shape[dim] - 1
        place = torch.arange(-limit, last + limit + 1, device=images.device).remainder(max(1, 2 * last))
        images = images.index_select(dim, last - (place - last).abs())
    return images


def _windows(padded: Tensor, shape: torch.Size, up: Tensor, left: Tensor) -> Tensor:
    """Windows of this shape (B, C, H, W) out of padded images; up and left (B,) say where they start."""
    windows = padded.unfold(2, shape[2], 1).unfold(3, shape[3], 1)  # a view (B, C, 2l+1, 2l+1, H, W)
    return windows[torch.arange(len(padded), device=padded.device), :, up, left]


def _transform(images: Tensor, angle: Tensor, size: Tensor, padding: str) -> Tensor:
    """Turn by angle (B,) in radians and enlarge by size (B,), about the centre, with bilinear interpolation."""
    height, width = images.shape[-2:]
    # in double and then rounded: float32 sines differ in the last bit with the place in a vector
    cos, sin = ((f(angle) / size).float().view(-1, 1, 1) for f in (torch.cos, torch.sin))
    y = torch.arange(height, device=images.device).view(-1, 1) - (height - 1) / 2
    x = torch.arange(width, device=images.device) - (width - 1) / 2
    grid = torch.stack(((cos * x + sin * y) * (2 / width), (cos * y - sin * x) * (2 / height)), dim=-1)
    mode = "reflection" if padding == "reflect" else "zeros"
    moved = F.grid_sample(images.float(), grid, mode="bilinear", padding_mode=mode, align_corners=False)
    return like_input(moved, images)


def colored(images: Tensor, brightness: Tensor, contrast: Tensor, saturation: Tensor) -> Tensor:
    """Change brightness, contrast and saturation of images by factors, each (B, 1, 1, 1)."""
    # in whole numbers the sum is exact, whatever the order in which a device adds
    total = images.sum((1, 2, 3), keepdim=True, dtype=torch.float64 if images.is_floating_point() else torch.int64)
    mean = (total / images[0].numel()).float()
    changed = images.float()
    if images.shape[1] == 3:
        red, green, blue = changed.split(1, dim=1)
        grey = 0.299 * red + 0.587 * green + 0.114 * blue  # ITU-R BT.601
        changed = grey + saturation * (changed - grey)
    return like_input((mean + contrast * (changed - mean)) * brightness, images)


def like_input(changed: Tensor, images: Tensor) -> Tensor:
    """Convert changed images to the dtype of the images: whole numbers from 0 to 255, or floats as they are."""
    return changed if images.is_floating_point() else changed.round_().clamp_(0, 255).to(images.dtype)


def _cut(images: Tensor, side: int, row: Tensor, column: Tensor) -> Tensor:
    height, width = images.shape[-2:]
    device = images.device
    rows = torch.arange(height, device=device) - (row.unsqueeze(1) - side // 2)  # (B, H), 0 at the square's first row
    columns = torch.arange(width, device=device) - (column.unsqueeze(1) - side // 2)
    inside = ((rows >= 0) & (rows < side)).unsqueeze(2) & ((columns >= 0) & (columns < side)).unsqueeze(1)
    return images.masked_fill(inside.unsqueeze(1), 0)
