"""EncoderDecoder: base of the models that write a text for another one, greedily or by beam search."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor
from typing_extensions import override

from src.errors import UserError
from src.models.base import Model, Stage
from src.models.components.decoding import beam_search, greedy
from src.models.components.transformer import Cache
from src.spec import TextPairSpec
from src.spec.tokenizer import BOS, PAD


class EncoderDecoder(Model):
    """Base of encoder-decoders; for seq2seq, validation writes greedily, test and prediction with `beam_size` beams.

    Attributes:
        length: most tokens that are written.
        longest_source: tokens of the longest source that can be read; None: any.
        decode_rows: so many rows of the validation split are written out each epoch, the first ones; None: all.
        beam_size: beginnings that test and prediction keep alive; 1 is greedy.
        length_penalty: of the beams, Wu et al.'s alpha.
    """

    def plan(self, decode_rows: int | None, beam_size: int, length_penalty: float) -> None:
        """Set how texts are written; see the attributes.

        Raises:
            UserError: more beams than half the vocabulary.
        """
        if beam_size > self.task.num_outputs // 2:
            raise UserError(f"model.beam_size={beam_size}: from 1 to half the vocabulary, {self.task.num_outputs // 2}")
        self.decode_rows, self.beam_size, self.length_penalty = decode_rows, beam_size, length_penalty
        # of a target, [BOS] is only read and the last token only predicted
        self.length = self.spec.input_as(TextPairSpec).target_length - 1
        self.longest_source: int | None = None

    def encode(self, source: Tensor) -> Tensor:
        """Encode source ids (B, S) as vectors (B, S, width) that the decoder attends to."""
        raise NotImplementedError(f"{type(self).__name__}.encode")

    def decode(self, target: Tensor, memory: Tensor, mask: Tensor, cache: Cache | None = None) -> Tensor:
        """Logits (B, T, V) from target ids (B, T) and the encoded source (B, S, width), real where mask (B, S) is true.

        Padding of the target can only be at the end, where no real position looks. With a cache, the target
        continues what it holds.
        """
        raise NotImplementedError(f"{type(self).__name__}.decode")

    def generate(self, source: Tensor, beams: int = 1) -> Tensor:
        """Write texts for sources (B, S): ids (B, length) up to `[EOS]`, then padding.

        Raises:
            UserError: a source longer than the learned positions.
        """
        if self.longest_source is not None and source.shape[1] > self.longest_source:
            raise UserError(
                f"a source of {source.shape[1]} tokens: this model has learned positions for {self.longest_source}"
            )
        rows = source.repeat_interleave(beams, 0)
        memory, mask = self.encode(source).repeat_interleave(beams, 0), rows != PAD

        def step(tokens: Tensor, cache: Cache) -> Tensor:
            return self.decode(tokens, memory, mask, cache)

        start = source.new_full((len(source), 1), BOS)
        if beams == 1:
            return greedy(step, start, self.length)
        return beam_search(step, start, self.length, beams=beams, penalty=self.length_penalty)

    @property
    def writes(self) -> bool:
        """True where the task is seq2seq: validation, test and prediction then write texts."""
        return self.task.name == "seq2seq"

    @override
    def step(self, batch: Mapping[str, Tensor], stage: Stage) -> Tensor:
        if self.writes and stage == "val":
            batch = {**batch, "decoded": self._validated(batch)}
        elif self.writes and stage == "test":
            batch = {**batch, "decoded": self.generate(batch["input"], self.beam_size)}
        return super().step(batch, stage)

    def _validated(self, batch: Mapping[str, Tensor]) -> Tensor:
        """Texts (B, length) written in validation; padding alone for rows beyond the first `decode_rows`."""
        source = batch["input"]
        if self.decode_rows is None:
            return self.generate(source)
        decoded = source.new_full((len(source), self.length), PAD)
        asked = batch["index"] < self.decode_rows
        if asked.any():
            decoded[asked] = self.generate(source[asked])
        return decoded

    def predict_step(self, batch: Mapping[str, Tensor], batch_idx: int) -> Tensor:
        """Predictions of a batch; of seq2seq, ids (B, length) of the texts, which the spec's tokenizer reads."""
        if self.writes:
            return self.generate(batch["input"], self.beam_size)
        return super().predict_step(batch, batch_idx)

    @override
    def decode_for_display(self, batch: Mapping[str, Tensor]) -> tuple[Tensor, Tensor | None]:
        return (self.predict_step(batch, 0), batch.get("target")) if self.writes else super().decode_for_display(batch)

    def generate_texts(self, batch: Mapping[str, Tensor]) -> tuple[Tensor, ...] | None:
        """Sources (B, S), texts written for them (B, length), targets (B, T); None where the task writes none."""
        return (batch["input"], self.generate(batch["input"]), batch["target"]) if self.writes else None
