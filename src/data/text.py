"""Text: one long text to model, or labelled texts to classify, as token ids."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from src.data import fraction
from src.data.base import DataModule
from src.data.files import data_root, download, own_file, read_text
from src.data.loading import EpochSampler
from src.data.sequences import ByLength, Sequences
from src.data.splits import Part
from src.errors import UserError, suggest
from src.spec import DataSpec
from src.text import BOS, EOS, Level, Tokenizer

SOURCES = ("topics", "tiny_shakespeare", "file")
_PIECE = 10_000  # characters tokenized at a time, so that all cores take part


class Text(DataModule):
    """Base of all data made of text: trains a tokenizer on the training part, or takes one that a model brings.

    Args:
        level: what a token is: char, word or bpe.
        vocab_size: most tokens of a word or bpe vocabulary.
        by_length: training batches hold rows of like length, so that little is padding.
        batch_tokens: most tokens of a training batch, padding included; needs `by_length`.

    Attributes:
        tokenizer: set before `setup`, it is used as it is; else it is trained on the training part.

    Raises:
        UserError: an option out of its range.
    """

    kind = "tokens"

    def __init__(
        self,
        *,
        level: Level = "char",
        vocab_size: int = 8000,
        by_length: bool = False,
        batch_tokens: int | None = None,
        seed: int = 0,
        batch_size: int = 64,
        eval_batch_size: int = 256,
        num_workers: int = 0,
        val_fraction: float = 0.1,
        test_fraction: float = 0.1,
        split_seed: int = 0,
        drop_last: bool = False,
        on_device: bool = False,
    ) -> None:
        super().__init__(
            seed=seed,
            batch_size=batch_size,
            eval_batch_size=eval_batch_size,
            num_workers=num_workers,
            val_fraction=val_fraction,
            test_fraction=test_fraction,
            split_seed=split_seed,
            drop_last=drop_last,
            standardize=False,
            on_device=on_device,
        )
        if level not in ("char", "word", "bpe"):
            raise UserError(f"data.level={level}: char, word or bpe")
        if vocab_size < 10:
            raise UserError(f"data.vocab_size={vocab_size} must be at least 10")
        if batch_tokens is not None and not by_length:
            raise UserError(f"data.batch_tokens={batch_tokens} needs data.by_length=true")
        if by_length and drop_last:
            raise UserError("data.drop_last does not go with data.by_length: its batches differ in size")
        self.level: Level = level
        self.vocab_size = vocab_size
        self.by_length = by_length
        self.batch_tokens = batch_tokens
        self.tokenizer: Tokenizer | None = None
        self.path: Path | None = None
        self._characters = 0

    def fit_tokenizer(self, texts: Sequence[str]) -> Tokenizer:
        """The tokenizer, trained on these texts of the training part where there is none yet."""
        if self.tokenizer is None:
            self.tokenizer = Tokenizer.train(texts, self.level, self.vocab_size)
        self._characters = sum(map(len, texts))
        return self.tokenizer

    def _given(self) -> Path:
        """The user's own file.

        Raises:
            UserError: there is none, as the dataset is one of those that are downloaded.
        """
        if self.path is None:
            raise UserError(f"data={self.name} is one dataset; other data: data.source=file data.path=FILE")
        return self.path

    def _split(self, parts: dict[str, Part]) -> dict[str, Part]:
        return parts  # by load(), since the tokenizer may see the training part alone

    def _measure(self) -> DataSpec:
        inputs = self.parts["train"]["input"]
        counts = torch.bincount(inputs.tokens, minlength=len(self.tokenizer))
        return replace(
            super()._measure(),
            input_shape=(max(part["input"].shape[1] for part in self.parts.values()),),
            tokenizer=str(self.tokenizer),
            token_counts=tuple(counts.tolist()),
            # of those that are foretold: nothing comes before [BOS]
            characters_per_token=self._characters / max(1, int((inputs.tokens != BOS).sum())),
        )

    def _sampler(self, part: Part, device: torch.device | str) -> EpochSampler:
        if not self.by_length:
            return super()._sampler(part, device)
        rank, world_size = self._rank()
        options = {"rank": rank, "world_size": world_size, "device": device}
        return ByLength(self._lengths(part), self.batch_size, seed=self.seed, tokens=self.batch_tokens, **options)

    def _lengths(self, part: Part) -> Tensor:
        """Of each row (N,), as `by_length` and `batch_tokens` count them."""
        return part["input"].lengths


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
        test_fraction: of the text; 0: no test part.

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
        context: int = 64,
        stride: int | None = None,
        test_fraction: float = 0.1,
        **options,
    ) -> None:
        if source not in SOURCES:
            raise UserError(f"data.source={source} is no text{suggest(source, SOURCES)}")
        super().__init__(test_fraction=test_fraction or 0.1, **options)
        for option, value in (("context", context), ("stride", stride)):
            if value is not None and value < 1:
                raise UserError(f"data.{option}={value} must be at least 1")
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

    def prepare_data(self) -> None:
        if self.name == "tiny_shakespeare":
            self.path = download(self.name, self.root)[0]

    def load(self) -> dict[str, Part]:
        self.prepare_data()
        text = _topics() if self.path is None else read_text(self.path)
        self.source = "pydoc_data.topics" if self.path is None else str(self.path)
        cuts = [
            round(len(text) * share) for share in (1 - self.val_fraction - self.test_fraction, 1 - self.val_fraction)
        ]
        pieces = {"train": text[: cuts[0]], "test": text[cuts[0] : cuts[1]], "val": text[cuts[1] :]}
        pieces["train"] = pieces["train"][fraction.stretch(cuts[0], self.train_fraction, seed=self.seed)]
        self._is_share = True
        tokenizer = self.fit_tokenizer([pieces["train"]])
        if not self.test_fraction:
            del pieces["test"]
        strides = {"train": self.stride}
        return {
            name: {"input": self._windows(tokenizer, piece, name, strides.get(name, self.context))}
            for name, piece in pieces.items()
        }

    def whole(self, spec: DataSpec) -> Part:
        return {"input": self._windows(Tokenizer(spec.tokenizer), read_text(self._given()), "test", self.context)}

    def _windows(self, tokenizer: Tokenizer, text: str, part: str, stride: int) -> Sequences:
        encoded = tokenizer.encode([text[i : i + _PIECE] for i in range(0, len(text), _PIECE)])
        tokens = torch.tensor([token for ids in encoded for token in ids], dtype=torch.int64)
        if len(tokens) <= self.context:
            raise UserError(
                f"data: the {part} part has {len(tokens)} tokens, data.context={self.context} needs more than that"
            )
        return Sequences.windows(tokens, self.context + 1, stride)


class Labelled(Text):
    """Base of texts with a class each.

    Rows are `[BOS] tokens [EOS]`. A text of more than `max_tokens` is cut off at its end; how many were is in the
    dataset's description.

    Args:
        text, label: names of the columns.
        max_tokens: of a row, the two special ones included.

    Raises:
        UserError: an option out of its range, one class only.
    """

    tasks = ("classification", "masked_lm", "causal_lm")

    def __init__(self, *, text: str = "text", label: str = "label", max_tokens: int = 128, **options) -> None:
        super().__init__(**options)
        if max_tokens < 3:
            raise UserError(f"data.max_tokens={max_tokens} must be at least 3")
        self.columns = text, label
        self.max_tokens = max_tokens
        self.texts_cut = 0

    def _rows_of_parts(self) -> dict[str, list[tuple[str, str]]]:
        """(text, label) of each row, as of `load`."""
        raise NotImplementedError

    def _rows_given(self) -> list[tuple[str, ...]]:
        """(text, label) of each row of the user's own data, whatever its parts."""
        raise NotImplementedError

    def load(self) -> dict[str, Part]:
        rows = self._rows_of_parts()
        self.class_names = tuple(sorted({label for part in rows.values() for _, label in part}))
        if len(self.class_names) < 2:
            raise UserError(f"data={self.name}: one class only ({', '.join(self.class_names)}), two or more are needed")
        if set(self.class_names) == {"0", "1"}:
            self.tasks = ("binary", *self.tasks)
        number = {label: i for i, label in enumerate(self.class_names)}
        labels = {name: torch.tensor([number[label] for _, label in part]) for name, part in rows.items()}
        parts = DataModule._split(
            self, {name: {"input": torch.arange(len(part)), "target": labels[name]} for name, part in rows.items()}
        )
        whole = rows.get("all") or rows["train"]
        texts = {name: [rows.get(name, whole)[i][0] for i in part["input"].tolist()] for name, part in parts.items()}
        tokenizer = self.fit_tokenizer(texts["train"])
        return {
            name: {"input": self._sequences(tokenizer.encode(texts[name])), "target": part["target"]}
            for name, part in parts.items()
        }

    def whole(self, spec: DataSpec) -> Part:
        rows = self._rows_given()
        number = {name: i for i, name in enumerate(spec.class_names)}
        for _, label in rows:
            if label not in number:
                raise UserError(f"data.path: {self.path}: {label} is no class of the model{suggest(label, number)}")
        encoded = Tokenizer(spec.tokenizer).encode([text for text, _ in rows])
        return {"input": self._sequences(encoded), "target": torch.tensor([number[label] for _, label in rows])}

    def _sequences(self, encoded: list[list[int]]) -> Sequences:
        most = self.max_tokens - 2
        self.texts_cut += sum(len(ids) > most for ids in encoded)
        return Sequences.of([[BOS, *ids[:most], EOS] for ids in encoded])

    def describe(self) -> dict:
        return super().describe() | {"texts_cut": self.texts_cut}


class LabelledText(Labelled):
    """Texts with a class each: a table with a text and a label column, or a dataset of that form.

    Args:
        source: `sst2` (sentences of film reviews, Socher et al. 2013, downloaded once), `names` (surnames of 18
            languages, downloaded once), or `file`.
        path: of a csv or tsv file with a header, where the source is a file.
        root: as of Corpus.

    Raises:
        UserError: a file that cannot be read, a missing column, an empty text or label (row named).
    """

    def __init__(
        self,
        *,
        source: Literal["sst2", "names", "file"] = "names",
        path: str | None = None,
        root: str | None = None,
        **options,
    ) -> None:
        super().__init__(**options)
        self.name = source
        self.path = own_file(source, path)
        self.root = data_root(root)

    def _rows_given(self) -> list[tuple[str, ...]]:
        return read_columns(self._given(), *self.columns)

    def _rows_of_parts(self) -> dict[str, list[tuple[str, str]]]:
        if self.name == "file":
            self.source = str(self.path)
            return {"all": read_columns(self.path, *self.columns)}
        files = download(self.name, self.root)
        self.source = str(files[0].parent)
        if self.name == "names":
            return {"all": [(line, file.stem) for file in files for line in read_text(file).splitlines() if line]}
        rows = {}
        for name, file in zip(("train", "val", "test"), files, strict=True):
            cells = [line.split("\t") for line in read_text(file).splitlines()]
            rows[name] = [(text, label) for text, label in cells]
        return rows


def read_columns(path: Path, *columns: str) -> list[tuple[str, ...]]:
    """The cells of these columns in each row of a csv or tsv file with a header.

    Raises:
        UserError: a column that is not there, an empty cell (row named), no rows.
    """
    content = read_text(path)
    delimiter = "\t" if ".tsv" in path.suffixes else ","
    reader = csv.DictReader(content.splitlines(keepends=True), delimiter=delimiter)
    for column in columns:
        if column not in (reader.fieldnames or ()):
            raise UserError(f"data.path: {path} has no column {column}{suggest(column, reader.fieldnames or ())}")
    rows = []
    for row in reader:
        for column in columns:
            if not (row[column] or "").strip():
                raise UserError(f"data.path: {path}, line {reader.line_num}: column {column} is empty")
        rows.append(tuple(row[column] for column in columns))
    if not rows:
        raise UserError(f"data.path: {path} has a header and no rows")
    return rows


def _topics() -> str:
    from pydoc_data.topics import topics

    return "\n".join(topics[name] for name in sorted(topics))
