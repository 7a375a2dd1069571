"""T5: an encoder and a decoder that share their vocabulary (Raffel et al. 2019, arXiv:1910.10683)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn
from typing_extensions import override

from src.models.components.encoder_decoder import EncoderDecoder
from src.models.components.transformer import Cache, NormPlace, Positions, Transformer
from src.runtime.ranges import NonNegativeFloat, PositiveFloat, PositiveInt, Share
from src.spec import DataSpec, TextPairSpec
from src.spec.tokenizer import PAD
from src.tasks import Task
from src.tasks.abilities import Attended


class T5(EncoderDecoder):
    """One embedding for source, target and head; blocks of the encoder see all of the source, those of the decoder the
    target's tokens so far and, through attention to the encoder's outputs, the source.

    Embeddings are of standard deviation 1 / sqrt(width) and, read as input, times sqrt(width) (Vaswani et al. 2017,
    3.4); weights are Xavier's. With all of them at 0.02, attention begins as a plain mean over the source, and the
    first losses need one and a half to two times the steps (measured on dates).

    Of the original it has the shape; norms, nonlinearity and positions are today's usual ones, without the original's
    relative position bias.

    Args:
        spec: what the data is; its longest source and target say how long texts can be.
        task: gives the size of the vocabulary.
        width, num_heads: of both stacks.
        num_layers: of each of the two stacks.
        dropout: of embeddings, attention weights and each block's parts.
        bias: of linear layers and norms.
        norm: before each part, or after each sum.
        positions: learned, sinusoidal, rotary or none.
        mlp_ratio: width of the feed-forward nets, in widths.
        tied: head and embedding are one matrix (Press and Wolf 2016, arXiv:1608.05859).
        decode_rows: so many rows of the validation split are written out each epoch, the first ones; null: all.
        beam_size: beginnings that test and prediction keep alive; 1 is greedy.
        length_penalty: of the beams, Wu et al.'s alpha.

    Raises:
        UserError: an option out of its range.
    """

    inputs = (TextPairSpec,)
    tasks = ("seq2seq",)

    def __init__(
        self,
        spec: DataSpec,
        task: Task,
        *,
        width: PositiveInt = 128,
        num_layers: PositiveInt = 2,
        num_heads: PositiveInt = 4,
        dropout: Share = 0.1,
        bias: bool = False,
        norm: NormPlace = "pre",
        positions: Positions = "sinusoidal",
        mlp_ratio: PositiveFloat = 4.0,
        tied: bool = True,
        decode_rows: PositiveInt | None = None,
        beam_size: PositiveInt = 1,
        length_penalty: NonNegativeFloat = 0.6,
    ) -> None:
        super().__init__(spec, task)
        self.plan(decode_rows, beam_size, length_penalty)
        self.max_length = spec.input_shape[0]
        self.longest_source = self.max_length if positions == "learned" else None
        self.embedding = nn.Embedding(task.num_outputs, width)
        options: dict[str, Any] = {
            "width": width,
            "num_layers": num_layers,
            "num_heads": num_heads,
            "dropout": dropout,
            "bias": bias,
            "norm": norm,
            "positions": positions,
            "mlp_ratio": mlp_ratio,
            "init": "xavier",
        }
        self.encoder = Transformer(max_length=self.max_length, **options)
        self.decoder = Transformer(max_length=self.length, causal=True, cross=True, **options)
        self.head = nn.Linear(width, task.num_outputs, bias=False)
        for layer in (self.embedding, self.head):
            nn.init.normal_(layer.weight, std=1 / math.sqrt(width))
        if tied:
            self.head.weight = self.embedding.weight

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        """Ids (B, S) and (B, T) to logits (B, T, V) of the token after each of the target's."""
        return self.decode(target, self.encode(source), source != PAD)

    @override
    def encode(self, source: Tensor) -> Tensor:
        return self.encoder(self._embedded(source), source != PAD)

    @override
    def decode(self, target: Tensor, memory: Tensor, mask: Tensor, cache: Cache | None = None) -> Tensor:
        return self.head(self.decoder(self._embedded(target), cache=cache, memory=memory, memory_mask=mask))

    def _embedded(self, tokens: Tensor) -> Tensor:
        """Ids (B, T) to vectors (B, T, width) of the order of 1."""
        return self.embedding(tokens) * math.sqrt(self.embedding.embedding_dim)

    @override
    def outputs(self, batch: Mapping[str, Tensor]) -> Tensor:
        return self(batch["input"], batch["target"][:, :-1])

    def attention(self, batch: Mapping[str, Tensor]) -> dict[str, Attended]:
        """Attention weights of the encoder, of the decoder, and of the decoder to the source, for raw rows."""
        source, target = batch["input"], batch["target"][:, :-1]
        mask = source != PAD
        own, _ = self.encoder.attention_maps(self._embedded(source), mask)
        written, cross = self.decoder.attention_maps(self._embedded(target), None, self.encode(source), mask)
        assert cross is not None  # there is a memory
        return {
            "attention_encoder": Attended(own, source, source),
            "attention_decoder": Attended(written, target, target),
            "attention_cross": Attended(cross, target, source),
        }
