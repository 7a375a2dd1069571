"""Text: one long text to model, or labelled texts to classify, as token ids."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Unpack

import torch
from annotated_types import Ge
from torch import Tensor
from typing_extensions import override

from src.data.core import subset
from src.data.core.files import data_root, download, own_file, read_text
from src.data.core.module import DataModule
from src.data.core.options import SplitOptions, with_defaults
from src.data.core.samplers import ByLength, EpochSampler
from src.data.core.splits import Split, column_as
from src.data.text.sequences import Sequences
from src.errors import UserError, suggest
from src.runtime.ranges import PositiveInt
from src.spec import DataSpec, InputSpec, TextSpec, TokenizedSpec
from src.spec.tokenizer import BOS, Level, Tokenizer

SOURCES = ("topics", "tiny_shakespeare", "file")


_PIECE = 10_000  # characters tokenized at a time, so that all cores take part


class Text(DataModule):
    """Base of all data made of text: trains a tokenizer on the training split, or takes one that a model brings.

    Args:
        level: what a token is: char, word or bpe.
        vocab_size: most tokens of a word or bpe vocabulary.
        by_length: training batches hold rows of like length, so that little is padding.
        batch_tokens: most tokens of a training batch, padding included; needs `by_length`.

    Attributes:
        tokenizer: what `take_tokenizer` was given; else it is trained on the training split.

    Raises:
        UserError: an option out of its range.
    """

    inputs: tuple[type[InputSpec], ...] = (TextSpec,)

    def __init__(
        self,
        *,
        level: Level = "char",
        vocab_size: Annotated[int, Ge(10)] = 8000,
        by_length: bool = False,
        batch_tokens: int | None = None,
        **common: Unpack[SplitOptions],
    ) -> None:
        own = with_defaults(common, eval_batch_size=256, val_fraction=0.1, test_fraction=0.1)
        super().__init__(standardize=False, **own)
        if level not in ("char", "word", "bpe"):
            raise UserError(f"data.level={level}: char, word or bpe")
        if batch_tokens is not None and not by_length:
            raise UserError(f"data.batch_tokens={batch_tokens} needs data.by_length=true")
        if by_length and self.drop_last:
            raise UserError("data.drop_last does not go with data.by_length: its batches differ in size")
        self.level: Level = level
        self.vocab_size = vocab_size
        self.by_length = by_length
        self.batch_tokens = batch_tokens
        self.tokenizer: Tokenizer | None = None
        self.path: Path | None = None
        self._characters = 0

    def take_tokenizer(self, definition: str) -> None:
        """Use the tokenizer of this definition as it is; call it before `setup`."""
        self.tokenizer = Tokenizer(definition)

    def fit_tokenizer(self, texts: Sequence[str]) -> Tokenizer:
        """Train the tokenizer on texts of the training split, unless there is one."""
        if self.tokenizer is None:
            self.tokenizer = Tokenizer.train(texts, self.level, self.vocab_size)
        self._characters = sum(map(len, texts))
        return self.tokenizer

    def _fitted(self) -> Tokenizer:
        """The tokenizer, once it is there."""
        if self.tokenizer is None:
            raise RuntimeError("fit_tokenizer() comes first")
        return self.tokenizer

    @property
    def where(self) -> str:
        """Beginning of messages about the user's own file."""
        return f"data.path: {self.path}"

    def _given(self) -> Path:
        """The user's own file.

        Raises:
            UserError: there is none, as the dataset is one of those that are downloaded.
        """
        if self.path is None:
            raise UserError(f"data={self.name} is one dataset; other data: data.source=file data.path=FILE")
        return self.path

    def _split(self, splits: dict[str, Split]) -> dict[str, Split]:
        return splits  # by load(), since the tokenizer may see the training split alone

    def _measure_input(self, **more: object) -> InputSpec:
        tokens, tokenizer = self._training_tokens(), self._fitted()
        return super()._measure_input(
            # of all splits: what comes at the end must fit into the model too
            shape=(self._longest("input"),),
            tokenizer=str(tokenizer),
            token_counts=tuple(torch.bincount(tokens, minlength=len(tokenizer)).tolist()),
            # of those that are predicted: nothing comes before [BOS]
            characters_per_token=self._characters / max(1, int((tokens != BOS).sum())),
            **more,
        )

    def _training_tokens(self) -> Tensor:
        """Tokens (N,) of the whole training split."""
        return column_as(self.splits["train"], "input", Sequences).tokens

    def _longest(self, side: str) -> int:
        """Tokens of the longest `input` or `target` of all splits."""
        return max(split[side].shape[1] for split in self.splits.values())

    def _sampler(self, split: Split, device: torch.device | str) -> EpochSampler:
        if not self.by_length:
            return super()._sampler(split, device)
        rank, world_size = self._rank()
        options: dict[str, Any] = {"rank": rank, "world_size": world_size, "device": device}
        return ByLength(self._lengths(split), self.batch_size, seed=self.seed, tokens=self.batch_tokens, **options)

    def _lengths(self, split: Split) -> Tensor:
        """Lengths of the rows (N,), as `by_length` and `batch_tokens` count them."""
        return column_as(split, "input", Sequences).lengths


class Corpus(Text):
    """One long text, to be modelled: windows of `context + 1` tokens, split by position into train, test and val.

    Args:
        source: `topics` (the English text of Python's own help, half a million characters), `tiny_shakespeare`
            (downloaded once; Karpathy 2015, char-rnn), or `file`.
        path: of a text file in UTF-8, plain or gzipped, where the source is a file.
        root: folder for downloads; null: LABBOOK_DATA_ROOT, else data/ in the project.
        context: tokens from which the next one is foretold.
        stride: between the starts of two training windows; null: `context`, so that each token is foretold once an
            epoch.
        test_fraction: of the text; 0: no test split.

    Raises:
        UserError: a file that cannot be read or is empty, or a part shorter than one window.
    """

    tasks = ("causal_lm", "masked_lm")

    def __init__(
        self,
        *,
        source: Literal["topics", "tiny_shakespeare", "file"] = "topics",
        path: str | None = None,
        root: str | None = None,
        context: PositiveInt = 64,
        stride: PositiveInt | None = None,
        test_fraction: float = 0.1,
        **options,
    ) -> None:
        if source not in SOURCES:
            raise UserError(f"data.source={source} is no text{suggest(source, SOURCES)}")
        super().__init__(test_fraction=test_fraction or 0.1, **options)
        if self.val_fraction + test_fraction >= 1:
            raise UserError(
                f"data.val_fraction={self.val_fraction} and data.test_fraction={test_fraction} leave no training text"
            )
        self.name = source
        self.root = data_root(root)
        self.path = own_file(source, path)
        self.context = context
        self.stride = stride or context
        self.test_fraction = test_fraction

    @override
    def prepare_data(self) -> None:
        if self.name == "tiny_shakespeare":
            self.path = download(self.name, self.root)[0]

    @override
    def load(self) -> dict[str, Split]:
        self.prepare_data()
        text = _topics() if self.path is None else read_text(self.path)
        self.source = "pydoc_data.topics" if self.path is None else str(self.path)
        cuts = [
            round(len(text) * share) for share in (1 - self.val_fraction - self.test_fraction, 1 - self.val_fraction)
        ]
        pieces = {"train": text[: cuts[0]], "test": text[cuts[0] : cuts[1]], "val": text[cuts[1] :]}
        pieces["train"] = pieces["train"][subset.stretch(cuts[0], self.train_fraction, seed=self.seed)]
        self._is_share = True
        tokenizer = self.fit_tokenizer([pieces["train"]])
        if not self.test_fraction:
            del pieces["test"]
        strides = {"train": self.stride}
        return {
            name: {"input": self._windows(tokenizer, piece, name, strides.get(name, self.context))}
            for name, piece in pieces.items()
        }

    @override
    def whole(self, spec: DataSpec) -> Split:
        tokenizer = Tokenizer(spec.input_as(TokenizedSpec).tokenizer)
        return {"input": self._windows(tokenizer, read_text(self._given()), "test", self.context)}

    def _windows(self, tokenizer: Tokenizer, text: str, split: str, stride: int) -> Sequences:
        encoded = tokenizer.encode([text[i : i + _PIECE] for i in range(0, len(text), _PIECE)])
        tokens = torch.tensor([token for ids in encoded for token in ids], dtype=torch.int64)
        if len(tokens) <= self.context:
            raise UserError(
                f"data: the {split} split has {len(tokens)} tokens, data.context={self.context} needs more than that"
            )
        return Sequences.windows(tokens, self.context + 1, stride)


def _topics() -> str:
    from pydoc_data.topics import topics  # noqa: PLC0415 (half a million characters)

    return "\n".join(topics[name] for name in sorted(topics))
