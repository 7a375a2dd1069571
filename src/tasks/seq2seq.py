"""Sequence to sequence: teacher forcing in training, and in evaluation beside it what the model writes by itself."""

from __future__ import annotations

from collections import Counter
from typing import Any

import torch
import torch.nn.functional as F
import torchmetrics as tm
from torch import Tensor
from torchmetrics.text import SacreBLEUScore

from src.directions import directions
from src.spec import DataSpec
from src.tasks.base import Batch, Judged, Loss, Task
from src.text import PAD, UNK, Tokenizer

ORDERS = 6  # characters in the longest sequence that chrF compares


class Seq2Seq(Task):
    """A target from a source, both token ids of one vocabulary, padded at the end.

    A batch holds `input` (B, S), `target` (B, T) as `[BOS] ... [EOS]` and, in evaluation, `decoded` (B, L): what the
    model wrote for it, zeros for a row that it was not asked for. Outputs are logits (B, T - 1, V) of the target's
    tokens from the second on, each foretold from the source and the true tokens before it.

    Training reports the loss alone, a mean over tokens. Validation and test compare decoded texts too: exact_match (a
    share of the texts), bleu and chrf (0 to 100). Beside them stands the source itself, copied as it is.
    """

    losses = ("cross_entropy",)
    directions = directions("loss", "exact_match", "bleu", "chrf")

    def __init__(self, spec: DataSpec, loss: Loss, class_weights: Tensor | None = None) -> None:
        super().__init__(spec, loss, class_weights)
        self.num_outputs = len(spec.token_counts)

    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        return self.judge(outputs, batch).loss

    def judge(self, outputs: Tensor, batch: Batch) -> Judged:
        target = self.target(batch)[:, 1:]
        total = self.loss_function(outputs.flatten(0, 1), target.flatten(), ignore_index=PAD, reduction="sum")
        tokens = (target != PAD).sum()
        loss = total / tokens.clamp(min=1)
        if "decoded" not in batch:
            nothing = target[:, :0]
            return Judged(loss, nothing, nothing, nothing, tokens)
        decoded = batch["decoded"]
        # all batches of an epoch as wide as the longest, so that they can be laid one on the other
        target = F.pad(target, (0, decoded.shape[1] - target.shape[1]))
        target = target.where(decoded.any(1, keepdim=True), PAD)
        source = F.pad(batch["input"], (0, self.spec.input_shape[0] - batch["input"].shape[1]))
        return Judged(loss, decoded, target, source, tokens)

    def predict(self, outputs: Tensor) -> Tensor:
        """Probabilities of the target's next token (B, T - 1, V)."""
        return outputs.float().softmax(-1)

    def columns(self, predictions: Tensor) -> dict[str, list[Any]]:
        """The texts of ids (B, L)."""
        tokenizer = Tokenizer(self.spec.tokenizer)
        return {"predicted": [tokenizer.decode(ids) for ids in predictions.tolist()]}

    def prediction(self, outputs: Tensor) -> Tensor:
        return outputs

    def metrics(self) -> tm.MetricCollection:
        tokenizer = Tokenizer(self.spec.tokenizer)
        kinds = {"exact_match": ExactMatch(tokenizer), "bleu": BLEU(tokenizer), "chrf": ChrF(tokenizer)}
        return tm.MetricCollection(kinds, compute_groups=False)

    def training_metrics(self) -> tm.MetricCollection:
        return tm.MetricCollection({})

    def baseline(self, target: Tensor, reference: Tensor | None = None) -> Tensor:
        assert reference is not None
        return reference


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

    def __init__(self, tokenizer: Tokenizer) -> None:
        super().__init__()
        self.tokenizer = tokenizer
        self.add_state("counts", torch.zeros(2, dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, prediction: Tensor, target: Tensor) -> None:
        """Takes ids (B, L) and (B, T)."""
        pairs = texts(prediction, target, self.tokenizer)
        right = sum(guess == text for guess, text in pairs)
        self.counts += torch.tensor([right, len(pairs)], device=self.counts.device)

    def compute(self) -> Tensor:
        return self.counts[0] / self.counts[1].clamp(min=1)


class BLEU(SacreBLEUScore):
    """BLEU (Papineni et al. 2002) of sequences of one to four words, as sacrebleu's `13a` divides text, 0 to 100."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        super().__init__()
        self.tokens = tokenizer

    def update(self, prediction: Tensor, target: Tensor) -> None:
        """Takes ids (B, L) and (B, T)."""
        pairs = texts(prediction, target, self.tokens)
        if pairs:
            super().update([guess for guess, _ in pairs], [[right] for _, right in pairs])

    def compute(self) -> Tensor:
        return 100 * super().compute()


class ChrF(tm.Metric):
    """Character n-gram F-score (Popovic 2015), recall counting twice (beta = 2), spaces left out, 0 to 100.

    The values of `torchmetrics.text.CHRFScore(n_word_order=0)`, which takes eight seconds for a thousand sentences.
    """

    full_state_update = False

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

    def compute(self) -> Tensor:
        common, predicted, right = self.counts.cpu().double().T
        precision, recall = common / predicted.clamp(min=1), common / right.clamp(min=1)
        return 100 * (5 * precision * recall / (4 * precision + recall).clamp(min=1e-16)).mean()


def ngrams(text: str, order: int) -> Counter[str]:
    """How often each sequence of `order` characters occurs."""
    return Counter(text[start : start + order] for start in range(len(text) - order + 1))
