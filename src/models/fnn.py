"""Feed-forward network (multi-layer perceptron) on tables, and on images read as one long row.

Rumelhart, Hinton and Williams 1986, "Learning representations by back-propagating errors". Columns of categories are
embedded first, numbers if asked for.
"""

from __future__ import annotations

from math import prod
from typing import Literal

from torch import Tensor, nn

from src.models.base import Model
from src.models.components.layers import ACTIVATIONS, Activation, BatchNorm1d, initialize
from src.models.components.tabular import EmbeddedRow
from src.runtime.ranges import NonNegativeInt, PositiveFloat, PositiveInt, Share
from src.spec import DataSpec, ImageSpec, TableSpec
from src.tasks import Task

NORMS = {"none": nn.Identity, "batch": BatchNorm1d, "layer": nn.LayerNorm}


class FNN(Model):
    """Linear, norm, activation, dropout, `depth` times; then a linear head.

    Args:
        spec: what the data is; the input is flattened, so any shape will do. Its last columns are the codes of
            categories where it has `cardinalities`.
        task: gives the number of outputs.
        depth: number of hidden layers.
        width: units of each hidden layer.
        hidden_sizes: units of each hidden layer, one by one; stands in for depth and width.
        activation: between the layers.
        dropout: share of hidden units dropped in training.
        norm: before each activation.
        embedding_size, num_frequencies, frequency_scale: of a table's columns, see EmbeddedRow.
    """

    inputs = (TableSpec, ImageSpec)
    tasks = ("classification", "binary", "regression")

    def __init__(
        self,
        spec: DataSpec,
        task: Task,
        *,
        depth: NonNegativeInt = 2,
        width: PositiveInt = 128,
        hidden_sizes: list[PositiveInt] | None = None,
        activation: Activation = "relu",
        dropout: Share = 0.0,
        norm: Literal["none", "batch", "layer"] = "none",
        embedding_size: PositiveInt | None = None,
        num_frequencies: NonNegativeInt = 0,
        frequency_scale: PositiveFloat = 0.1,
    ) -> None:
        super().__init__(spec, task)
        sizes = [width] * depth if hidden_sizes is None else list(hidden_sizes)
        layers: list[nn.Module] = []
        size = prod(spec.input_shape)
        self.row: nn.Module = nn.Identity()
        if isinstance(spec.input, TableSpec) and (spec.input.cardinalities or num_frequencies):
            row = EmbeddedRow(size, spec.input.cardinalities, embedding_size, num_frequencies, frequency_scale)
            self.row, size = row, row.size
        for hidden in sizes:
            layers.append(nn.Linear(size, hidden, bias=norm != "batch"))  # which takes the mean away
            if norm != "none":
                layers.append(NORMS[norm](hidden))
            layers.append(ACTIVATIONS[activation]())
            if dropout:
                layers.append(nn.Dropout(dropout))
            size = hidden
        self.body = nn.Sequential(*layers)
        self.head = nn.Linear(size, task.num_outputs)
        initialize(self.body, activation)

    def forward(self, x: Tensor) -> Tensor:
        """Raw input (B, ...) to outputs (B, num_outputs)."""
        return self.head(self.body(self.row(self.normalize(x).flatten(1))))
