"""Random changes to images with boxes, which follow: each drawn from (seed, epoch, index of the image)."""

from __future__ import annotations

from typing import Annotated

import torch
import torch.nn.functional as F
from annotated_types import Interval
from torch import Tensor
from typing_extensions import override

from src.data.core.augmentation import BatchChange
from src.data.core.loader import Batch
from src.data.images.augment import colored, like_input, spread
from src.errors import UserError
from src.runtime.ranges import checked
from src.runtime.stateless_random import BITS, draws, mix

_BOXES = 12  # keeps these draws apart from the order, which comes from the same seed
_FLIP, _TURN, _QUARTER, _SIZE, _WIDE, _DOWN, _RIGHT, _BRIGHT, _CONTRAST, _COLOR, _STREAMS = range(11)
VISIBLE = 0.3  # of a box's area that has to be left, or it goes
_FILL = 114  # what comes in from outside, as around images that do not fill the input


class BoxAugment(BatchChange):
    """Changes a batch of images (B, C, H, W) and their boxes, on any device.

    A box that a change moves out of the image is cut off at its edge, and left out where less than 30 % of it is left.

    Args:
        flip: mirror every second image, left to right.
        flip_vertical: likewise, upside down; for pictures without an above, as through a microscope.
        turn: of square inputs, turn every second image by a quarter, likewise.
        scale: enlarge or shrink by up to this fraction.
        stretch: width and height become up to this fraction more or less of each other.
        shift: move by up to this share of the sides in each direction.
        color: brightness, contrast and saturation each become up to this fraction more or less.

    Raises:
        UserError: a value out of its range.
    """

    @checked("data.augment")
    def __init__(
        self,
        *,
        flip: bool = False,
        flip_vertical: bool = False,
        turn: bool = False,
        scale: Annotated[float, Interval(ge=0, le=0.9)] = 0.0,
        stretch: Annotated[float, Interval(ge=0, le=0.9)] = 0.0,
        shift: Annotated[float, Interval(ge=0, le=0.9)] = 0.0,
        color: Annotated[float, Interval(ge=0, le=0.9)] = 0.0,
    ) -> None:
        self.flip, self.flip_vertical, self.turn = flip, flip_vertical, turn
        self.scale, self.stretch, self.shift, self.color = scale, stretch, shift, color

    @property
    @override
    def active(self) -> bool:
        return bool(self.flip or self.flip_vertical or self.turn or self._moves or self.color)

    @property
    def _moves(self) -> bool:
        return bool(self.scale or self.stretch or self.shift)

    def __call__(self, batch: Batch, *, seed: int, epoch: int) -> Batch:
        """A changed copy of a batch of `input`, `boxes` (B, M, 4), `labels` (B, M) and `index` (B,)."""
        images, boxes, labels = batch["input"], batch["boxes"], batch["labels"]
        height, width = images.shape[-2:]
        draw = draws(batch["index"], mix(seed, _BOXES, epoch), _STREAMS)
        if self.flip:
            images, boxes = _mirrored(images, boxes, _every_second(draw[_FLIP]), -1, width)
        if self.flip_vertical:
            images, boxes = _mirrored(images, boxes, _every_second(draw[_TURN]), -2, height)
        if self.turn:
            if height != width:
                raise UserError(f"data.augment.turn=true is for square inputs, these are {height}x{width}")
            some = _every_second(draw[_QUARTER])
            images = torch.where(some.view(-1, 1, 1, 1), images.transpose(-1, -2), images)
            boxes = torch.where(some.view(-1, 1, 1), boxes[..., [1, 0, 3, 2]], boxes)
        if self._moves:
            images, boxes = self._moved(images, boxes, draw)
        if self.color:
            factors = (1 + spread(draw[stream], self.color) for stream in (_BRIGHT, _CONTRAST, _COLOR))
            images = colored(images, *(factor.float().view(-1, 1, 1, 1) for factor in factors))
        seen = torch.stack([boxes[..., 0::2].clamp(0, width), boxes[..., 1::2].clamp(0, height)], dim=3).flatten(2)
        kept = (labels >= 0) & (_area(seen) > VISIBLE * _area(boxes)) & (_area(seen) > 0)
        labels = labels.where(kept, -1)
        return {**batch, "input": images, "boxes": seen.where(kept.unsqueeze(2), 0), "labels": labels}

    def _moved(self, images: Tensor, boxes: Tensor, draw: Tensor) -> tuple[Tensor, Tensor]:
        """Enlarge about the centre and move, with bilinear interpolation."""
        height, width = images.shape[-2:]
        size, wide = 1 + spread(draw[_SIZE], self.scale), 1 + spread(draw[_WIDE], self.stretch)
        # in double and then rounded: float32 roots differ in the last bit with the place in a vector
        by_x, by_y = (size * wide.sqrt()).float(), (size / wide.sqrt()).float()  # (B,)
        right, down = (spread(draw[stream], self.shift).float() for stream in (_RIGHT, _DOWN))
        one = images.shape[0]
        x = torch.linspace(-1 + 1 / width, 1 - 1 / width, width, device=images.device)
        y = torch.linspace(-1 + 1 / height, 1 - 1 / height, height, device=images.device)
        x = ((x - 2 * right.unsqueeze(1)) / by_x.unsqueeze(1)).unsqueeze(1).expand(one, height, width)
        y = ((y - 2 * down.unsqueeze(1)) / by_y.unsqueeze(1)).unsqueeze(2).expand(one, height, width)
        floats = images.float() - _FILL
        moved = F.grid_sample(floats, torch.stack([x, y], dim=3), mode="bilinear", align_corners=False) + _FILL
        factor = torch.stack([by_x, by_y, by_x, by_y], dim=1).unsqueeze(1)
        sides = torch.tensor([width, height, width, height], dtype=boxes.dtype, device=boxes.device)
        shift = torch.stack([right, down, right, down], dim=1).unsqueeze(1) * sides
        return like_input(moved, images), (boxes - sides / 2) * factor + sides / 2 + shift


def _every_second(draw: Tensor) -> Tensor:
    return (draw >> (BITS - 1)).bool()


def _mirrored(images: Tensor, boxes: Tensor, some: Tensor, dim: int, side: int) -> tuple[Tensor, Tensor]:
    """Mirror some images (B,) along a dimension of this length; boxes of padding change too, their labels do not."""
    low = 0 if dim == -1 else 1
    turned = boxes.clone()
    turned[..., low], turned[..., low + 2] = side - boxes[..., low + 2], side - boxes[..., low]
    images = torch.where(some.view(-1, 1, 1, 1), images.flip(dim), images)
    return images, torch.where(some.view(-1, 1, 1), turned, boxes)


def _area(boxes: Tensor) -> Tensor:
    return (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])
