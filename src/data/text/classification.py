"""Texts with a class each, from csv files."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal

import torch
from annotated_types import Ge
from typing_extensions import override

from src.data.core.files import data_root, download, own_file, read_text, required
from src.data.core.splits import Split, tensor_of
from src.data.text.corpus import Text
from src.data.text.sequences import Sequences
from src.errors import UserError, suggest
from src.spec import DataSpec, TokenizedSpec
from src.spec.tokenizer import BOS, EOS, Tokenizer


class LabelledTexts(Text):
    """Base of texts with a class each.

    Rows are `[BOS] tokens [EOS]`. A text of more than `max_tokens` is cut off at its end; how many were is in the
    dataset's description.

    Args:
        text, label: names of the columns.
        max_tokens: of a row, the two special ones included.

    Raises:
        UserError: an option out of its range, one class only.
    """

    tasks: tuple[str, ...] = ("classification", "masked_lm", "causal_lm")

    def __init__(
        self, *, text: str = "text", label: str = "label", max_tokens: Annotated[int, Ge(3)] = 128, **options
    ) -> None:
        super().__init__(**options)
        self.columns = text, label
        self.max_tokens = max_tokens
        self.texts_cut = 0

    def _rows_of_parts(self) -> Mapping[str, Sequence[tuple[str, ...]]]:
        """(text, label) of each row, as of `load`."""
        raise NotImplementedError

    def _rows_given(self) -> list[tuple[str, ...]]:
        """(text, label) of each row of the user's own data, whatever its parts."""
        raise NotImplementedError

    @override
    def load(self) -> dict[str, Split]:
        rows = self._rows_of_parts()
        self.class_names = tuple(sorted({label for split in rows.values() for _, label in split}))
        if len(self.class_names) < 2:
            raise UserError(f"data={self.name}: one class only ({', '.join(self.class_names)}), two or more are needed")
        if set(self.class_names) == {"0", "1"}:
            self.tasks = ("binary", *self.tasks)
        number = {label: i for i, label in enumerate(self.class_names)}
        labels = {name: torch.tensor([number[label] for _, label in split]) for name, split in rows.items()}
        splits = self.split_rows(
            {name: {"input": torch.arange(len(split)), "target": labels[name]} for name, split in rows.items()}
        )
        whole = rows.get("all") or rows["train"]
        numbers = {name: tensor_of(split, "input").tolist() for name, split in splits.items()}
        texts = {name: [rows.get(name, whole)[i][0] for i in of_split] for name, of_split in numbers.items()}
        tokenizer = self.fit_tokenizer(texts["train"])
        return {
            name: {"input": self._sequences(tokenizer.encode(texts[name])), "target": split["target"]}
            for name, split in splits.items()
        }

    @override
    def whole(self, spec: DataSpec) -> Split:
        rows = self._rows_given()
        number = {name: i for i, name in enumerate(spec.class_names)}
        for _, label in rows:
            if label not in number:
                raise UserError(f"{self.where}: {label} is no class of the model{suggest(label, number)}")
        encoded = Tokenizer(spec.input_as(TokenizedSpec).tokenizer).encode([text for text, _ in rows])
        return {"input": self._sequences(encoded), "target": torch.tensor([number[label] for _, label in rows])}

    def _sequences(self, encoded: list[list[int]]) -> Sequences:
        most = self.max_tokens - 2
        self.texts_cut += sum(len(ids) > most for ids in encoded)
        return Sequences.of([[BOS, *ids[:most], EOS] for ids in encoded])

    @override
    def describe(self) -> dict:
        return super().describe() | {"texts_cut": self.texts_cut}


class TextClassification(LabelledTexts):
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

    def _rows_of_parts(self) -> Mapping[str, Sequence[tuple[str, ...]]]:
        if self.name == "file":
            self.source = str(self.path)
            return {"all": read_columns(required(self.path), *self.columns)}
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
    """Read the cells of these columns in each row of a csv or tsv file with a header.

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
