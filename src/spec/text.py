"""Text: token ids, padded with 0 at the end."""

from __future__ import annotations

from dataclasses import dataclass, field

from typing_extensions import override

from src.spec.inputs import InputSpec


@dataclass(frozen=True)
class TokenizedSpec(InputSpec):
    """Base of all text; `shape` is the largest (T,), of a pair that of its source.

    Attributes:
        tokenizer: definition of the `Tokenizer`.
        token_counts: how often each token occurs in the training split, in the order of their ids.
        characters_per_token: on average, in the training split.
    """

    tokenizer: str = field(default="", repr=False)
    token_counts: tuple[int, ...] = field(default=(), repr=False)
    characters_per_token: float = 1.0

    @property
    def vocabulary_size(self) -> int:
        """Number of tokens in the vocabulary, special ones included."""
        return len(self.token_counts)

    @property
    @override
    def arguments(self) -> dict[str, object]:
        """`vocab_size`, or `num_embeddings`, and `sequence_length`."""
        own = {"vocab_size": self.vocabulary_size, "num_embeddings": self.vocabulary_size}
        return {"input_shape": self.shape, "sequence_length": self.shape[0], **own}


@dataclass(frozen=True)
class TextSpec(TokenizedSpec):
    """A text as token ids (T,)."""

    modality = "text"


@dataclass(frozen=True)
class TextPairSpec(TokenizedSpec):
    """A source `tokens [EOS]` and a target `[BOS] tokens [EOS]`, both token ids of one vocabulary.

    No kind of `TextSpec`: what takes single texts does not take pairs.

    Attributes:
        target_length: tokens of the longest target of all splits, `[BOS]` and `[EOS]` included.
    """

    modality = "text_pairs"

    target_length: int = 0
