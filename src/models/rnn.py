"""Recurrent networks on sequences: the plain one (Elman 1990), LSTM (Hochreiter and Schmidhuber 1997, with the forget
gate of Gers et al. 2000) and GRU (Cho et al. 2014, arXiv:1406.1078).

A sequence is a text, a stretch of a series, or an image read row by row. Padding at the end never changes an output:
a forward layer meets it after all else, a backward layer reads each sequence turned round within its own length.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Literal

import torch
from torch import Tensor, nn

from src.errors import UserError
from src.models.base import Model
from src.models.components.layers import WindowNorm, WindowNormKind
from src.models.components.sampling import continuation
from src.runtime.ranges import PositiveInt, Share
from src.spec import DataSpec, Horizon, ImageSpec, SeriesSpec, TextSpec
from src.spec.tokenizer import PAD
from src.tasks import Task

Cell = Literal["rnn", "lstm", "gru"]
Pooling = Literal["last", "mean", "attention"]

CELLS: dict[str, Callable[..., nn.RNNBase]] = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}


class RNN(Model):
    """Layers of recurrent cells, one vector out of all positions, a linear head; or the head at each position.

    Args:
        spec: what the data is: tokens (T,), series (T, F), or images (C, H, W), which are H steps of C * W features.
        task: gives the number of outputs, and whether each position has its own.
        cell: rnn (tanh), lstm or gru.
        hidden_size: units of a layer in each direction.
        num_layers: one upon the other.
        bidirectional: each layer reads both ways.
        dropout: share dropped, in training, of embeddings and of each layer's outputs.
        pooling: what the head sees: the state after the `last` step (the two ends where layers read both ways), the
            `mean` of all steps, or their mean weighted by `attention` (Yang et al. 2016, a score for each step).
        embedding_size: of tokens; null: hidden_size.
        window_norm: for forecasts, level subtracted from each window and added to its forecast; see WindowNorm.

    Raises:
        UserError: a value out of its range, or outputs at each position from layers that read both ways.
    """

    inputs = (ImageSpec, TextSpec, SeriesSpec)
    takes_cache = False
    tasks = ("classification", "binary", "regression", "forecasting", "causal_lm")

    def __init__(
        self,
        spec: DataSpec,
        task: Task,
        *,
        cell: Cell = "lstm",
        hidden_size: PositiveInt = 128,
        num_layers: PositiveInt = 1,
        bidirectional: bool = False,
        dropout: Share = 0.0,
        pooling: Pooling = "last",
        embedding_size: PositiveInt | None = None,
        window_norm: WindowNormKind = "none",
    ) -> None:
        super().__init__(spec, task)
        if cell not in CELLS:
            raise UserError(f"model.cell={cell}: {', '.join(CELLS)}")
        if pooling not in ("last", "mean", "attention"):
            raise UserError(f"model.pooling={pooling}: last, mean or attention")
        if task.per_token and bidirectional:
            raise UserError(f"model.bidirectional=true: task={task.name} foretells what a backward layer has read")
        if isinstance(spec.input, TextSpec):
            self.context = spec.input_shape[0] - 1  # of a text that it goes on writing: as much as it was trained on
            size = embedding_size or hidden_size
            self.embedding = nn.Embedding(len(spec.input.token_counts), size)
        else:
            size = spec.input_shape[-1] * (spec.input_shape[0] if isinstance(spec.input, ImageSpec) else 1)
        forecasts = isinstance(spec.target, Horizon)
        self.window_norm = (
            WindowNorm(window_norm, task.num_outputs // spec.target_as(Horizon).steps) if forecasts else None
        )
        directions = 2 if bidirectional else 1
        self.layers = nn.ModuleList(
            Layer(CELLS[cell], size if layer == 0 else directions * hidden_size, hidden_size, bidirectional)
            for layer in range(num_layers)
        )
        self.dropout = nn.Dropout(dropout)
        size = directions * hidden_size
        self.pooling = None if task.per_token else Pool(pooling, size, bidirectional)
        self.head = nn.Linear(size, task.num_outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Raw input (B, T), (B, T, F) or (B, C, H, W) to outputs (B, num_outputs), or (B, T, num_outputs)."""
        lengths = None
        if isinstance(self.spec.input, TextSpec):
            lengths = (x != PAD).sum(1).clamp(min=1)
            x = self.dropout(self.embedding(x))
        else:
            x = self.normalize(x)
        if isinstance(self.spec.input, ImageSpec):
            x = x.transpose(1, 2).flatten(2)  # (B, H, C * W)
        if self.window_norm is None:
            return self._outputs(x, lengths)
        level, scale = self.window_norm.measure(x)
        return self.window_norm.give_back(self._outputs((x - level) / scale, lengths), level, scale)

    def token_embedding(self) -> nn.Embedding:
        """Table of the tokens' vectors (V, embedding_size), which a prediction is attributed to."""
        return self.embedding

    def generate_texts(self, batch: Mapping[str, Tensor]) -> tuple[Tensor, Tensor] | None:
        """Beginnings (B, P) of the rows and their sampled continuations (B, L); None where the task writes none."""
        if self.task.name != "causal_lm":
            return None
        return continuation(self, batch["input"])  # type: ignore[arg-type]  # takes_cache is False: it needs no cache

    def _outputs(self, x: Tensor, lengths: Tensor | None) -> Tensor:
        for layer in self.layers:
            x = self.dropout(layer(x, lengths))
        return self.head(x if self.pooling is None else self.pooling(x, lengths))


class Layer(nn.Module):
    """One layer of cells, forward or both ways.

    Recurrent weights start orthogonal, gate by gate (Saxe et al. 2014, arXiv:1312.6120), input weights as Glorot and
    Bengio 2010 have them, biases at 0, that of the forget gate at 1 (Jozefowicz et al. 2015).
    """

    def __init__(self, cell: Callable[..., nn.RNNBase], size: int, hidden_size: int, bidirectional: bool) -> None:
        super().__init__()
        self.forwards = cell(size, hidden_size, batch_first=True)
        self.backwards = cell(size, hidden_size, batch_first=True) if bidirectional else None
        for one in (self.forwards, self.backwards):
            if one is not None:
                _initialize(one)

    def forward(self, x: Tensor, lengths: Tensor | None) -> Tensor:
        """(B, T, size) of these lengths (B,) to (B, T, hidden_size) or, both ways, (B, T, 2 * hidden_size)."""
        ahead = self.forwards(x)[0]
        if self.backwards is None:
            return ahead
        return torch.cat([ahead, turned(self.backwards(turned(x, lengths))[0], lengths)], dim=2)


class Pool(nn.Module):
    """One vector (B, size) of all positions (B, T, size)."""

    def __init__(self, kind: Pooling, size: int, bidirectional: bool) -> None:
        super().__init__()
        self.kind, self.bidirectional = kind, bidirectional
        self.score = None
        if kind == "attention":  # the softmax would not see a bias of the scores
            self.score = nn.Sequential(nn.Linear(size, size), nn.Tanh(), nn.Linear(size, 1, bias=False))

    def forward(self, x: Tensor, lengths: Tensor | None) -> Tensor:
        """Positions (B, T, size) of rows of these lengths (B,) to one vector each (B, size)."""
        if self.kind == "last":
            ends = x[:, -1] if lengths is None else x[torch.arange(x.shape[0], device=x.device), lengths - 1]
            if not self.bidirectional:
                return ends
            half = x.shape[2] // 2  # a backward layer ends at the first position
            return torch.cat([ends[:, :half], x[:, 0, half:]], dim=1)
        weights = x.new_zeros(x.shape[:2]) if self.score is None else self.score(x).squeeze(2)
        if lengths is not None:
            real = torch.arange(x.shape[1], device=x.device) < lengths.unsqueeze(1)
            weights = weights.masked_fill(~real, -math.inf)
        return (weights.softmax(1).unsqueeze(1) @ x).squeeze(1)


def turned(x: Tensor, lengths: Tensor | None) -> Tensor:
    """Reverse each sequence of (B, T, size) within its length (B,); what follows it stays."""
    if lengths is None:
        return x.flip(1)
    steps = torch.arange(x.shape[1], device=x.device)
    lengths = lengths.unsqueeze(1)
    place = torch.where(steps < lengths, lengths - 1 - steps, steps)
    return x.gather(1, place.unsqueeze(2).expand_as(x))


def _initialize(cell: nn.RNNBase) -> None:
    gates = len(cell.get_parameter("weight_hh_l0")) // cell.hidden_size
    for name, values in cell.named_parameters():
        for gate in values.chunk(gates):
            if name.startswith("weight_hh"):
                nn.init.orthogonal_(gate)
            elif name.startswith("weight_ih"):
                nn.init.xavier_uniform_(gate)
            else:
                nn.init.zeros_(gate)
    if isinstance(cell, nn.LSTM):
        nn.init.ones_(cell.get_parameter("bias_ih_l0").chunk(gates)[1])  # the gates are input, forget, cell, output
