"""Texts and pairs of texts as modalities."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from typing_extensions import override

from src import plots
from src.data.core.chunks import Split
from src.data.core.modality import SHOWN_ROWS, Field, Listing, Modality, Source, register_modality
from src.data.text.inputs import Texts, read_lines
from src.errors import UserError
from src.runtime.format import shorten
from src.spec import TokenizedSpec
from src.spec.tokenizer import PAD, SEP, SPECIAL, UNK, Tokenizer

if TYPE_CHECKING:
    from src.data.core.inputs import Inputs
    from src.data.core.module import DataModule
    from src.plots.base import Figure

LETTERS = 300  # of an example's text


def texts_of(source: Source) -> Sequence[str]:
    """The one text, or those of a file.

    Raises:
        UserError: as `read_lines`, or the text is empty.
    """
    if source.text is None:
        return read_lines(source.path, source.options.get("text") or source.trained.get("text") or "text")
    if not source.text.strip():
        raise UserError("text= is empty: give at least one word")
    return [source.text]


class TokenizedModality(Modality):
    """Token ids of texts."""

    takes_text = True
    is_drawn = False

    @property
    def form(self) -> TokenizedSpec:
        """The spec's input."""
        return self.spec.input_as(TokenizedSpec)

    @property
    @override
    def tokenizer(self) -> str:
        return self.form.tokenizer

    # new rows -------------------------------------------------------------------------------------------------------

    @override
    def options(self, path: Path) -> tuple[str, ...]:
        return ("text",)

    @override
    def inputs(self, source: Source) -> Inputs:
        return Texts(self.spec, texts=texts_of(source))

    def from_memory(self, rows: Any, folder: Path) -> Inputs:
        """Read a list of texts, or a DataFrame with a column `text`."""
        return Texts(self.spec, texts=[str(text) for text in (rows["text"] if hasattr(rows, "columns") else rows)])

    # in words -------------------------------------------------------------------------------------------------------

    @override
    def describe(
        self, splits: Mapping[str, Split], described: Mapping[str, Any], times: Sequence[str]
    ) -> Iterator[tuple[str, str]]:
        size, characters = self.form.vocabulary_size, self.form.characters_per_token
        yield "vocabulary", f"{size:,} tokens, {characters:.2f} characters each"
        for name, split in splits.items():
            for side in ("input", "target"):
                lengths = getattr(split.get(side), "lengths", None)
                if lengths is None:
                    continue
                low, middle, high, most = (int(length) for length in np.quantile(lengths.numpy(), (0, 0.5, 0.95, 1)))
                average = lengths.double().mean()
                text = f"{low} to {most} a row, {average:.1f} on average, median {middle}, 95 % up to {high}"
                unknown = int((split[side].tokens == UNK).sum()) / max(1, len(split[side].tokens))
                text += f"; {100 * unknown:.2f} % unknown" if unknown else ""
                yield f"{name} tokens{self._side(side)}", text
        for what in ("texts_cut", "training_pairs_left_out"):
            if described.get(what):
                yield what.replace("_", " "), f"{described[what]:,} are longer than data.max_tokens"

    def _side(self, side: str) -> str:
        """Suffix that names the side of a pair; empty for rows of one text."""
        return ""

    def listing(self, data: DataModule) -> Listing:
        """Some rows of text, with their targets."""
        batch = data.head("train", SHOWN_ROWS)
        targets = self._targets(batch)
        rows = [[content["text"]] for content in self.content(batch["input"])]
        if targets is not None:
            rows = [[*row, target] for row, target in zip(rows, targets, strict=True)]
        headings = ("text",) if targets is None else ("text", "target")
        return Listing(headings, [[shorten(cell, LETTERS + 1) for cell in row] for row in rows], what="texts")

    def _targets(self, batch: Mapping[str, Tensor]) -> list[str] | None:
        names = self.spec.class_names
        return [names[int(value)] for value in batch["target"]] if names else None

    def content(self, inputs: Tensor) -> list[dict[str, str]]:
        """The text of each row, question and context on lines of their own."""
        tokenizer = Tokenizer(self.tokenizer)
        return [{"text": _text(tokenizer, ids)} for ids in inputs.tolist()]

    def cell_names(self, x: Tensor) -> list[list[str]]:
        """Names of the tokens before the padding, with visible spaces and line ends."""
        return [token_names(self.tokenizer, ids) for ids in x.tolist()]


@register_modality("text")
class TextModality(TokenizedModality):
    """Single texts."""

    @override
    def signature(self) -> list[Field]:
        return [Field("text", numeric=False, required=True)]

    @override
    def example(self, count: int) -> Tensor:
        return torch.full((count, *self.spec.input_shape), self.form.vocabulary_size - 1)

    @override
    def padded(self, rows: Tensor) -> Tensor:
        return torch.nn.functional.pad(rows, (0, self.spec.input_shape[0] - rows.shape[1]))

    # attributions ---------------------------------------------------------------------------------------------------

    @property
    @override
    def methods(self) -> tuple[str, ...]:
        return ("integrated gradients",)

    @property
    @override
    def is_embedded(self) -> bool:
        return True

    def baseline(self, x: Tensor, mean: Tensor | None) -> Tensor:
        """Baseline with the unknown token in place of all but the special ones."""
        return torch.where(self.removable(x), UNK, x)

    def removable(self, x: Tensor) -> Tensor:
        """Mask (B, T) of all but the special tokens."""
        return x >= len(SPECIAL)

    @override
    def draw_attributions(self, x: Tensor, found: Mapping[str, Tensor], titles: Sequence[str]) -> Figure:
        ((method, values),) = found.items()
        return plots.attribution.words(self.cell_names(x), values.tolist(), titles, method)


@register_modality("text_pairs")
class TextPairModality(TokenizedModality):
    """A source and a target, both texts."""

    def _side(self, side: str) -> str:
        return f" ({side})"

    def _targets(self, batch: Mapping[str, Tensor]) -> list[str]:
        tokenizer = Tokenizer(self.tokenizer)
        return [tokenizer.decode(ids) for ids in batch["target"].tolist()]


def token_names(definition: str, ids: Sequence[int]) -> list[str]:
    """Names of the tokens before the padding, with visible spaces and line ends."""
    tokenizer = Tokenizer(definition)
    ids = [token for token in ids if token != PAD]
    names = [SPECIAL[token] if token < len(SPECIAL) else tokenizer.decode([token]) for token in ids]
    return [name.replace(" ", "\u00b7").replace("\n", "\u21b5").replace("\t", "\u21e5") for name in names]


def _text(tokenizer: Tokenizer, ids: list[int]) -> str:
    """The text of a row, question and context on lines of their own."""
    if SEP not in ids:
        return tokenizer.decode(ids)
    place = ids.index(SEP)
    return f"{tokenizer.decode(ids[:place])}\n{tokenizer.decode(ids[place:])}"
