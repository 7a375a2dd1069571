"""Boxes drawn over their images, and images beside each other."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
import torch
from matplotlib.figure import Figure
from torch import Tensor

from src.plots.examples import grid

SIDE = 320  # pixels: smaller images are magnified by a whole number before boxes are drawn

# of matplotlib's tab10, without its grey: they can be told apart, also by most who see few colours
COLOURS = ("#1f77b4", "#ff7f0e", "#2ca02c", "#d62728", "#9467bd", "#8c564b", "#e377c2", "#bcbd22", "#17becf")


def draw_boxes(image: Tensor, boxes: Tensor, labels: Tensor, names: Sequence[str], levels: int = 255) -> Tensor:
    """An image (C, H, W) as uint8 (3, H, W), magnified where it is small, its boxes in the colours of their classes.

    Args:
        boxes: (K, 4) in its pixels.
        labels: of each (K,).
        names: what is written at each of the K boxes; none where there are none.
    """
    from torchvision.utils import draw_bounding_boxes  # noqa: PLC0415 (a run of any other task would wait for it)

    picture = (image.float() * (255 / levels)).round().clamp(0, 255).to(torch.uint8).expand(3, -1, -1)
    larger = max(1, SIDE // max(picture.shape[1:]))
    picture = picture.repeat_interleave(larger, 1).repeat_interleave(larger, 2)
    if not len(boxes):
        return picture
    longest = max(picture.shape[1:])
    return draw_bounding_boxes(
        picture,
        boxes * larger,
        labels=list(names) or None,
        colors=[COLOURS[label % len(COLOURS)] for label in labels.tolist()],
        width=max(1, round(longest / 320)),
        **_letters(longest),
    )


def _letters(longest: int) -> dict[str, Any]:
    """A font that grows with the picture: matplotlib's own, which is there wherever matplotlib is."""
    font = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"
    return {"font": str(font), "font_size": max(9, round(longest / 45))} if font.is_file() else {}


def pairs(pictures: Tensor, titles: Sequence[str]) -> Figure:
    """Pictures (2 N, 3, H, W) in two or four columns, each under its title; the first two are a pair, and so on."""
    height, width = pictures.shape[-2:]
    across = 2 if len(pictures) > 2 else 1
    size = 3.4 * width / max(height, width), 3.4 * height / max(height, width)
    rows = math.ceil(len(pictures) / 2 / across)
    figure, axes = grid(rows, 2 * across, size, (0.08, 0.3), (0.1, 0.1, 0.1, 0.4))
    for ax in axes.flat:
        ax.set_axis_off()
    for ax, picture, title in zip(axes.flat, pictures, titles, strict=False):
        ax.imshow(picture.permute(1, 2, 0).numpy(), interpolation="nearest")
        ax.set_title(title, fontsize=9)
    return figure
