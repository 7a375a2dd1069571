"""Sampling of texts from a model that predicts the next token."""

from __future__ import annotations

import math
from typing import Protocol

import torch
from torch import Tensor

from src.errors import UserError
from src.models.components.transformer import Cache
from src.spec.tokenizer import EOS, PAD, SPECIAL


class Generative(Protocol):
    """A model of the next token: ids (B, T) to logits (B, T, V)."""

    @property
    def context(self) -> int:
        """Largest T that it takes."""
        ...

    @property
    def takes_cache(self) -> bool:
        """True if it can continue from a cache."""
        ...

    def forward(self, x: Tensor, cache: Cache | None = None, /) -> Tensor:
        """Logits (B, T, V) of the token after each of x (B, T); with a cache, x continues what it holds."""
        ...


def choose(
    logits: Tensor,
    *,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float = 1.0,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Draw token ids (B,) from logits (B, V).

    Args:
        logits: of the next token.
        temperature: below 1 sharpens; 0 takes the most likely token.
        top_k: only so many most likely tokens.
        top_p: only the most likely tokens that together reach this probability (Holtzman et al. 2019,
            arXiv:1904.09751).
        generator: of the draws.

    Raises:
        UserError: a value out of its range.
    """
    if temperature < 0:
        raise UserError(f"temperature={temperature}: 0 (the most likely token) or above")
    if top_k is not None and top_k < 1:
        raise UserError(f"top_k={top_k}: at least 1, or null")
    if not 0 < top_p <= 1:
        raise UserError(f"top_p={top_p}: above 0, up to 1")
    if temperature == 0:
        return logits.argmax(-1)
    ordered, tokens = (logits.float() / temperature).sort(dim=-1, descending=True, stable=True)
    p = ordered.softmax(-1)
    if top_k is not None:
        ordered[:, top_k:] = -math.inf
    # a token stays while those before it have not reached top_p: the first always does
    ordered = ordered.masked_fill(p.cumsum(-1) - p >= top_p, -math.inf)
    drawn = torch.multinomial(ordered.softmax(-1), 1, generator=generator)
    return tokens.gather(-1, drawn).squeeze(-1)


@torch.inference_mode()
def generate(
    model: Generative,
    prompt: Tensor,
    tokens: int,
    *,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float = 1.0,
    seed: int = 0,
    cached: bool = True,
) -> Tensor:
    """Token ids (B, T + tokens) that begin with the prompt (B, T), which has no padding.

    Special tokens but `[EOS]` are never drawn; after `[EOS]` a row is padding. Where prompt and text outgrow the
    model's context, the last `context` tokens are what it sees, and the cache cannot help any more.
    """
    if prompt.shape[1] < 1:
        raise UserError("the prompt is empty: give at least one token")
    generator = torch.Generator(prompt.device).manual_seed(seed)
    never = torch.tensor([i for i in range(len(SPECIAL)) if i != EOS], device=prompt.device)
    ids, cache = prompt, Cache()
    done = torch.zeros(len(prompt), dtype=torch.bool, device=prompt.device)
    for _ in range(tokens):
        # `forward`, since a compiled call would be compiled anew for each length
        if not (cached and model.takes_cache) or ids.shape[1] > model.context:
            logits = model.forward(ids[:, -model.context :])
        else:
            logits = model.forward(ids[:, cache.length :], cache)
        logits = logits[:, -1].index_fill(-1, never, -math.inf)
        drawn = choose(logits, temperature=temperature, top_k=top_k, top_p=top_p, generator=generator)
        ids = torch.cat([ids, drawn.masked_fill(done, PAD).unsqueeze(1)], dim=1)
        done |= drawn == EOS
        if done.all():
            break
    return ids


def continuation(model: Generative, rows: Tensor) -> tuple[Tensor, Tensor]:
    """Beginnings (B, P) of rows of tokens (B, T), and the model's continuations (B, L), up to its context at most.

    A beginning is a quarter of the shortest row, from 1 to 16 tokens; what follows is at most 64.
    """
    shortest = int((rows != PAD).sum(1).min())
    prompt = rows[:, : min(max(1, shortest // 4), 16)]
    tokens = max(1, min(64, model.context - prompt.shape[1]))
    return prompt, generate(model, prompt, tokens, temperature=0.8)[:, prompt.shape[1] :]
