"""The adding problem (Hochreiter and Schmidhuber 1997): two of many numbers are marked; what is their sum?"""

from __future__ import annotations

from typing import Annotated, Unpack

import torch
from annotated_types import Ge
from typing_extensions import override

from src.data.core.module import DataModule
from src.data.core.options import LoaderOptions, with_defaults
from src.data.core.splits import Split
from src.runtime.ranges import PositiveInt
from src.runtime.stateless_random import generator
from src.spec import InputSpec, SeriesSpec


class Adding(DataModule):
    """Sequences (length, 2) of a number in [0, 1) and a mark, which two of the numbers have, one in each half.

    The target is the sum of the two. Whoever remembers nothing answers 1 always, at a mean squared error of 1/6: the
    form of the problem that Le et al. 2015 (arXiv:1504.00941) and others use.

    Args:
        length: of a sequence.
        rows: training sequences.
        val_rows, test_rows: fresh draws.
        data_seed: of all draws.

    Raises:
        UserError: a length below 2, or a part without rows.
    """

    name = "adding"
    inputs = (SeriesSpec,)
    tasks = ("regression",)
    source = "torch.rand"

    def __init__(
        self,
        *,
        length: Annotated[int, Ge(2)] = 100,
        rows: PositiveInt = 10_000,
        val_rows: PositiveInt = 1_000,
        test_rows: PositiveInt = 2_000,
        data_seed: int = 0,
        **common: Unpack[LoaderOptions],
    ) -> None:
        super().__init__(split_seed=data_seed, standardize=False, **with_defaults(common, batch_size=50))
        self.sizes = {"train": rows, "val": val_rows, "test": test_rows}
        self.length, self.data_seed = length, data_seed

    @override
    def load(self) -> dict[str, Split]:
        # each part from its own stream: another number of rows in one changes no other
        return {
            name: self._drawn(rows, generator(self.data_seed, number))
            for number, (name, rows) in enumerate(self.sizes.items())
        }

    def _measure_input(self, **more: object) -> InputSpec:
        return super()._measure_input(feature_names=("number", "mark"), **more)

    def _drawn(self, rows: int, random: torch.Generator) -> Split:
        numbers = torch.rand(rows, self.length, generator=random)
        half = self.length // 2
        first = torch.randint(0, half, (rows, 1), generator=random)
        second = torch.randint(half, self.length, (rows, 1), generator=random)
        marked = torch.cat([first, second], dim=1)
        marks = torch.zeros_like(numbers).scatter_(1, marked, 1.0)
        return {"input": torch.stack([numbers, marks], dim=2), "target": numbers.gather(1, marked).sum(1)}
