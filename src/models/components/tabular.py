"""Input layer for rows of a table: categories embedded, numbers as they are or as sines and cosines.

Guo and Berkhahn 2016 (arXiv:1604.06737) for categories; Gorishniy, Rubachev and Babenko 2022 (arXiv:2203.05556) for
numbers.
"""

from __future__ import annotations

from math import ceil, pi

import torch
from torch import Tensor, nn

NUMBER_SIZE = 16


class EmbeddedRow(nn.Module):
    """Columns (B, F), codes of categories last, to one row of numbers (B, size).

    Args:
        columns: F.
        cardinalities: codes of each column of categories, 0 (the unknown) included.
        embedding_size: of a category; None: fastai's rule, min(50, 1.6 n^0.56) rounded up, for n codes.
        num_frequencies: sines and cosines of each number that a linear layer and a ReLU make 16 numbers of; 0: the
            number itself.
        frequency_scale: standard deviation of the frequencies before training, which changes them.

    """

    def __init__(
        self,
        columns: int,
        cardinalities: tuple[int, ...],
        embedding_size: int | None,
        num_frequencies: int,
        frequency_scale: float,
    ) -> None:
        super().__init__()
        self.numbers = columns - len(cardinalities)
        tables = [nn.Embedding(n, embedding_size or min(50, ceil(1.6 * n**0.56))) for n in cardinalities]
        self.embeddings = nn.ModuleList(tables)
        for table in tables:
            nn.init.normal_(table.weight, std=0.1)
            nn.init.zeros_(table.weight[0])  # the unknown, of which training may show nothing
        self.frequencies = self.mix = self.bias = None
        size = self.numbers
        if num_frequencies and self.numbers:
            self.frequencies = nn.Parameter(torch.randn(self.numbers, num_frequencies) * frequency_scale)
            self.mix = nn.Parameter(torch.empty(self.numbers, 2 * num_frequencies, NUMBER_SIZE))
            nn.init.uniform_(self.mix, -((2 * num_frequencies) ** -0.5), (2 * num_frequencies) ** -0.5)
            self.bias = nn.Parameter(torch.zeros(self.numbers, NUMBER_SIZE))
            size = self.numbers * NUMBER_SIZE
        self.size = size + sum(table.embedding_dim for table in tables)

    def forward(self, x: Tensor) -> Tensor:
        """Columns (B, F) to one row of numbers (B, size)."""
        numbers, codes = x[:, : self.numbers], x[:, self.numbers :].long().unbind(1)
        if self.frequencies is not None and self.bias is not None:
            angles = 2 * pi * self.frequencies * numbers.unsqueeze(2)  # (B, F, K)
            waves = torch.cat([angles.sin(), angles.cos()], 2)
            numbers = (torch.einsum("bfk,fkd->bfd", waves, self.mix) + self.bias).relu().flatten(1)
        return torch.cat([numbers, *(table(code) for table, code in zip(self.embeddings, codes, strict=True))], 1)
