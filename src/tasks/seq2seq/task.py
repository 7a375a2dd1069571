"""Sequence to sequence: teacher forcing in training, and in evaluation beside it what the model writes by itself."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
import torchmetrics as tm
from torch import Tensor
from typing_extensions import override

from src.metrics.language import BLEU, ChrF, ExactMatch
from src.metrics.modes import modes
from src.spec import DataSpec, TextPairSpec
from src.spec.tokenizer import PAD, Tokenizer
from src.tasks.base import Batch, Loss, Named, StepOutput, Task
from src.tasks.language.view import TextView
from src.tasks.losses import CrossEntropy
from src.tasks.registry import register_task


@register_task("seq2seq")
class Seq2Seq(Task):
    """A target from a source, both token ids of one vocabulary, padded at the end.

    A batch holds `input` (B, S), `target` (B, T) as `[BOS] ... [EOS]` and, in evaluation, `decoded` (B, L): what the
    model wrote for it, zeros for a row that it was not asked for. Outputs are logits (B, T - 1, V) of the target's
    tokens from the second on, each foretold from the source and the true tokens before it.

    Training reports the loss alone, a mean over tokens. Validation and test compare decoded texts too: exact_match (a
    share of the texts), bleu and chrf (0 to 100). Beside them stands the source itself, copied as it is.
    """

    answer_per_row = False
    one_pass = False
    losses = {"cross_entropy": CrossEntropy}
    metric_modes = modes("loss", "exact_match", "bleu", "chrf")
    view_class = TextView

    def __init__(self, spec: DataSpec, loss: Loss | None = None) -> None:
        super().__init__(spec, loss)
        self.num_outputs = len(spec.input_as(TextPairSpec).token_counts)

    @override
    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        return self.evaluate_batch(outputs, batch).loss

    @override
    def evaluate_batch(self, outputs: Tensor, batch: Batch) -> StepOutput:
        """Loss, and the decoded texts (B, L) beside the right ones and the source; (B, 0) where none were decoded."""
        target = self.target(batch)[:, 1:]
        total = self.loss_function(outputs.flatten(0, 1), target.flatten(), ignore_index=PAD, reduction="sum")
        tokens = (target != PAD).sum()
        loss = total / tokens.clamp(min=1)
        if "decoded" not in batch:
            nothing = target[:, :0]
            return StepOutput(loss, nothing, nothing, nothing, tokens)
        decoded = batch["decoded"]
        # all batches of an epoch as wide as the longest, so that they can be laid one on the other
        target = F.pad(target, (0, decoded.shape[1] - target.shape[1]))
        target = target.where(decoded.any(1, keepdim=True), PAD)
        source = F.pad(batch["input"], (0, self.spec.input_shape[0] - batch["input"].shape[1]))
        return StepOutput(loss, decoded, target, source, tokens)

    def predict(self, outputs: Tensor) -> Tensor:
        """Probabilities of the target's next token (B, T - 1, V)."""
        return outputs.float().softmax(-1)

    def columns(self, predictions: Tensor) -> dict[str, list[Any]]:
        """The texts of ids (B, L)."""
        tokenizer = Tokenizer(self.spec.input_as(TextPairSpec).tokenizer)
        return {"predicted": [tokenizer.decode(ids) for ids in predictions.tolist()]}

    @override
    def prediction(self, outputs: Tensor) -> Tensor:
        return outputs

    @override
    def metrics(self) -> tm.MetricCollection:
        tokenizer = Tokenizer(self.spec.input_as(TextPairSpec).tokenizer)
        kinds: Named = {"exact_match": ExactMatch(tokenizer), "bleu": BLEU(tokenizer), "chrf": ChrF(tokenizer)}
        return tm.MetricCollection(kinds, compute_groups=False)

    @override
    def training_metrics(self) -> tm.MetricCollection:
        return tm.MetricCollection({})

    @override
    def baseline(self, target: Tensor, reference: Tensor | None = None) -> Tensor:
        """Token ids (N, S) of the source, copied as they are: the reference itself."""
        assert reference is not None
        return reference
