"""Texts in memory with a class each, made into tokens by the code that does so with texts in files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Unpack

from annotated_types import Ge
from typing_extensions import override

from src.data.core.options import SplitOptions
from src.data.text.classification import LabelledTexts
from src.runtime.ranges import PositiveInt
from src.spec.tokenizer import Level


class OwnTexts(LabelledTexts):
    """Texts of a user's own with a class each, by split, or as `all`.

    Args:
        made: (text, label) of each row.
        title: their name.
        max_rows: of an iterable that they were read from.
        text, label: names of the two in rows that are dicts, and of columns.
        max_tokens, level, vocab_size, by_length, batch_tokens: as of data=text_csv.
    """

    what = "texts"

    def __init__(
        self,
        *,
        made: Mapping[str, Sequence[tuple[str, str]]],
        title: str,
        text: str | None = None,
        label: str | None = None,
        max_tokens: Annotated[int, Ge(3)] = 128,
        level: Level = "word",
        vocab_size: PositiveInt = 8000,
        by_length: bool = True,
        batch_tokens: int | None = None,
        max_rows: PositiveInt | None = None,
        **common: Unpack[SplitOptions],
    ) -> None:
        super().__init__(
            text=text or "text",
            label=label or "label",
            max_tokens=max_tokens,
            level=level,
            vocab_size=vocab_size,
            by_length=by_length,
            batch_tokens=batch_tokens,
            **common,
        )
        self.made, self.name = made, title

    @property
    @override
    def where(self) -> str:
        return f"data={self.name}"

    @override
    def _rows_of_parts(self) -> Mapping[str, Sequence[tuple[str, ...]]]:
        return self.made

    @override
    def _rows_given(self) -> list[tuple[str, ...]]:
        return [row for part in self.made.values() for row in part]
