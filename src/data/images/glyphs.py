"""Made-up letters, each drawn many times by an unsteady hand: many classes of few rows each, made from a seed.

After Omniglot (Lake, Salakhutdinov and Tenenbaum 2015, "Human-level concept learning through probabilistic program
induction"), of which this is no copy: a letter is a few random strokes.
"""

from __future__ import annotations

import math
from typing import Annotated

import numpy as np
import torch
from annotated_types import Ge
from typing_extensions import override

from src.data.core.module import DataModule
from src.data.core.splits import Split
from src.runtime.ranges import NonNegativeFloat
from src.spec import ImageSpec

_POINTS = 24  # of a stroke
_KNOTS = 3  # of a stroke: the ends and the control point of a quadratic Bezier curve


class Glyphs(DataModule):
    """Grey images (1, size, size) of letters that no alphabet has, the same for the same `split_seed`.

    Each drawing of a letter moves the knots of its strokes, turns, resizes, slants and shifts the whole, and has a pen
    of its own width.

    Args:
        letters: classes, named `letter00` and so on.
        drawings: rows of each.
        size: height and width in pixels.
        strokes: of a letter, at most; at least two.
        unsteadiness: how far a drawing is off, 1: knots by 5 % of the side, turned by up to 20 degrees.
    """

    name = "glyphs"
    inputs = (ImageSpec,)
    source = "generated"

    def __init__(
        self,
        *,
        letters: Annotated[int, Ge(2)] = 100,
        drawings: Annotated[int, Ge(2)] = 20,
        size: Annotated[int, Ge(8)] = 20,
        strokes: Annotated[int, Ge(2)] = 3,
        unsteadiness: NonNegativeFloat = 1.0,
        batch_size: int = 64,
        **options,
    ) -> None:
        super().__init__(batch_size=batch_size, **options)
        self.letters, self.drawings, self.size = letters, drawings, size
        self.strokes, self.unsteadiness = strokes, unsteadiness
        digits = len(str(letters - 1))
        self.class_names = tuple(f"letter{number:0{digits}d}" for number in range(letters))

    @override
    def load(self) -> dict[str, Split]:
        draw = np.random.RandomState(self.split_seed)
        images = np.concatenate([self._drawn(draw) for _ in range(self.letters)])
        target = torch.arange(self.letters).repeat_interleave(self.drawings)
        mixed = torch.from_numpy(draw.permutation(len(images)))
        return {"all": {"input": torch.from_numpy(images).unsqueeze(1)[mixed], "target": target[mixed]}}

    def _drawn(self, draw: np.random.RandomState) -> np.ndarray:
        """Draw a new letter, uint8 (R, size, size)."""
        rows, off = self.drawings, self.unsteadiness
        strokes = draw.randint(2, self.strokes + 1)
        knots = draw.uniform(0.15, 0.85, (strokes, _KNOTS, 2))
        knots = knots + off * 0.05 * draw.standard_normal((rows, strokes, _KNOTS, 2))
        angle = off * math.radians(20) * draw.uniform(-1, 1, rows)
        grown, slant = 1 + off * 0.2 * draw.uniform(-1, 1, rows), off * 0.25 * draw.uniform(-1, 1, rows)
        shift = off * 0.1 * draw.uniform(-1, 1, (rows, 1, 2))
        pen = 0.045 * (1 + off * 0.3 * draw.uniform(-1, 1, (rows, 1)))
        time = np.linspace(0, 1, _POINTS)
        weights = np.stack([(1 - time) ** 2, 2 * time * (1 - time), time**2], 1)
        points = np.einsum("tk,rskd->rstd", weights, knots).reshape(rows, -1, 2) - 0.5
        turn = np.stack([np.stack([np.cos(angle), -np.sin(angle)], 1), np.stack([np.sin(angle), np.cos(angle)], 1)], 1)
        lean = np.stack([np.stack([np.ones(rows), slant], 1), np.stack([np.zeros(rows), np.ones(rows)], 1)], 1)
        points = points @ (turn @ lean) * grown[:, None, None] + 0.5 + shift
        place = (np.arange(self.size) + 0.5) / self.size
        across = (place - points[..., :1]) ** 2  # (R, points, size)
        down = (place - points[..., 1:]) ** 2
        nearest = (down[..., :, None] + across[..., None, :]).min(1).reshape(rows, -1)  # squared distance to the ink
        ink = np.exp(-nearest / (2 * pen**2))
        return np.rint(255 * ink).astype(np.uint8).reshape(rows, self.size, self.size)
