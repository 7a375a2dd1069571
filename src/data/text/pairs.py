"""Pairs of texts, a source and what it becomes: generated dates, paired files of lines, translated captions."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import torch
from annotated_types import Ge
from torch import Tensor
from typing_extensions import override

from src.data.core.files import data_root, download, read_text
from src.data.core.splits import Split, column_as, tensor_of
from src.data.text.corpus import Text
from src.data.text.sequences import Sequences
from src.errors import UserError, suggest
from src.spec import DataSpec, InputSpec, TextPairSpec, TokenizedSpec
from src.spec.tokenizer import BOS, EOS

Pair = tuple[str, str]
Sides = tuple[str | Path | None, str | Path | None]  # files of the sources and of the targets


class Pairs(Text):
    """Base of all paired texts, which share one vocabulary, trained on both sides of the training split.

    A row's input is `tokens [EOS]`, its target `[BOS] tokens [EOS]`. With `by_length`, rows are ordered by the longer
    of the two, and `batch_tokens` counts it: neither side of a batch holds more.

    Args:
        max_tokens: of either side, special ones included; longer training pairs are left out, and the dataset's
            description says how many. Validation and test keep all theirs.

    Raises:
        UserError: an option out of its range, or all training pairs are too long.
    """

    inputs = (TextPairSpec,)
    tasks = ("seq2seq",)

    def __init__(self, *, max_tokens: Annotated[int, Ge(3)] | None = None, **options) -> None:
        super().__init__(**options)
        self.max_tokens = max_tokens
        self.left_out = 0

    def pairs(self) -> dict[str, list[Pair]]:
        """(source, target) of each row: `{"all": rows}`, or given parts, as of `load`."""
        raise NotImplementedError

    @override
    def load(self) -> dict[str, Split]:
        given = self.pairs()
        splits = self.split_rows({name: {"input": torch.arange(len(rows))} for name, rows in given.items()})
        whole = given.get("all") or given["train"]
        numbers = {name: tensor_of(split, "input").tolist() for name, split in splits.items()}
        rows = {name: [given.get(name, whole)[i] for i in of_split] for name, of_split in numbers.items()}
        self.fit_tokenizer([text for pair in rows["train"] for text in pair])
        return {name: self._encoded(name, pairs) for name, pairs in rows.items()}

    def _encoded(self, name: str, pairs: Sequence[Pair]) -> Split:
        sources, targets = (self._fitted().encode(list(side)) for side in zip(*pairs, strict=True))
        rows = [([*source, EOS], [BOS, *target, EOS]) for source, target in zip(sources, targets, strict=True)]
        if name == "train" and self.max_tokens is not None:
            kept = [row for row in rows if max(map(len, row)) <= self.max_tokens]
            if not kept:
                raise UserError(f"data.max_tokens={self.max_tokens}: every training pair is longer")
            self.left_out, rows = len(rows) - len(kept), kept
        return {
            "input": Sequences.of([source for source, _ in rows]),
            "target": Sequences.of([target for _, target in rows]),
        }

    @override
    def whole(self, spec: DataSpec) -> Split:
        self.take_tokenizer(spec.input_as(TokenizedSpec).tokenizer)
        return self._encoded("test", [pair for pairs in self.pairs().values() for pair in pairs])

    def _lengths(self, split: Split) -> Tensor:
        return torch.maximum(*(column_as(split, side, Sequences).lengths for side in ("input", "target")))

    def _measure_input(self, **more: object) -> InputSpec:
        return super()._measure_input(target_length=self._longest("target"), **more)

    def _training_tokens(self) -> Tensor:
        return torch.cat([column_as(self.splits["train"], side, Sequences).tokens for side in ("input", "target")])

    @override
    def describe(self) -> dict:
        return super().describe() | {"training_pairs_left_out": self.left_out}


class Lines(Pairs):
    """Two text files, line by line a source and its target; more files for validation and test, or else a split.

    Args:
        source: `file`, or `multi30k` (captions of photographs in English and German, Elliott et al. 2016,
            arXiv:1605.00459: 29,000 to train, 1,014 to validate, 1,000 to test; downloaded once).
        source_path, target_path: UTF-8, plain or gzipped; of the training split, or of all rows.
        val_source_path, val_target_path, test_source_path, test_target_path: both of a part, or neither.
        reverse: from target to source.
        root: folder for downloads; null: LABBOOK_DATA_ROOT, else data/ in the project.

    Raises:
        UserError: a file that cannot be read, two of different numbers of lines, an empty line (line named).
    """

    def __init__(
        self,
        *,
        source: Literal["file", "multi30k"] = "file",
        source_path: str | None = None,
        target_path: str | None = None,
        val_source_path: str | None = None,
        val_target_path: str | None = None,
        test_source_path: str | None = None,
        test_target_path: str | None = None,
        reverse: bool = False,
        root: str | None = None,
        **options,
    ) -> None:
        if source not in ("file", "multi30k"):
            raise UserError(f"data.source={source} is no pair of texts{suggest(source, ('file', 'multi30k'))}")
        super().__init__(**options)
        self.name = "lines" if source == "file" else source
        self.reverse = reverse
        self.root = data_root(root)
        self.paths: dict[str, Sides] = {
            "train": (source_path, target_path),
            "val": (val_source_path, val_target_path),
            "test": (test_source_path, test_target_path),
        }
        if source == "file":
            _check_paths(self.paths)

    @override
    def prepare_data(self) -> None:
        if self.name == "multi30k":
            files = iter(download(self.name, self.root))
            self.paths = dict(zip(("train", "val", "test"), zip(files, files, strict=True), strict=True))

    @override
    def pairs(self) -> dict[str, list[Pair]]:
        self.prepare_data()
        self.source = str(self.paths["train"][0])
        given = {}
        for name, (source, target) in self.paths.items():
            if source is not None and target is not None:  # both are given, or neither is
                prefix = "" if name == "train" else f"{name}_"
                given[name] = read_pairs(_absolute(source), _absolute(target), prefix=prefix)
        if self.reverse:
            given = {name: [(second, first) for first, second in rows] for name, rows in given.items()}
        return {"all": given["train"]} if len(given) == 1 else given


def _absolute(path: str | Path) -> Path:
    return Path(path).expanduser().absolute()


def _check_paths(paths: Mapping[str, Sides]) -> None:
    for name, both in paths.items():
        prefix = "" if name == "train" else f"{name}_"
        for side, path, other in zip(("source", "target"), both, both[::-1], strict=True):
            option = f"data.{prefix}{side}_path"
            if path is None and (name == "train" or other is not None):
                raise UserError(f"{option}: has no default, give one: {option}=...")


def read_pairs(source: Path, target: Path, prefix: str = "") -> list[Pair]:
    """Read the lines of two files, side by side; spaces at their ends are left out.

    Raises:
        UserError: a file that cannot be read, different numbers of lines, an empty line (line named).
    """
    sides = []
    for path, option in ((source, f"{prefix}source_path"), (target, f"{prefix}target_path")):
        # at line feeds alone: splitlines() would part a text at signs such as U+2028 too
        lines = [line.strip() for line in read_text(path, option).removesuffix("\n").split("\n")]
        if "" in lines:
            raise UserError(f"data.{option}: {path}, line {lines.index('') + 1} is empty")
        sides.append(lines)
    counts = [len(lines) for lines in sides]
    if counts[0] != counts[1]:
        raise UserError(
            f"data.{prefix}target_path: {target} has {counts[1]} lines, {source} has {counts[0]}:"
            f" line {min(counts) + 1} of the longer one has no partner"
        )
    return list(zip(*sides, strict=True))


class Dates(Pairs):
    """Dates as people write them, to ISO 8601: "Tuesday, 5th of March 2024" to "2024-03-05".

    Each row is another day, so no day of one part is in another; how it is written is drawn at random. Figures alone
    ("25/3/24") stand only for days that no other order of day and month could mean; a year of two figures is one from
    1950 to 2049.

    Args:
        rows: days of all parts, at most the 36,525 of the years 1950 to 2049.
    """

    name = "dates"
    source = "generated"

    def __init__(self, *, rows: int = 10_000, **options) -> None:
        super().__init__(**options)
        if not 10 <= rows <= DAYS:
            raise UserError(f"data.rows={rows}: from 10 to {DAYS}, the days of the years 1950 to 2049")
        self.rows = rows

    @override
    def pairs(self) -> dict[str, list[Pair]]:
        draw = np.random.RandomState(self.split_seed)  # whose legacy stream is promised never to change
        days = draw.permutation(DAYS)[: self.rows]
        ways = draw.randint(0, 1 << 30, self.rows)
        rows = []
        for number, way in zip(days.tolist(), ways.tolist(), strict=True):
            day = FIRST + datetime.timedelta(number)
            forms = FORMS + (FIGURES if day.day > 12 or day.day == day.month else ())
            rows.append((forms[way % len(forms)](day), day.isoformat()))
        return {"all": rows}


FIRST = datetime.date(1950, 1, 1)
DAYS = (datetime.date(2050, 1, 1) - FIRST).days
# not strftime's, whose names follow the machine's language
MONTHS = (
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
)
WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")


def _month(day: datetime.date) -> str:
    return MONTHS[day.month - 1]


def _weekday(day: datetime.date) -> str:
    return WEEKDAYS[day.weekday()]


def _ordinal(day: datetime.date) -> str:
    ending = "th" if 10 < day.day < 14 else {1: "st", 2: "nd", 3: "rd"}.get(day.day % 10, "th")
    return f"{day.day}{ending}"


Form = Callable[[datetime.date], str]
FORMS: tuple[Form, ...] = (
    lambda d: f"{_month(d)} {d.day}, {d.year}",
    lambda d: f"{_month(d)} {_ordinal(d)}, {d.year}",
    lambda d: f"{d.day} {_month(d)} {d.year}",
    lambda d: f"{_ordinal(d)} of {_month(d)} {d.year}",
    lambda d: f"the {_ordinal(d)} of {_month(d)}, {d.year}",
    lambda d: f"{d.day} {_month(d)[:3]} {d.year}",
    lambda d: f"{_month(d)[:3]} {d.day}, {d.year}",
    lambda d: f"{d.day}-{_month(d)[:3]}-{d.year % 100:02}",
    lambda d: f"{_month(d)[:3].upper()} {d.day} {d.year}",
    lambda d: f"{_weekday(d)}, {_month(d)} {d.day}, {d.year}",
    lambda d: f"{_weekday(d)}, {_ordinal(d)} of {_month(d)} {d.year}",
    lambda d: f"{_weekday(d)[:3]}, {d.day} {_month(d)[:3]} {d.year}",
    lambda d: f"{_weekday(d)[:3]} {_month(d)[:3]} {d.day} {d.year}",
    lambda d: f"{d.year} {_month(d)} {d.day}",
    lambda d: f"{d.year}/{d.month:02}/{d.day:02}",
    lambda d: f"{_month(d).lower()} {d.day} {d.year}",
)
FIGURES: tuple[Form, ...] = (
    lambda d: f"{d.month}/{d.day}/{d.year % 100:02}",
    lambda d: f"{d.month}/{d.day}/{d.year}",
    lambda d: f"{d.day}/{d.month}/{d.year}",
    lambda d: f"{d.day}.{d.month}.{d.year}",
)
