"""Decoding: the texts that a model finds most likely, by greedy search or beam search.

Both take a `step`, which any model has that predicts tokens from those before them: `step(tokens, cache)` with
new tokens (B, T) and the `Cache` of those that came before gives logits (B, T, V) of the token after each.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from src.models.components.transformer import Cache
from src.spec.tokenizer import BOS, EOS, MASK, PAD, UNK

Step = Callable[[Tensor, Cache], Tensor]

NEVER = (PAD, UNK, BOS, MASK)  # nobody writes these


def greedy(step: Step, start: Tensor, length: int) -> Tensor:
    """Write the likeliest token each time, up to `[EOS]`.

    Args:
        start: tokens to continue (B, T), without padding.
        length: most tokens to write.

    Returns:
        Tokens written (B, length), `[EOS]` included, padding after it.
    """
    cache, tokens = Cache(), start
    result = start.new_full((len(start), length), PAD)
    done = start.new_zeros(len(start), dtype=torch.bool)
    for place in range(length):
        token = _scores(step(tokens, cache)).argmax(-1).where(~done, PAD)
        result[:, place] = token
        done |= token == EOS
        if done.all():
            break
        tokens = token.unsqueeze(1)
    return result


def beam_search(step: Step, start: Tensor, length: int, *, beams: int, penalty: float = 0.6) -> Tensor:
    """Search for the best text with several beginnings kept alive (Wu et al. 2016, arXiv:1609.08144).

    Each time the `2 * beams` likeliest of all continuations are looked at. Those of the first `beams` that end go to
    the finished ones, the likeliest others live on. A row's text is the finished one with the best
    log P / ((5 + tokens) / 6) ** penalty, and the row stops when nothing that lives can become better; where none has
    finished by `length`, it is the likeliest live one. One beam is `greedy`.

    Args:
        step: is given `B * beams` rows, those of one text side by side.
        start, length: see greedy.
        beams: beginnings alive at a time, at most half the vocabulary.
        penalty: 0 compares plain probabilities, which favours short texts.

    Returns:
        Tokens written (B, length), see greedy.
    """
    if beams == 1:
        return greedy(step, start, length)
    search = _Search(start, length, beams, ((5 + length) / 6) ** penalty)
    cache, tokens = Cache(), start.repeat_interleave(beams, 0)
    for place in range(length):
        rows, tokens = search.advance(_scores(step(tokens, cache)), place, ((5 + place + 1) / 6) ** penalty)
        if search.done.all():
            break
        cache.reorder(rows)
    return search.result()


class _Search:
    """State of a beam search: live beginnings, and the best finished text of each row.

    Attributes:
        live, scores: tokens (B, K, length) and log P (B, K).
        best, best_score: tokens (B, length) and score (B,).
    """

    def __init__(self, start: Tensor, length: int, beams: int, divisor: float) -> None:
        self.beams = beams
        self.divisor = divisor  # of the longest text: no live beginning ends with more than its log P divided by it
        self.live = start.new_full((len(start), beams, length), PAD)
        self.scores = torch.full((len(start), beams), -math.inf, device=start.device)
        self.scores[:, 0] = 0  # at first all beginnings are the same one
        self.best = self.live[:, 0].clone()
        self.best_score = self.scores[:, 0].new_full((len(start),), -math.inf)
        self.offset = torch.arange(len(start), device=start.device).unsqueeze(1) * beams

    @property
    def done(self) -> Tensor:
        return self.best_score >= self.scores[:, 0] / self.divisor

    def advance(self, scores: Tensor, place: int, divisor: float) -> tuple[Tensor, Tensor]:
        """Append a token by log P (B * K, V); return the rows that live on (B * K,) and their tokens (B * K, 1)."""
        vocabulary = scores.shape[-1]
        totals = (self.scores.unsqueeze(2) + scores.view(*self.scores.shape, vocabulary)).flatten(1)
        totals, chosen = totals.topk(2 * self.beams, dim=1)
        parents, tokens = chosen // vocabulary, chosen % vocabulary
        ends = tokens == EOS
        self._finish(totals, parents, ends, place, divisor)
        # the likeliest that do not end, in their order: at most half of the candidates end
        order = ends.to(torch.int8).argsort(dim=1, stable=True)[:, : self.beams]
        parents, tokens = parents.gather(1, order), tokens.gather(1, order)
        self.scores = totals.gather(1, order)
        self.live = self.live.gather(1, parents.unsqueeze(2).expand_as(self.live))
        self.live[:, :, place] = tokens
        return (parents + self.offset).flatten(), tokens.view(-1, 1)

    def _finish(self, totals: Tensor, parents: Tensor, ends: Tensor, place: int, divisor: float) -> None:
        """Keep the best of the first K candidates that end."""
        ends = ends[:, : self.beams]
        score, which = (totals[:, : self.beams] / divisor).masked_fill(~ends, -math.inf).max(1)
        parent = parents.gather(1, which.unsqueeze(1)).unsqueeze(2).expand(-1, 1, self.live.shape[2])
        text = self.live.gather(1, parent).squeeze(1)
        text[:, place] = EOS
        better = score > self.best_score
        self.best = text.where(better.unsqueeze(1), self.best)
        self.best_score = score.where(better, self.best_score)

    def result(self) -> Tensor:
        return self.best.where(self.best_score.isfinite().unsqueeze(1), self.live[:, 0])


def _scores(logits: Tensor) -> Tensor:
    """Log probabilities (B, V) of the token after the last one, from logits (B, T, V)."""
    last = logits[:, -1].float()
    never = torch.tensor(NEVER, device=last.device)
    return F.log_softmax(last.index_fill(1, never, -math.inf), -1)
