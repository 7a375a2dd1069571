"""GPT: a Transformer decoder that predicts the next token (Radford et al. 2019, GPT-2)."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from src.models.base import Model
from src.models.components.sampling import continuation
from src.models.components.transformer import Cache, NormPlace, Positions, Transformer
from src.runtime.ranges import PositiveFloat, PositiveInt, Share
from src.spec import DataSpec, TextSpec
from src.tasks import Task
from src.tasks.abilities import Attended


class GPT(Model):
    """Token embedding, causal blocks, and a head that shares the embedding's weights.

    Args:
        spec: what the data is; its rows say how long a context can be.
        task: gives the size of the vocabulary.
        width, num_layers, num_heads: of the stack.
        dropout: of embeddings, attention weights and each block's parts.
        bias: of linear layers and norms.
        norm: before each part, or after each sum.
        positions: learned, sinusoidal, rotary or none.
        mlp_ratio: width of the feed-forward nets, in widths.
        tied: head and embedding are one matrix (Press and Wolf 2016, arXiv:1608.05859).
    """

    inputs = (TextSpec,)
    takes_cache = True
    tasks = ("causal_lm",)

    def __init__(
        self,
        spec: DataSpec,
        task: Task,
        *,
        width: PositiveInt = 128,
        num_layers: PositiveInt = 4,
        num_heads: PositiveInt = 4,
        dropout: Share = 0.0,
        bias: bool = False,
        norm: NormPlace = "pre",
        positions: Positions = "learned",
        mlp_ratio: PositiveFloat = 4.0,
        tied: bool = True,
    ) -> None:
        super().__init__(spec, task)
        self.context = spec.input_shape[0] - 1  # of a row, the last token is only predicted
        self.embedding = nn.Embedding(task.num_outputs, width)
        self.body = Transformer(
            width=width,
            num_layers=num_layers,
            num_heads=num_heads,
            max_length=self.context,
            dropout=dropout,
            bias=bias,
            norm=norm,
            positions=positions,
            mlp_ratio=mlp_ratio,
            causal=True,
        )
        self.head = nn.Linear(width, task.num_outputs, bias=False)
        nn.init.normal_(self.embedding.weight, std=0.02)
        nn.init.normal_(self.head.weight, std=0.02)
        if tied:
            self.head.weight = self.embedding.weight

    def forward(self, x: Tensor, cache: Cache | None = None) -> Tensor:
        """Token ids (B, T) to logits of the next token at each position (B, T, V).

        Padding can only be at the end, where no real position looks. With a cache, x goes on from what it holds.
        """
        return self.head(self.body(self.embedding(x), cache=cache))

    def token_embedding(self) -> nn.Embedding:
        """Table of the tokens' vectors (V, width), which a prediction is attributed to."""
        return self.embedding

    def attention(self, batch: Mapping[str, Tensor]) -> dict[str, Attended]:
        """Attention weights of each layer over the tokens (B, T) of raw rows."""
        x = self.task.prepare(batch)["input"]
        return {"attention": Attended(self.body.attention_maps(self.embedding(x))[0], x, x)}

    def generate_texts(self, batch: Mapping[str, Tensor]) -> tuple[Tensor, Tensor] | None:
        """Beginnings (B, P) of the rows and their sampled continuations (B, L)."""
        return continuation(self, batch["input"])
