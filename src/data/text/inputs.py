"""New texts for a trained model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from typing_extensions import override

from src.data.core.files import read_text
from src.data.core.inputs import Inputs, Rows
from src.data.text.classification import read_columns
from src.data.text.sequences import Sequences
from src.errors import UserError
from src.spec import TextPairSpec, TokenizedSpec
from src.spec.tokenizer import BOS, EOS, UNK, Tokenizer


@dataclass
class Texts(Inputs):
    """Texts as token ids: `[BOS] text [EOS]`, or `text [EOS]` for the source of a pair."""

    texts: Sequence[str] = ()

    @override
    def batches(self, size: int) -> Iterator[Rows]:
        tokenizer, longest = Tokenizer(self.spec.input_as(TokenizedSpec).tokenizer), self.spec.input_shape[0]
        begin = [] if isinstance(self.spec.input, TextPairSpec) else [BOS]
        room = longest - len(begin) - 1
        cut = unknown = 0
        for start in range(0, len(self.texts), size):
            texts = list(self.texts[start : start + size])
            encoded = tokenizer.encode(texts)
            cut += sum(len(ids) > room for ids in encoded)
            unknown += sum(UNK in ids for ids in encoded)
            rows = [[*begin, *ids[:room], EOS] for ids in encoded]
            column = Sequences.of(rows)
            numbers = list(range(start + 1, start + len(texts) + 1))
            yield Rows({"row": numbers, "text": texts}, column[torch.arange(len(texts))])
        if cut:
            self.notes.append(
                f"texts that were cut to {longest} tokens, the longest that the model was made for: {cut}"
            )
        if unknown:
            self.notes.append(f"texts with signs or words that the model's vocabulary lacks: {unknown}")


def read_lines(path: Path, column: str) -> list[str]:
    """Read the texts of a file: its lines, or the cells of a column of a csv or tsv file.

    Raises:
        UserError: a file that cannot be read, a column that is not there, an empty text (line named).
    """
    if {".csv", ".tsv"} & set(path.suffixes):
        return [text for (text,) in read_columns(path, column)]
    texts = [text.removesuffix("\r") for text in read_text(path).removesuffix("\n").split("\n")]
    for line, text in enumerate(texts, start=1):
        if not text.strip():
            raise UserError(f"data.path: {path}, line {line} has no text")
    return texts
