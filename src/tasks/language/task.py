"""Language modelling: the next token of each position, or tokens that were hidden."""

from __future__ import annotations

import math
from typing import Annotated, ClassVar

import torch
import torchmetrics as tm
from annotated_types import Gt, Lt
from torch import Tensor
from typing_extensions import override

from src.metrics.language import TokenMetric
from src.metrics.modes import modes
from src.runtime.ranges import checked
from src.runtime.stateless_random import BITS, draws
from src.spec import DataSpec, TokenizedSpec
from src.spec.tokenizer import MASK, PAD, SPECIAL
from src.tasks.base import Batch, Loss, Named, StepOutput, Task
from src.tasks.language.view import NextTokenView, TextView
from src.tasks.losses import CrossEntropy
from src.tasks.registry import register_task
from src.tasks.view import TaskView


@register_task("causal_lm")
class CausalLM(Task):
    """The next token at every position. Outputs are logits (B, T, V); padding counts nowhere.

    Beside it stands the unigram: each token as likely as it is in the training split.
    """

    answer_per_row = False
    one_pass = False
    losses = {"cross_entropy": CrossEntropy}
    metric_modes = modes("loss", "perplexity", "bits_per_character", "accuracy")
    per_token = True
    unigram: Tensor  # log-probability of each token (V,)
    view_class: ClassVar[type[TaskView]] = NextTokenView

    def __init__(self, spec: DataSpec, loss: Loss | None = None) -> None:
        super().__init__(spec, loss)
        text = spec.input_as(TokenizedSpec)
        self.num_outputs = len(text.token_counts)
        counts = torch.tensor(text.token_counts, dtype=torch.float64)
        counts[len(SPECIAL) :] += 1  # what the training split lacks is not impossible
        self.register_buffer("unigram", (counts / counts.sum()).log().float().clamp(min=-100), persistent=False)

    def prepare(self, batch: Batch, training: bool = False) -> Batch:
        """Rows (B, T + 1) of tokens become input (B, T) and, one place on, target (B, T)."""
        tokens = batch["input"]
        return {**batch, "input": tokens[:, :-1], "target": tokens[:, 1:]}

    @override
    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        return self.evaluate_batch(outputs, batch).loss

    @override
    def evaluate_batch(self, outputs: Tensor, batch: Batch) -> StepOutput:
        """Loss, and for each row its summed loss and number of right tokens (B, 2) beside its number of tokens (B,)."""
        target = self.target(batch)
        losses = self.loss_function(outputs.flatten(0, 1), target.flatten(), ignore_index=PAD, reduction="none")
        losses = losses.view(target.shape)
        real = target != PAD
        tokens = real.sum(1)
        with torch.no_grad():
            right = ((outputs.argmax(-1) == target) & real).sum(1)
            sums = torch.stack([losses.sum(1), right.to(losses.dtype)], dim=1)
            reference = None if self.training else self._unigram(target, real)
        return StepOutput(losses.sum() / tokens.sum().clamp(min=1), sums, tokens, reference)

    def _unigram(self, target: Tensor, real: Tensor) -> Tensor:
        losses = (-self.unigram[target]).where(real, 0).sum(1)
        right = ((target == self.unigram.argmax()) & real).sum(1)
        return torch.stack([losses, right.to(losses.dtype)], dim=1)

    def predict(self, outputs: Tensor) -> Tensor:
        """Probabilities of the next token (B, T, V)."""
        return outputs.float().softmax(-1)

    def decode_for_display(self, outputs: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """The likeliest token of each position that has a target, and that target."""
        target = self.target(batch)
        return outputs.argmax(-1).where(target != PAD, PAD), target

    @override
    def prediction(self, outputs: Tensor) -> Tensor:
        return outputs

    @override
    def metrics(self) -> tm.MetricCollection:
        characters = self.spec.input_as(TokenizedSpec).characters_per_token
        kinds: Named = {name: TokenMetric(name, characters) for name in self.metric_modes}
        return tm.MetricCollection(kinds, compute_groups=False)

    @override
    def baseline(self, target: Tensor, reference: Tensor | None = None) -> Tensor:
        """Summed loss and right tokens of the unigram (N, 2): the reference itself."""
        assert reference is not None
        return reference


@register_task("masked_lm")
class MaskedLM(CausalLM):
    """Tokens that were hidden, from those around them (Devlin et al. 2018, arXiv:1810.04805).

    Of the chosen positions 80 % become `[MASK]`, 10 % another token, 10 % stay. In training they are drawn anew each
    time, in evaluation they depend on the row alone, so that epochs and runs can be compared.

    A training batch says in `places` (K,) which of its positions, counted row after row, the loss can concern. A model
    may give the outputs of these alone, (K, V): with a large vocabulary its head is most of the work. K follows from
    the batch's size, so that no step waits to learn it: four standard deviations above the mean, and what is hidden
    beyond that, in one of 30,000 batches, is not asked for.

    Args:
        mask_fraction: share of the tokens to be guessed, between 0 and 1.
    """

    metric_modes = modes("loss", "perplexity", "accuracy")
    view_class = TextView

    @checked("task")
    def __init__(
        self, spec: DataSpec, loss: Loss | None = None, *, mask_fraction: Annotated[float, Gt(0), Lt(1)] = 0.15
    ) -> None:
        super().__init__(spec, loss)
        self.unigram[: len(SPECIAL)] = -math.inf  # those are never hidden
        self.unigram = self.unigram.log_softmax(0).clamp(min=-100)
        self.mask_fraction = mask_fraction

    def prepare(self, batch: Batch, training: bool = False) -> Batch:
        """Tokens (B, T) become input with some of them hidden, and target with those alone, the rest padding."""
        tokens = batch["input"]
        # from the state that the step was given, which lives on the CPU: reading it waits for no device
        key = int(torch.randint(1 << 62, ())) if training else 0
        drawn = draws(batch["index"], key, 2 * tokens.shape[1]).T
        drawn = drawn.unflatten(1, (2, -1))  # type: ignore[no-untyped-call, unused-ignore]  # (B, 2, T)
        share = drawn[:, 0].double() / (1 << BITS) / self.mask_fraction  # below 1 where chosen
        ordinary = tokens >= len(SPECIAL)
        chosen = ordinary & (share < 1)
        others = ((drawn[:, 1] * (self.num_outputs - len(SPECIAL))) >> BITS) + len(SPECIAL)
        hidden = torch.where(share < 0.8, MASK, torch.where(share < 0.9, others, tokens))
        batch = {**batch, "input": torch.where(chosen, hidden, tokens), "target": torch.where(chosen, tokens, PAD)}
        if training:
            mean = tokens.numel() * self.mask_fraction
            most = math.ceil(mean + 4 * math.sqrt(mean * (1 - self.mask_fraction)))
            first = (~chosen).flatten().to(torch.uint8).argsort(stable=True)  # the chosen ones, in their order
            batch["places"] = first[:most]
        return batch

    @override
    def evaluate_batch(self, outputs: Tensor, batch: Batch) -> StepOutput:
        if outputs.ndim == 3:
            return super().evaluate_batch(outputs, batch)
        target = self.target(batch).flatten()[batch["places"]]
        return super().evaluate_batch(outputs.unsqueeze(1), {**batch, "target": target.unsqueeze(1)})
