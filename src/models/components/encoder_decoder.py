"""Models that write a text for another one: what those with an encoder and a decoder share."""

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
    """Where the task is seq2seq, validation writes its texts greedily, test and prediction with `beam_size` beams.

    Attributes:
        length: most tokens that are written.
        longest_source: that can be read; None: any.
        decode_rows: so many rows of the validation split are written out each epoch, the first ones; None: all.
        beam_size: beginnings that test and prediction keep alive; 1 is greedy.
        length_penalty: of the beams, Wu et al.'s alpha.
    """

    def plan(self, decode_rows: int | None, beam_size: int, length_penalty: float) -> None:
        """Keeps how texts are written.

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
        """Ids (B, S) to what the decoder attends to (B, S, width)."""
        raise NotImplementedError(f"{type(self).__name__}.encode")

    def decode(self, target: Tensor, memory: Tensor, mask: Tensor, cache: Cache | None = None) -> Tensor:
        """Ids (B, T) and the encoded source (B, S, width), true in mask (B, S) where it is real, to logits (B, T, V).

        Padding of the target can only be at the end, where no real position looks. With a cache, the target goes on
        from what it holds.
        """
        raise NotImplementedError(f"{type(self).__name__}.decode")

    def generate(self, source: Tensor, beams: int = 1) -> Tensor:
        """Ids (B, S) to those of the text written for them, (B, length): up to `[EOS]`, then padding.

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
        """What is written in validation; padding alone for rows that are not among the first `decode_rows`."""
        source = batch["input"]
        if self.decode_rows is None:
            return self.generate(source)
        decoded = source.new_full((len(source), self.length), PAD)
        asked = batch["index"] < self.decode_rows
        if asked.any():
            decoded[asked] = self.generate(source[asked])
        return decoded

    def predict_step(self, batch: Mapping[str, Tensor], batch_idx: int) -> Tensor:
        """As of `Model`; of seq2seq, ids (B, length) of the texts written: the spec's tokenizer reads them."""
        if self.writes:
            return self.generate(batch["input"], self.beam_size)
        return super().predict_step(batch, batch_idx)

    @override
    def decode_for_display(self, batch: Mapping[str, Tensor]) -> tuple[Tensor, Tensor | None]:
        return (self.predict_step(batch, 0), batch.get("target")) if self.writes else super().decode_for_display(batch)

    def generate_texts(self, batch: Mapping[str, Tensor]) -> tuple[Tensor, ...] | None:
        """Sources (B, S), texts written for them (B, length), targets (B, T); None where the task writes none."""
        return (batch["input"], self.generate(batch["input"]), batch["target"]) if self.writes else None
