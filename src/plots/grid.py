"""Images in a grid."""

from __future__ import annotations

import torch
from PIL import Image
from torch import Tensor

ACROSS = 8  # in a row of a grid


SIDE = 48  # pixels: smaller images are magnified by a whole number


THUMBNAIL = 256  # pixels


def grid(images: Tensor, across: int = ACROSS) -> Image.Image:
    """Images (N, C, H, W) in [0, 1] of one or three channels, so many in a row, with a line between them."""
    from torchvision.utils import make_grid  # noqa: PLC0415 (a run that draws no images would wait for it)

    larger = max(1, SIDE // min(images.shape[2:]))
    images = images.detach().float().cpu().clamp(0, 1)
    images = images.repeat_interleave(larger, 2).repeat_interleave(larger, 3)
    whole = make_grid(images, nrow=across, padding=2, pad_value=0.5)
    return Image.fromarray((whole * 255).round().to(torch.uint8).permute(1, 2, 0).numpy())
