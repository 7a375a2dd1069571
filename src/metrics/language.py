"""Metrics of tokens and texts: perplexity, accuracy, BLEU, chrF, exact match."""

from __future__ import annotations

import math
from collections import Counter

import torch
import torchmetrics as tm
from torch import Tensor
from torchmetrics.text import SacreBLEUScore
from typing_extensions import override

from src.spec.tokenizer import PAD, UNK, Tokenizer


class TokenMetric(tm.Metric):
    """A figure of the sums over all tokens: of their losses in nats, of right guesses, of tokens.

    Args:
        kind: loss (nats a token), perplexity, bits_per_character or accuracy.
        characters: that a token stands for, on average.
    """

    full_state_update = False
    sums: Tensor

    def __init__(self, kind: str, characters: float = 1.0) -> None:
        super().__init__()
        self.kind, self.characters = kind, characters
        self.add_state("sums", torch.zeros(3, dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, prediction: Tensor, target: Tensor) -> None:
        """Takes the sums of each row: losses and right guesses (B, 2), tokens (B,)."""
        self.sums += torch.cat([prediction, target.unsqueeze(1)], dim=1).to(self.sums.dtype).sum(0)

    @override
    def compute(self) -> Tensor:
        """Figure of all tokens so far, a scalar."""
        losses, right, tokens = self.sums
        if self.kind == "accuracy":
            return right / tokens
        loss = losses / tokens
        if self.kind == "perplexity":
            return loss.exp()
        return loss / (math.log(2) * self.characters) if self.kind == "bits_per_character" else loss


ORDERS = 6  # characters in the longest sequence that chrF compares


def texts(prediction: Tensor, target: Tensor, tokenizer: Tokenizer) -> list[tuple[str, str]]:
    """(predicted, right) texts of ids (B, L) and (B, T); rows without a target are left out.

    `[UNK]` stays in the right text alone, so that nothing equals a word that the vocabulary lacks.
    """
    asked = (target != PAD).any(1)
    return [
        (tokenizer.decode([token for token in guess if token != UNK]), tokenizer.decode(right))
        for guess, right in zip(prediction[asked].tolist(), target[asked].tolist(), strict=True)
    ]


class ExactMatch(tm.Metric):
    """Share of texts that are right from the first character to the last."""

    full_state_update = False
    counts: Tensor

    def __init__(self, tokenizer: Tokenizer) -> None:
        super().__init__()
        self.tokenizer = tokenizer
        self.add_state("counts", torch.zeros(2, dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, prediction: Tensor, target: Tensor) -> None:
        """Takes ids (B, L) and (B, T)."""
        pairs = texts(prediction, target, self.tokenizer)
        right = sum(guess == text for guess, text in pairs)
        self.counts += torch.tensor([right, len(pairs)], device=self.counts.device)

    @override
    def compute(self) -> Tensor:
        """Share of the texts that are right, a scalar."""
        return self.counts[0] / self.counts[1].clamp(min=1)


class BLEU(SacreBLEUScore):
    """BLEU (Papineni et al. 2002) of sequences of one to four words, as sacrebleu's `13a` divides text, 0 to 100."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        super().__init__()
        self.tokens = tokenizer

    def update(self, prediction: Tensor, target: Tensor) -> None:  # type: ignore[override]  # ids, which it decodes
        """Takes ids (B, L) and (B, T)."""
        pairs = texts(prediction, target, self.tokens)
        if pairs:
            super().update([guess for guess, _ in pairs], [[right] for _, right in pairs])

    @override
    def compute(self) -> Tensor:
        """BLEU of all texts so far, 0 to 100, a scalar."""
        return 100 * super().compute()


class ChrF(tm.Metric):
    """Character n-gram F-score (Popovic 2015), recall counting twice (beta = 2), spaces left out, 0 to 100.

    The values of `torchmetrics.text.CHRFScore(n_word_order=0)`, which takes eight seconds for a thousand sentences.
    """

    full_state_update = False
    counts: Tensor

    def __init__(self, tokenizer: Tokenizer) -> None:
        super().__init__()
        self.tokenizer = tokenizer
        self.add_state("counts", torch.zeros(ORDERS, 3, dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, prediction: Tensor, target: Tensor) -> None:
        """Takes ids (B, L) and (B, T)."""
        counts = [[0, 0, 0] for _ in range(ORDERS)]  # in common, predicted, right
        for pair in texts(prediction, target, self.tokenizer):
            guess, right = ("".join(text.split()) for text in pair)
            for order, row in enumerate(counts, start=1):
                ours, theirs = ngrams(guess, order), ngrams(right, order)
                row[0] += (ours & theirs).total()
                row[1] += ours.total()
                row[2] += theirs.total()
        self.counts += torch.tensor(counts, device=self.counts.device)

    @override
    def compute(self) -> Tensor:
        """chrF of all texts so far, 0 to 100, a scalar."""
        common, predicted, right = self.counts.cpu().double().T
        precision, recall = common / predicted.clamp(min=1), common / right.clamp(min=1)
        return 100 * (5 * precision * recall / (4 * precision + recall).clamp(min=1e-16)).mean()


def ngrams(text: str, order: int) -> Counter[str]:
    """Count how often each sequence of `order` characters occurs."""
    return Counter(text[start : start + order] for start in range(len(text) - order + 1))
