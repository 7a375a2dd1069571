"""SpecAugment (Park et al. 2019, arXiv:1904.08779): random masks over spectrograms; shifts in time and in pitch."""

from __future__ import annotations

import torch
from torch import Tensor
from typing_extensions import override

from src.data.core.augmentation import InputChange
from src.runtime.ranges import NonNegativeInt, Share, checked
from src.runtime.stateless_random import BITS, draws, mix

_SPECTRUM = 11  # keeps these draws apart from the order, which comes from the same seed


class SpecAugment(InputChange):
    """Changes log-mel images (B, 1, frames, bands), on any device; each is drawn from (seed, epoch, index).

    Args:
        shift: move in time by up to this share of the frames either way; silence comes in.
        stretch: play up to this share faster or slower, about the middle, pitch staying (Ko et al. 2015, "Audio
            augmentation for speech recognition").
        band_shift: likewise by bands: a voice of another pitch and vocal tract, as Jaitly and Hinton 2013 warp it.
        time_masks, time_width: so many stretches of frames, each up to this share of all long, become the image's mean.
        band_masks, band_width: the same of bands.

    Raises:
        UserError: a value out of its range.
    """

    @checked("data.augment")
    def __init__(
        self,
        *,
        shift: Share = 0.0,
        stretch: Share = 0.0,
        band_shift: Share = 0.0,
        time_masks: NonNegativeInt = 0,
        time_width: Share = 0.2,
        band_masks: NonNegativeInt = 0,
        band_width: Share = 0.2,
    ) -> None:
        self.shift, self.stretch, self.band_shift = shift, stretch, band_shift
        self.time_masks, self.time_width = time_masks, time_width
        self.band_masks, self.band_width = band_masks, band_width

    @property
    @override
    def active(self) -> bool:
        return bool(self.shift or self.stretch or self.band_shift or self.time_masks or self.band_masks)

    def __call__(self, images: Tensor, index: Tensor, *, seed: int, epoch: int) -> Tensor:
        """Augmented copy of images (B, 1, frames, bands) whose rows in the dataset are index (B,)."""
        if not self.active:
            return images
        streams = 3 + 2 * (self.time_masks + self.band_masks)
        time, *masks, pitch, tempo = draws(index, mix(seed, _SPECTRUM, epoch), streams)
        draw = iter(masks)
        frames, bands = images.shape[2:]
        images = _stretched(images, tempo, self.stretch)
        images = _shifted(images, time, int(self.shift * frames))
        images = _shifted(images.mT, pitch, int(self.band_shift * bands)).mT
        hidden = torch.zeros_like(images[:, 0], dtype=torch.bool)  # (B, frames, bands)
        for _ in range(self.time_masks):
            hidden |= _stretch(next(draw), next(draw), frames, self.time_width).unsqueeze(2)
        for _ in range(self.band_masks):
            hidden |= _stretch(next(draw), next(draw), bands, self.band_width).unsqueeze(1)
        # summed in double: whatever the order in which a device adds, the mean is the same float
        mean = images.double().mean((1, 2, 3), keepdim=True).to(images.dtype)
        return torch.where(hidden.unsqueeze(1), mean, images)


def _stretch(width: Tensor, start: Tensor, length: int, share: float) -> Tensor:
    """Mask (B, length) of the places inside a stretch drawn for each row."""
    width = (width * (int(share * length) + 1)) >> BITS  # from 0 to the most, as the paper draws it
    start = (start * (length - width + 1)) >> BITS
    place = torch.arange(length, device=width.device)
    return (place >= start.unsqueeze(1)) & (place < (start + width).unsqueeze(1))


def _shifted(images: Tensor, draw: Tensor, most: int) -> Tensor:
    """Move each image by -most to most frames."""
    if not most:
        return images
    frames = images.shape[2]
    moved = ((draw * (2 * most + 1)) >> BITS) - most
    place = torch.arange(frames, device=images.device) - moved.unsqueeze(1)  # (B, frames) where each frame comes from
    outside = ((place < 0) | (place >= frames))[:, None, :, None]
    place = place.clamp(0, frames - 1)[:, None, :, None].expand_as(images)
    silence = images.amin((1, 2, 3), keepdim=True)
    return torch.where(outside, silence, images.gather(2, place))


def _stretched(images: Tensor, draw: Tensor, most: float) -> Tensor:
    """Play each image 1 - most to 1 + most times as fast about its middle, interpolating linearly between frames."""
    if not most:
        return images
    frames = images.shape[2]
    speed = 1 + most * (2 * draw.double() / (1 << BITS) - 1)
    middle = (frames - 1) / 2
    place = middle + (torch.arange(frames, device=images.device) - middle) * speed.unsqueeze(1)  # (B, frames)
    outside = ((place < 0) | (place > frames - 1))[:, None, :, None]
    before = place.floor().clamp(0, frames - 2).long()
    share = (place - before).clamp(0, 1).to(images.dtype)[:, None, :, None]
    first, second = (images.gather(2, (before + i)[:, None, :, None].expand_as(images)) for i in (0, 1))
    silence = images.amin((1, 2, 3), keepdim=True)
    return torch.where(outside, silence, first + share * (second - first))
