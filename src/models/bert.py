"""BERT: a Transformer encoder, pretrained on hidden tokens, then fine-tuned (Devlin et al. 2018, arXiv:1810.04805)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor, nn
from typing_extensions import override

from src.errors import UserError
from src.metrics.spans import answerable
from src.models.base import Model
from src.models.components.transformer import NormPlace, Positions, Transformer
from src.runtime.ranges import PositiveFloat, PositiveInt, Share
from src.spec import DataSpec, TextSpec
from src.spec.tokenizer import MASK, PAD, SEP, SPECIAL
from src.tasks import Task
from src.tasks.abilities import Attended

POSITION_TABLE = "body.place.weight"


class BERT(Model):
    """Embeddings of tokens and segments, blocks that see the whole row, and a head for each position or for the row.

    The second segment begins at the first `[SEP]`. What stands at the place of padding changes no other output.

    Args:
        spec: what the data is; gives the size of the vocabulary and the longest row.
        task: gives the number of outputs, and whether they are of each position or of the row.
        width, num_layers, num_heads: of the stack.
        dropout: of embeddings, attention weights, each block's parts and the pooled row.
        norm: before each part, or after each sum as first published.
        positions: learned, sinusoidal, rotary or none.
        mlp_ratio: width of the feed-forward nets, in widths.
        max_length: longest row that learned positions serve; null: the data's longest. Fine-tuning may use fewer
            positions than pretraining had.
        pooling: of a row for its class: its first position ([BOS]), or the mean of all that are no padding.
        token_dropout: share of the row's tokens, special ones aside, that training replaces by [MASK]: a regulariser
            (Iyyer et al. 2015, "Deep unordered composition rivals syntactic methods").
        tied: for hidden tokens, head and embedding are one matrix.

    Raises:
        UserError: rows longer than `max_length` with learned positions, or a value out of its range.
    """

    inputs = (TextSpec,)
    tasks = ("masked_lm", "classification", "binary", "question_answering")

    def __init__(
        self,
        spec: DataSpec,
        task: Task,
        *,
        width: PositiveInt = 128,
        num_layers: PositiveInt = 4,
        num_heads: PositiveInt = 4,
        dropout: Share = 0.1,
        norm: NormPlace = "pre",
        positions: Positions = "learned",
        mlp_ratio: PositiveFloat = 4.0,
        max_length: PositiveInt | None = None,
        pooling: Literal["first", "mean"] = "mean",
        token_dropout: Share = 0.0,
        tied: bool = True,
    ) -> None:
        super().__init__(spec, task)
        if pooling not in ("first", "mean"):
            raise UserError(f"model.pooling={pooling}: first or mean")
        longest = spec.input_shape[0]
        if max_length is not None and positions == "learned" and max_length < longest:
            raise UserError(
                f"model.max_length={max_length}: the longest row of data={spec.name} has {longest} tokens; raise it, "
                "or take model.positions=rotary"
            )
        self.pooling = pooling
        self.token_dropout = token_dropout
        self.embedding = nn.Embedding(len(spec.input_as(TextSpec).token_counts), width)
        self.segment = nn.Embedding(2, width)
        self.body = Transformer(
            width=width,
            num_layers=num_layers,
            num_heads=num_heads,
            max_length=max_length or longest,
            dropout=dropout,
            norm=norm,
            positions=positions,
            mlp_ratio=mlp_ratio,
        )
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(width, task.num_outputs)
        for layer in (self.embedding, self.segment, self.head):
            nn.init.normal_(layer.weight, std=0.02)
        nn.init.zeros_(self.head.bias)
        if tied and task.name == "masked_lm":
            self.head.weight = self.embedding.weight

    def forward(self, x: Tensor, places: Tensor | None = None) -> Tensor:
        """Token ids (B, T) to outputs (B, num_outputs), or (B, T, num_outputs) where the task is per token.

        With places (K,), positions counted row after row, the outputs of these alone: (K, num_outputs). For question
        answering, positions where no answer can be have -inf.

        Raises:
            UserError: T exceeds the learned positions.
        """
        if self.body.place is not None and x.shape[1] > self.body.max_length:
            raise UserError(f"a row of {x.shape[1]} tokens: this model has {self.body.max_length} learned positions")
        if self.training and self.token_dropout:
            dropped = (torch.rand(x.shape, device=x.device) < self.token_dropout) & (x >= len(SPECIAL))
            x = x.masked_fill(dropped, MASK)
        mask = x != PAD  # (B, T)
        hidden = self.body(self.embed_input(x), mask)  # (B, T, width)
        if self.task.name == "question_answering":
            return self.head(hidden).masked_fill(~answerable(x).unsqueeze(2), -math.inf)
        if places is not None:
            return self.head(hidden.flatten(0, 1)[places])
        return self.head(hidden if self.task.per_token else self.dropout(self._pooled(hidden, mask)))

    @override
    def outputs(self, batch: Mapping[str, Tensor]) -> Tensor:
        return self(batch["input"], batch.get("places"))

    def embed_input(self, x: Tensor) -> Tensor:
        """Token ids (B, T) as vectors (B, T, width)."""
        return self.embedding(x) + self.segment((x == SEP).cumsum(1).clamp(max=1))

    def token_embedding(self) -> nn.Embedding:
        """Table of the tokens' vectors (V, width), which a prediction is attributed to."""
        return self.embedding

    def attention(self, batch: Mapping[str, Tensor]) -> dict[str, Attended]:
        """Attention weights of each layer over the tokens (B, T) of raw rows."""
        x = self.task.prepare(batch)["input"]
        return {"attention": Attended(self.body.attention_maps(self.embed_input(x), x != PAD)[0], x, x)}

    def _pooled(self, hidden: Tensor, mask: Tensor) -> Tensor:
        """(B, T, width) to (B, width)."""
        if self.pooling == "first":
            return hidden[:, 0]
        real = mask.unsqueeze(2).to(hidden.dtype)
        return (hidden * real).sum(1) / real.sum(1).clamp(min=1)

    @override
    def adapt_state_dict(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        table, state = state.get(POSITION_TABLE), dict(state)
        if table is not None and self.body.place is not None:
            needed = self.body.max_length
            if len(table) < needed:
                raise UserError(
                    f"that model has {len(table)} learned positions, {needed} are needed here: pretrain it with "
                    f"model.max_length={needed}, or with model.positions=rotary"
                )
            state[POSITION_TABLE] = table[:needed]
        return state
