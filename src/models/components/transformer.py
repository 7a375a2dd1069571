"""Parts of all Transformers: attention with a cache, blocks, positions (Vaswani et al. 2017, arXiv:1706.03762)."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from src.errors import UserError

Positions = Literal["learned", "sinusoidal", "rotary", "none"]
NormPlace = Literal["pre", "post"]


class Cache:
    """Keys and values of the positions seen so far, layer by layer; handed along, never kept in a module.

    Attributes:
        layers: of the positions themselves, each (B, heads, T, size).
        memories: of what they attend to beside themselves, (B, heads, S, size), which stays the same.
    """

    def __init__(self) -> None:
        self.layers: dict[int, tuple[Tensor, Tensor]] = {}
        self.memories: dict[int, tuple[Tensor, Tensor]] = {}

    @property
    def length(self) -> int:
        """Positions seen so far."""
        return next(iter(self.layers.values()))[0].shape[2] if self.layers else 0

    def extend(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Append to a layer's keys and values; return all of them (B, heads, T, size)."""
        if layer in self.layers:
            before = self.layers[layer]
            key, value = torch.cat([before[0], key], dim=2), torch.cat([before[1], value], dim=2)
        self.layers[layer] = key, value
        return key, value

    def reorder(self, rows: Tensor) -> None:
        """Keep these rows (B,) of the batch, as a beam search needs it."""
        self.layers = {layer: (key[rows], value[rows]) for layer, (key, value) in self.layers.items()}
        self.memories = {layer: (key[rows], value[rows]) for layer, (key, value) in self.memories.items()}


class Attention(nn.Module):
    """Multi-head attention of `x` to itself or to a `memory`.

    Args:
        width: of input and output.
        num_heads: into which the width is divided.
        dropout: of attention weights, in training.
        bias: of the four projections.
        rotary: turn queries and keys by their position (Su et al. 2021, arXiv:2104.09864).
    """

    def __init__(
        self, width: int, num_heads: int, *, dropout: float = 0.0, bias: bool = True, rotary: bool = False
    ) -> None:
        super().__init__()
        self.num_heads, self.dropout, self.rotary = num_heads, dropout, rotary
        self.query = nn.Linear(width, width, bias=bias)
        self.key_value = nn.Linear(width, 2 * width, bias=bias)
        self.output = nn.Linear(width, width, bias=bias)

    def forward(
        self,
        x: Tensor,
        memory: Tensor | None = None,
        mask: Tensor | None = None,
        causal: bool = False,
        cache: Cache | None = None,
        layer: int = 0,
    ) -> Tensor:
        """(B, T, width) to (B, T, width).

        Args:
            x: gives the queries.
            memory: gives keys and values, (B, S, width); None: x itself.
            mask: (B, 1, 1 or T, S), true where a position may be attended to.
            causal: each position sees itself and those before it, those in the cache included.
            cache: of earlier positions of x, and of the memory.
            layer: its place in the cache.
        """
        query = self._heads(self.query(x))
        start = 0
        if memory is not None:
            key, value = self._remembered(memory, cache, layer)
        else:
            key, value = self._keys_values(x)
            start = 0 if cache is None else cache.layers[layer][0].shape[2] if layer in cache.layers else 0
            if self.rotary:
                query, key = rotate(query, start), rotate(key, start)
            if cache is not None:
                key, value = cache.extend(layer, key, value)
        if causal and start:
            steps = torch.arange(key.shape[2], device=x.device)
            before = steps <= steps[start:].unsqueeze(1)  # (T, S)
            mask = before if mask is None else mask & before
            causal = False
        dropout = self.dropout if self.training else 0.0
        mixed = F.scaled_dot_product_attention(query, key, value, mask, dropout, is_causal=causal)
        return self.output(mixed.transpose(1, 2).flatten(2))

    def _remembered(self, memory: Tensor, cache: Cache | None, layer: int) -> tuple[Tensor, Tensor]:
        """Keys and values of a memory, computed once for a cache."""
        if cache is None:
            return self._keys_values(memory)
        if layer not in cache.memories:
            cache.memories[layer] = self._keys_values(memory)
        return cache.memories[layer]

    def _keys_values(self, x: Tensor) -> tuple[Tensor, Tensor]:
        key, value = self.key_value(x).chunk(2, dim=-1)
        return self._heads(key), self._heads(value)

    def _heads(self, x: Tensor) -> Tensor:
        """(B, T, width) to (B, heads, T, size)."""
        return x.unflatten(2, (self.num_heads, -1)).transpose(1, 2)

    def weights(
        self, x: Tensor, memory: Tensor | None = None, mask: Tensor | None = None, causal: bool = False
    ) -> Tensor:
        """Attention weights of x, to itself (B, heads, T, T) or to a memory (B, heads, T, S), for pictures."""
        query, key = self._heads(self.query(x)), self._keys_values(x if memory is None else memory)[0]
        if self.rotary and memory is None:
            query, key = rotate(query, 0), rotate(key, 0)
        scores = query @ key.mT / math.sqrt(query.shape[-1])
        if causal:
            scores = scores.masked_fill(scores.new_ones(scores.shape[-2:], dtype=torch.bool).triu(1), -math.inf)
        if mask is not None:
            scores = scores.masked_fill(~mask, -math.inf)
        return scores.softmax(-1)


class Block(nn.Module):
    """Attention to itself, attention to a memory where there is one, and a feed-forward net, each beside a shortcut.

    Args:
        norm: before each part (Xiong et al. 2020, arXiv:2002.04745), or after each sum as first published.
        cross: with attention to a memory.
        hidden: width of the feed-forward net.
    """

    def __init__(
        self,
        width: int,
        num_heads: int,
        hidden: int,
        *,
        dropout: float = 0.0,
        bias: bool = True,
        norm: NormPlace = "pre",
        rotary: bool = False,
        cross: bool = False,
    ) -> None:
        super().__init__()
        self.norm_place = norm
        self.attention = Attention(width, num_heads, dropout=dropout, bias=bias, rotary=rotary)
        self.attention_norm = nn.LayerNorm(width, bias=bias)
        self.cross = Attention(width, num_heads, dropout=dropout, bias=bias) if cross else None
        self.cross_norm = nn.LayerNorm(width, bias=bias) if cross else None
        self.feed_forward = nn.Sequential(
            nn.Linear(width, hidden, bias=bias), nn.GELU(), nn.Linear(hidden, width, bias=bias)
        )
        self.feed_forward_norm = nn.LayerNorm(width, bias=bias)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self,
        x: Tensor,
        mask: Tensor | None = None,
        causal: bool = False,
        cache: Cache | None = None,
        layer: int = 0,
        memory: Tensor | None = None,
        memory_mask: Tensor | None = None,
    ) -> Tensor:
        """(B, T, width) to (B, T, width); see Attention."""
        x = self._beside(
            x, self.attention_norm, lambda y: self.attention(y, mask=mask, causal=causal, cache=cache, layer=layer)
        )
        if self.cross is not None and self.cross_norm is not None:
            x = self._beside(x, self.cross_norm, lambda y: self.cross(y, memory, memory_mask, cache=cache, layer=layer))
        return self._beside(x, self.feed_forward_norm, self.feed_forward)

    def attended(
        self,
        x: Tensor,
        mask: Tensor | None = None,
        causal: bool = False,
        memory: Tensor | None = None,
        memory_mask: Tensor | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """Weights of the attention to itself (B, heads, T, T), and of that to a memory (B, heads, T, S)."""
        before = self.attention_norm(x) if self.norm_place == "pre" else x
        weights = self.attention.weights(before, mask=mask, causal=causal)
        if self.cross is None or self.cross_norm is None:
            return weights, None
        x = self._beside(x, self.attention_norm, lambda y: self.attention(y, mask=mask, causal=causal))
        before = self.cross_norm(x) if self.norm_place == "pre" else x
        return weights, self.cross.weights(before, memory, memory_mask)

    def _beside(self, x: Tensor, norm: nn.LayerNorm, part) -> Tensor:
        if self.norm_place == "pre":
            return x + self.dropout(part(norm(x)))
        return norm(x + self.dropout(part(x)))


class Transformer(nn.Module):
    """A stack of blocks over vectors (B, T, width), with positions added or turned in, and a norm at the end.

    Args:
        num_layers: blocks.
        max_length: largest T; learned positions have no more, the others may exceed it.
        positions: learned, sinusoidal, rotary, or none where the input has its own.
        causal: each position sees itself and those before it.
        cross: each block attends to a memory too.
        init: `small`, of standard deviation 0.02 (GPT-2), beside embeddings as small; `xavier` (Glorot and Bengio
            2010), with learned positions of 0.2, beside projected patches, which are of the order of 1.

    Raises:
        UserError: a width that the heads do not divide, or a value out of its range.
    """

    def __init__(
        self,
        *,
        width: int,
        num_layers: int,
        num_heads: int,
        max_length: int,
        dropout: float = 0.0,
        bias: bool = True,
        norm: NormPlace = "pre",
        positions: Positions = "learned",
        mlp_ratio: float = 4.0,
        causal: bool = False,
        cross: bool = False,
        init: Literal["small", "xavier"] = "small",
    ) -> None:
        super().__init__()
        if width % num_heads or (positions == "rotary" and width // num_heads % 2):
            even = " into even parts" if positions == "rotary" else ""
            raise UserError(f"model.width={width} cannot be divided by model.num_heads={num_heads}{even}")
        if positions not in ("learned", "sinusoidal", "rotary", "none"):
            raise UserError(f"model.positions={positions}: learned, sinusoidal, rotary or none")
        if norm not in ("pre", "post"):
            raise UserError(f"model.norm={norm}: pre or post")
        self.max_length, self.positions, self.causal = max_length, positions, causal
        self.place = nn.Embedding(max_length, width) if positions == "learned" else None
        self.dropout = nn.Dropout(dropout)
        options: dict[str, Any] = {"dropout": dropout, "bias": bias, "norm": norm, "cross": cross}
        options["rotary"] = positions == "rotary"
        hidden = max(1, round(mlp_ratio * width))
        self.blocks = nn.ModuleList(Block(width, num_heads, hidden, **options) for _ in range(num_layers))
        self.norm = nn.LayerNorm(width, bias=bias) if norm == "pre" else nn.Identity()
        self._initialize(init)

    def _initialize(self, init: str) -> None:
        for module in self.modules():
            if isinstance(module, nn.Linear):
                if init == "small":
                    nn.init.normal_(module.weight, std=0.02)
                else:
                    nn.init.xavier_uniform_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        if self.place is not None:
            nn.init.normal_(self.place.weight, std=0.02 if init == "small" else 0.2)
        # those that end a shortcut add up: the deeper the stack, the smaller (GPT-2)
        blocks: Iterable[Any] = self.blocks
        for block in blocks:
            for last in (block.attention.output, block.feed_forward[-1], block.cross and block.cross.output):
                if last is not None:
                    last.weight.data.div_(math.sqrt(2 * len(self.blocks)))

    def forward(
        self,
        x: Tensor,
        mask: Tensor | None = None,
        cache: Cache | None = None,
        memory: Tensor | None = None,
        memory_mask: Tensor | None = None,
    ) -> Tensor:
        """(B, T, width) to (B, T, width).

        Args:
            mask, memory_mask: (B, T) and (B, S), true where there is something and no padding.
            cache: of earlier positions, which x goes on from.
            memory: what is attended to beside x, (B, S, width).
        """
        x = self.dropout(self.placed(x, 0 if cache is None else cache.length))
        mask, memory_mask = (None if m is None else m[:, None, None, :] for m in (mask, memory_mask))
        for layer, block in enumerate(self.blocks):
            x = block(x, mask, self.causal, cache, layer, memory, memory_mask)
        return self.norm(x)

    def placed(self, x: Tensor, start: int) -> Tensor:
        """Add positions from `start` on to x (B, T, width), unless they are turned in or left out."""
        steps = torch.arange(start, start + x.shape[1], device=x.device)
        if self.place is not None:
            return x + self.place(steps)
        return x + sinusoids(steps, x.shape[2]).to(x.dtype) if self.positions == "sinusoidal" else x

    def attention_maps(
        self,
        x: Tensor,
        mask: Tensor | None = None,
        memory: Tensor | None = None,
        memory_mask: Tensor | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """Attention weights of each position in each layer; arguments: see `forward`.

        Returns:
            In x itself (layers, B, heads, T, T); in the memory (layers, B, heads, T, S), None where there is none.
        """
        x = self.placed(x, 0)
        mask, memory_mask = (None if m is None else m[:, None, None, :] for m in (mask, memory_mask))
        maps = []
        blocks: Iterable[Any] = self.blocks
        for block in blocks:
            maps.append(block.attended(x, mask, self.causal, memory, memory_mask))
            x = block(x, mask, self.causal, memory=memory, memory_mask=memory_mask)
        own, cross = zip(*maps, strict=True)
        return torch.stack(own), None if memory is None else torch.stack(cross)


def sinusoids(steps: Tensor, width: int) -> Tensor:
    """Sines and cosines of positions (T,) at wavelengths from 2 pi to 10,000 * 2 pi: (T, width)."""
    rates = torch.exp(torch.arange(0, width, 2, device=steps.device) * (-math.log(10_000) / width))
    angles = steps.unsqueeze(1) * rates
    return torch.stack([angles.sin(), angles.cos()], dim=2).flatten(1)[:, :width]


def rotate(x: Tensor, start: int) -> Tensor:
    """Rotate pairs of features of x (B, heads, T, size) by angles that grow with the position."""
    half = x.shape[-1] // 2
    rates = torch.exp(torch.arange(half, device=x.device) * (-math.log(10_000) / half))
    angles = torch.arange(start, start + x.shape[2], device=x.device).unsqueeze(1) * rates  # (T, half)
    cos, sin = angles.cos().to(x.dtype), angles.sin().to(x.dtype)
    first, second = x.chunk(2, dim=-1)
    return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)
