"""Scenes: scanned digits scattered over a noisy canvas, for detection without a download."""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
import torch
from annotated_types import Ge, Interval
from PIL import Image
from typing_extensions import override

from src.data.boxes.annotated import Boxes
from src.data.boxes.augment import BoxAugment
from src.data.core.splits import Split, tensor_of
from src.data.images.classic import Digits
from src.errors import UserError
from src.runtime.ranges import PositiveInt

_INK = 0.25  # of the darkest pixel, from which on a pixel belongs to the digit


class Scenes(Boxes):
    """Grey images of one to `most` digits of scikit-learn's scans, enlarged by different factors, on noise.

    A box is that of a digit's ink. Digits overlap little, by at most 10 % of the smaller one's box. The three parts
    show different scans. The images are drawn from `split_seed` alone.

    Args:
        scenes: images of all parts.
        size: height and width in pixels.
        most: digits in one image.
        smallest, largest: side in pixels that a scan of 8x8 is brought to.
        noise: standard deviation of the canvas, of 255.
    """

    name = "scenes"
    source = "sklearn.datasets.load_digits"
    class_names = Digits.class_names

    def __init__(
        self,
        *,
        scenes: Annotated[int, Ge(3)] = 3_000,
        size: int = 64,
        most: PositiveInt = 5,
        smallest: Annotated[int, Ge(8)] = 12,
        largest: int = 28,
        noise: Annotated[float, Interval(ge=0, le=128)] = 16.0,
        augment: BoxAugment | None = None,
        **options: Any,  # noqa: ANN401 (options of the base)
    ) -> None:
        super().__init__(augment=augment, **options)
        if not smallest <= largest <= size:
            raise UserError(
                f"data.smallest={smallest}, data.largest={largest}: from 8 to data.size={size}, in this order"
            )
        self.scenes, self.size, self.most = scenes, size, most
        self.smallest, self.largest, self.noise = smallest, largest, noise

    @override
    def load(self) -> dict[str, Split]:
        digits = Digits().load()["all"]
        scans, labels = tensor_of(digits, "input").squeeze(1).numpy(), tensor_of(digits, "target").numpy()
        order = np.random.RandomState(self.split_seed).permutation(len(scans))
        shares = {"val": self.val_fraction, "test": self.test_fraction}
        if sum(shares.values()) >= 1:
            raise UserError(
                "data.val_fraction and data.test_fraction leave no training rows: their sum must be below 1"
            )
        splits: dict[str, Split] = {}
        taken = drawn = 0
        for stream, (name, share) in enumerate(shares.items(), start=1):
            pool, count = max(1, round(share * len(scans))), max(1, round(share * self.scenes))
            own = order[taken : taken + pool]
            splits[name] = self._part(scans[own], labels[own], count, stream)
            taken, drawn = taken + pool, drawn + count
        own = order[taken:]
        splits["train"] = self._part(scans[own], labels[own], max(1, self.scenes - drawn), 0)
        return {name: splits[name] for name in ("train", "val", "test")}

    def _part(self, scans: np.ndarray, labels: np.ndarray, count: int, stream: int) -> Split:
        draw = np.random.RandomState([self.split_seed & 0xFFFFFFFF, stream])
        noise = draw.randint(-256, 257, (count, self.size, self.size), dtype=np.int16)
        canvas = 48 + np.abs(noise) * (self.noise / 256 * 3**0.5)  # whole numbers first: the same on every machine
        boxes, found = np.zeros((count, self.most, 4), np.float32), np.full((count, self.most), -1)
        for row in range(count):
            for place in range(draw.randint(1, self.most + 1)):
                number = draw.randint(len(scans))
                ink = self._enlarged(scans[number], draw.randint(self.smallest, self.largest + 1))
                height, width = ink.shape
                for _ in range(10):  # tries to find room
                    top, left = draw.randint(self.size - height + 1), draw.randint(self.size - width + 1)
                    box = np.array([left, top, left + width, top + height])
                    if place == 0 or _overlap(box, boxes[row, :place][found[row, :place] >= 0]) <= 0.1:
                        window = canvas[row, top : top + height, left : left + width]
                        np.maximum(window, ink, out=window)
                        boxes[row, place], found[row, place] = box, labels[number]
                        break
        return {
            "input": torch.from_numpy(np.clip(np.rint(canvas), 0, 255).astype(np.uint8)).unsqueeze(1),
            "boxes": torch.from_numpy(boxes),
            "labels": torch.from_numpy(found.astype(np.int64)),
            "size": torch.full((count, 2), self.size),
        }

    @staticmethod
    def _enlarged(scan: np.ndarray, side: int) -> np.ndarray:
        """A scan (8, 8) of up to 16 as a picture of up to 255, cut to its ink."""
        large = np.array(Image.fromarray((scan.astype(np.int16) * 255 // 16).astype(np.uint8)).resize((side, side)))
        dark = large > _INK * large.max()
        rows, columns = dark.any(1).nonzero()[0], dark.any(0).nonzero()[0]
        return large[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def _overlap(box: np.ndarray, others: np.ndarray) -> float:
    """The largest part of the smaller one of two boxes that both share."""
    if not len(others):
        return 0.0
    sides = np.minimum(box[2:], others[:, 2:]) - np.maximum(box[:2], others[:, :2])
    shared = np.maximum(sides, 0).prod(1)
    areas = (others[:, 2:] - others[:, :2]).prod(1)
    return float((shared / np.minimum(areas, (box[2:] - box[:2]).prod())).max())
