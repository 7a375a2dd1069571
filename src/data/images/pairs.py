"""Pairs of your own pictures, listed in a csv file, for a trained model that says how alike two are.

The list has the columns `first` and `second`, names of pictures, and `same` where it is known (1 or 0, yes or no, true
or false). Nothing is trained on it: `python -m src.evaluate run=RUN data=pairs data.path=pairs.csv` judges a
trained run by it, `src.predict` answers.
"""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor
from typing_extensions import override

from src.data.core.files import read_text
from src.data.core.inputs import Inputs, Rows
from src.data.core.module import DataModule
from src.data.core.splits import Split
from src.data.images.decode import ImageFiles
from src.errors import UserError, suggest
from src.spec import DataSpec, ImageSpec

ANSWERS = {"1": True, "yes": True, "true": True, "same": True, "0": False, "no": False, "false": False}
ANSWERS |= {"different": False}


class Listed(NamedTuple):
    """One line of a list: the pictures as it names them, and whether they are of one class where that is said."""

    first: str
    second: str
    same: bool | None


def read_pairs(path: Path, root: Path, *, answered: bool) -> list[Listed]:
    """Read the pairs of a csv or tsv file with a header.

    Args:
        root: where the pictures lie.
        answered: whether the column `same` is needed.

    Raises:
        UserError: a column that is not there, an empty cell, an answer that is neither yes nor no, a picture that is
            not there (line named), no rows.
    """
    content = read_text(path)
    reader = csv.DictReader(content.splitlines(keepends=True), delimiter="\t" if ".tsv" in path.suffixes else ",")
    header = list(reader.fieldnames or ())
    for column in ("first", "second", *(["same"] if answered else [])):
        if column not in header:
            why = ", which says whether the two are the same" if column == "same" else ""
            raise UserError(f"data.path: {path} has no column {column}{why}{suggest(column, header)}")
    pairs = []
    for row in reader:
        place = f"data.path: {path}, line {reader.line_num}"
        names = [(row[column] or "").strip() for column in ("first", "second")]
        for column, name in zip(("first", "second"), names, strict=True):
            if not name:
                raise UserError(f"{place}: column {column} is empty")
            if not (root / name).is_file():
                raise UserError(f"{place}, column {column}: there is no picture {root / name}")
        said = (row.get("same") or "").strip()
        if (said or answered) and said.lower() not in ANSWERS:
            raise UserError(f"{place}: column same is {said!r}, not 1 or 0")
        pairs.append(Listed(names[0], names[1], ANSWERS[said.lower()] if said else None))
    if not pairs:
        raise UserError(f"data.path: {path} has a header and no rows")
    return pairs


class PairedFiles:
    """The pictures of listed pairs as a column of uint8 (N, 2, C, H, W), read when they are asked for.

    Args:
        pairs: one a row.
        root: where the pictures lie.
        spec: of the training data, whose size, channels and levels they are brought to.
    """

    dtype = torch.uint8
    in_memory = False

    def __init__(self, pairs: list[Listed], root: Path, spec: DataSpec) -> None:
        channels, height, width = spec.input_shape
        self._pairs, self._root, self._spec = pairs, root, spec
        names = [name for pair in pairs for name in pair[:2]]
        self._files = ImageFiles([root / name for name in names], root, (height, width), channels)
        self.shape = (len(pairs), 2, channels, height, width)

    def __len__(self) -> int:
        return len(self._pairs)

    def __getitem__(self, index: Tensor) -> Tensor:
        pictures = self._files[torch.stack([2 * index, 2 * index + 1], 1).flatten()].unflatten(0, (-1, 2))
        most = self._spec.input_as(ImageSpec).levels
        return pictures if most == 255 else (pictures.float() * (most / 255)).round().to(torch.uint8)

    def subset(self, index: Tensor) -> PairedFiles:
        """Column of the pairs index (N,), none of them read yet."""
        return PairedFiles([self._pairs[i] for i in index.tolist()], self._root, self._spec)

    def digest(self) -> bytes:
        """sha256 of the names and of the files' content."""
        return hashlib.sha256(repr(self._pairs).encode() + self._files.digest()).digest()


class ImagePairs(DataModule):
    """Listed pairs whose answers are known, to judge a trained run of the task verification by.

    Args:
        path: of the list, a csv or tsv file.
        root: the folder that its names start from; null: the list's own.
        eval_batch_size: pairs at a time.
    """

    name = "pairs"
    inputs = (ImageSpec,)
    tasks = ()
    unlabelled = ()

    def __init__(self, *, path: str, root: str | None = None, seed: int = 0, eval_batch_size: int = 256) -> None:
        super().__init__(seed=seed, eval_batch_size=eval_batch_size)
        self.path = Path(path).expanduser().absolute()
        self.root = Path(root).expanduser().absolute() if root else self.path.parent

    @override
    def load(self) -> dict[str, Split]:
        raise UserError(
            "data=pairs is nothing to train on: a trained run compares its pictures (src.evaluate, src.predict)"
        )

    @override
    def whole(self, spec: DataSpec) -> Split:
        check_compares(spec)
        pairs = read_pairs(self.path, self.root, answered=True)
        same = torch.tensor([pair.same for pair in pairs])
        if same.all() or not same.any():
            known = "the same" if same.all() else "different"
            raise UserError(f"data.path: all pairs of {self.path} are {known}: figures need both kinds")
        return {"input": PairedFiles(pairs, self.root, spec), "target": same}


@dataclass
class Pairs(Inputs):
    """Listed pairs whose answers need not be known."""

    path: Path = Path()
    root: Path = Path()

    @override
    def batches(self, size: int) -> Iterator[Rows]:
        check_compares(self.spec)
        pairs = read_pairs(self.path, self.root, answered=False)
        column = PairedFiles(pairs, self.root, self.spec)
        for index in torch.arange(len(pairs)).split(size):
            first, second, same = zip(*(pairs[i] for i in index.tolist()), strict=True)
            known = {"actual": list(same)} if any(pair.same is not None for pair in pairs) else {}
            yield Rows({"first": list(first), "second": list(second)} | known, column[index])


def check_compares(spec: DataSpec) -> None:
    """Raise a UserError if a model of such data does not compare pictures."""
    if "verification" not in spec.tasks:
        raise UserError(
            f"data=pairs is for a run of the task verification, this one learned from data={spec.name} what"
            f" {', '.join(spec.tasks)} takes"
        )
