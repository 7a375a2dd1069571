"""Tables of ratings in files: your own by the names of their columns, and the archive of MovieLens."""

from __future__ import annotations

import csv
import hashlib
import io
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from src.data.tables.reader import TableFile, numbers, texts
from src.errors import UserError, suggest

# names of columns, in small letters without what is no letter
COMMON: dict[str, tuple[str, ...]] = {
    "user": ("user", "userid", "users", "uid", "reviewerid", "customerid", "customer", "visitorid"),
    "item": ("item", "itemid", "items", "iid", "movieid", "movie", "productid", "product", "asin", "bookid", "isbn"),
    "rating": ("rating", "ratings", "stars", "score", "overall"),
    "time": ("timestamp", "time", "date", "datetime", "unixreviewtime"),
}
_FOLDER = "ml-latest-small"
_CONTENT = {
    "ratings.csv": "325a6f09399d1c45671f187505e1a100",
    "movies.csv": "ed94fab72b62442ef8150d9446e000d6",
}  # their MD5


class Ratings(NamedTuple):
    """Interactions (N,), each pair of a user and an item once, user by user and in the order of time.

    Attributes:
        users, items: ids, as text.
        ratings: float64; None: the file has none.
        names: what a person calls the items, by their ids; empty where there are none.
        doubled: interactions that were left out, since the same user took the same item later.
    """

    users: np.ndarray
    items: np.ndarray
    ratings: np.ndarray | None
    names: dict[str, str]
    doubled: int

    @classmethod
    def of(
        cls,
        users: Sequence[str],
        items: Sequence[str],
        ratings: np.ndarray | None,
        times: np.ndarray | None,
        names: dict[str, str],
    ) -> Ratings:
        """Order the rows of a file by user and time; the file's order decides between equal times."""
        user, item = np.array(users, dtype=object), np.array(items, dtype=object)
        of_user, of_item = (np.unique(ids, return_inverse=True)[1] for ids in (user, item))
        order = np.lexsort((np.zeros(len(user)) if times is None else times, of_user))
        pair = (of_user * (of_item.max() + 1) + of_item)[order]
        _, last = np.unique(pair[::-1], return_index=True)
        kept = order[np.sort(len(pair) - 1 - last)]
        doubled = len(pair) - len(kept)
        return cls(user[kept], item[kept], None if ratings is None else ratings[kept], names, doubled)

    def at_least(self, threshold: float, option: str) -> Ratings:
        """Interactions rated `threshold` or higher, without their ratings."""
        if self.ratings is None:
            raise UserError(f"{option} is for ratings, the data has none")
        kept = self.ratings >= threshold
        if not kept.any():
            raise UserError(f"{option} leaves nothing: the highest rating is {self.ratings.max():g}")
        return self._replace(users=self.users[kept], items=self.items[kept], ratings=None)


def read_ratings(path: Path, columns: Mapping[str, str | None]) -> Ratings:
    """Read a csv, tsv or Parquet file of one interaction a row.

    Args:
        path: of the file.
        columns: names of those of user, item, rating and time; None: the common ones; `none`: there is none.

    Raises:
        UserError: a file that cannot be read, a column that is missing, or a cell that is empty or no number (row and
            column named).
    """
    file = TableFile(path, known=[name for name in columns.values() if name])
    found = find_columns(file, columns, needed=("user", "item"))
    users: list[str] = []
    items: list[str] = []
    ratings: list[np.ndarray] = []
    times: list[np.ndarray] = []
    for row, piece in file:
        users += ids_of(file, piece, row, found["user"])
        items += ids_of(file, piece, row, found["item"])
        if "rating" in found:
            ratings.append(_ratings(file, piece, row, found["rating"]))
        if "time" in found:
            times.append(_times(file, piece, row, found["time"]))
    if not users:
        raise UserError(f"{file.where} has {'a header and ' if file.header else ''}no rows")
    return Ratings.of(
        users, items, np.concatenate(ratings) if ratings else None, np.concatenate(times) if times else None, {}
    )


def find_columns(file: TableFile, asked: Mapping[str, str | None], needed: Iterable[str]) -> dict[str, str]:
    """Find the column of each kind by its name.

    Raises:
        UserError: one that was asked for or is needed is not there.
    """
    plain = {"".join(filter(str.isalpha, name.lower())): name for name in reversed(file.columns)}
    found = {}
    for kind, names in COMMON.items():
        name = asked.get(kind)
        if name is not None and name.lower() == "none":
            continue
        if name is not None and name not in file.columns:
            raise UserError(f"data.{kind}: {file.path} has no column {name}{suggest(name, file.columns)}")
        name = name or next((plain[common] for common in names if common in plain), None)
        if name is not None:
            found[kind] = name
        elif kind in needed:
            raise UserError(
                f"{file.where} has no column of a known name for the {kind}: data.{kind}=COLUMN"
                f" (columns: {', '.join(file.columns)})"
            )
    return found


def ids_of(file: TableFile, piece: pa.Table, row: int, name: str) -> list[str]:
    """Ids of a column as text; `row` is the number of the piece's first one."""
    cells = texts(piece.column(name).combine_chunks())
    if cells.null_count:
        at = cells.is_null().to_pylist().index(True)
        raise UserError(f"{file.place(row + at, name)} is empty: an id is needed")
    return cells.to_pylist()


def _ratings(file: TableFile, piece: pa.Table, row: int, name: str) -> np.ndarray:
    cells = piece.column(name).combine_chunks()
    values, wrong = numbers(cells)
    for bad, what in (
        (wrong, "is no finite number"),
        (np.isnan(values), "has no rating: leave the row out, or forget all ratings by data.rating=none"),
        (values < 0, "is negative: ratings are 0 or more"),
    ):
        if bad.any():
            at = int(bad.argmax())
            value = cells[at].as_py()
            raise UserError(f"{file.place(row + at, name)}{'' if value is None else f': {value}'} {what}")
    return values


def _times(file: TableFile, piece: pa.Table, row: int, name: str) -> np.ndarray:
    """Times as seconds, or as the numbers of the file."""
    cells = piece.column(name).combine_chunks()
    values, _ = numbers(cells)
    if np.isnan(values).all():
        values = _dates(cells)
    wrong = np.isnan(values)
    if wrong.any():
        at = int(wrong.argmax())
        value = cells[at].as_py()
        told = " is empty" if value is None else f": {value!r}"
        raise UserError(f"{file.place(row + at, name)}{told}: a number or a date such as 2024-01-31 is needed")
    return values


def _dates(cells: pa.Array) -> np.ndarray:
    """Seconds since 1970; NaN where there is no date."""
    import pandas as pd  # noqa: PLC0415 (slow to import, and hardly ever needed)

    moments = pd.to_datetime(pd.Series(cells.to_pylist()), errors="coerce", utc=True, format="ISO8601")
    return (moments - pd.Timestamp(0, tz="UTC")).dt.total_seconds().to_numpy()


def movielens(path: Path) -> Ratings:
    """Read the archive ml-latest-small.zip (Harper and Konstan 2015, "The MovieLens datasets").

    Raises:
        UserError: it is no such archive, or its content is not the published one.
    """
    tables: dict[str, list[list[str]]] = {}
    try:
        with zipfile.ZipFile(path) as archive:
            for name, md5 in _CONTENT.items():
                content = archive.read(f"{_FOLDER}/{name}")
                if hashlib.md5(content, usedforsecurity=False).hexdigest() != md5:
                    raise UserError(f"data=movielens: {path}: {name} is not the published one, delete the archive")
                tables[name] = list(csv.reader(io.StringIO(content.decode("utf-8"))))[1:]
    except (OSError, KeyError, zipfile.BadZipFile) as error:
        raise UserError(f"data=movielens: {path} is not the archive {_FOLDER}.zip ({error}): delete it") from None
    users, items, *numbers = zip(*tables["ratings.csv"], strict=True)
    ratings, times = (np.array(column, dtype=np.float64) for column in numbers)
    return Ratings.of(users, items, ratings, times, {row[0]: row[1] for row in tables["movies.csv"]})
