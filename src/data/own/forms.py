"""Forms that a user's own data may have, and the dataset here that each becomes."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset
from torch.utils.data import Dataset as TorchDataset

from src.data.core.splits import SPLIT_NAMES
from src.data.own.dataset import OwnData
from src.data.own.frames import Frames, frame_of
from src.data.own.items import EVALUATION, INPUTS, TARGETS, Pairs
from src.data.own.loaders import Loaded, loaded, of_module
from src.data.own.texts import OwnTexts
from src.data.text.huggingface import labelled
from src.errors import UserError, suggest
from src.runtime.compat.lightning import own_rank
from src.runtime.randomness import Randomness

NEEDED = (
    "a Dataset of torch, a LightningDataModule, arrays (X, y), texts (list, labels), a DataFrame, a dataset of Hugging "
    "Face, an iterable, or a dict of them by split is needed"
)
TEXTS = ("text", "texts", "sentence")
MOST = 100_000  # items of a stream that are read where nobody says how many
_SHARE = 0.25  # of the free memory that they may take
SCALARS = (bool, int, float, str, type(None), np.generic)


class Texts(list[tuple[str, str]]):
    """(text, label) of each row."""


class Reader:
    """Reader of what a user's own code has made.

    Args:
        title: its name.
        options: of the data; `text` and `label`, names of the two in rows of texts, and `max_rows`, items of a stream
            that are read (None: 100,000, and what a quarter of the free memory holds), count here.
    """

    def __init__(self, title: str, options: Mapping[str, Any]) -> None:
        self.title = title
        self.text, self.label, self.most = (options.get(name) for name in ("text", "label", "max_rows"))

    def read(self, made: object) -> tuple[type[Any], Mapping[str, Any], dict[str, Any]]:
        """The class of data that it is, what that class takes as `made`, and options that a loader sets.

        Raises:
            UserError: it is no data, or splits are of different forms.
        """
        parts = self._splits(made)
        for split, part in parts.items():
            part.rows = self._rows(part, f"data={self.title}" + ("" if split == "all" else f", {split}"))
        kinds = {self._class(part.rows) for part in parts.values()}
        if len(kinds) > 1:
            raise UserError(f"data={self.title}: its splits are of different forms: all have to be of one")
        (kind,) = kinds
        main = next(iter(parts.values()))
        if kind is OwnData:
            return kind, parts, main.options
        if main.sampler is not None:
            raise UserError(f"data: {self.title} has a sampler, which {kind.what} do not take: leave it out")
        return kind, {split: part.rows for split, part in parts.items()}, main.options

    def _class(self, rows: object) -> type[Any]:
        return Frames if isinstance(rows, pa.Table) else OwnTexts if isinstance(rows, Texts) else OwnData

    # splits ----------------------------------------------------------------------------------------------------------

    def _splits(self, made: object) -> dict[str, Loaded]:
        """What is of each split, or all rows as `all`; those that train first."""
        if isinstance(made, pl.LightningDataModule):
            return of_module(made, self.title)
        if isinstance(made, Mapping) and any(str(key).lower() in SPLIT_NAMES for key in made):
            named = self._by_split(made)
        elif isinstance(made, tuple) and len(made) in (2, 3) and all(_is_pair_of_arrays(part) for part in made):
            named = dict(zip(("train", "val", "test") if len(made) == 3 else ("train", "test"), made, strict=True))
        else:
            named = {"all": made}
        return {
            split: loaded(part, self.title) if isinstance(part, DataLoader) else Loaded(part)
            for split, part in named.items()
        }

    def _by_split(self, made: Mapping[Any, Any]) -> dict[str, Any]:
        found = {}
        for key, part in made.items():
            split = SPLIT_NAMES.get(str(key).lower())
            if split is None and not _is_hub(part):
                raise UserError(f"data: {self.title} has a split {key}{suggest(str(key), SPLIT_NAMES)}")
            if split in found:
                raise UserError(f"data: {self.title} has two splits that are {split}, such as {key}")
            if split is not None and part is not None:
                found[split] = part
        if "train" not in found:
            raise UserError(f"data: {self.title} has {', '.join(map(str, made))}: a split train is needed")
        return {"train": found.pop("train")} | found

    # rows ------------------------------------------------------------------------------------------------------------

    def _rows(self, part: Loaded, where: str) -> Any:  # noqa: ANN401 (a table, texts, or a dataset)
        made = part.rows
        if part.collate and hasattr(made, "__len__"):  # which takes the items as they are
            return made
        if (found := frame_of(made, where)) is not None:
            return found
        if _is_hub(made):
            return self._hub(made, where)
        if isinstance(made, Mapping) and (pair := _columns(made)) is not None:
            return self._pair(*pair, where, made)
        if isinstance(made, Mapping) and made and all(isinstance(one, list | np.ndarray) for one in made.values()):
            return pa.table({str(name): pa.array(cells, from_pandas=True) for name, cells in made.items()})
        if isinstance(made, TensorDataset) and type(made) is TensorDataset and len(made.tensors) == 2:
            return Pairs(made.tensors[0], list(made.tensors[1]))
        if isinstance(made, tuple) and len(made) == 2 and not _are_datasets(made):
            return self._pair(*made, where)
        if isinstance(made, np.ndarray | Tensor):
            return Pairs(torch.as_tensor(made), None)
        if _is_stream(made):
            items = self._stream(made, where)
            features = getattr(made, "features", None)
            if _module(made) == "datasets" and features is not None:
                import datasets  # noqa: PLC0415 (an extra)

                return self._hub(datasets.Dataset.from_list(items, features=features), where)
            made = items
        if _are_datasets(made) or isinstance(made, str | bytes | Mapping) or not hasattr(made, "__getitem__"):
            several = "several datasets" if _are_datasets(made) else f"a {type(made).__name__}"
            by_split = 'a dict of them by split, {"train": ..., "val": ...}, is needed'
            told = by_split if _are_datasets(made) else NEEDED
            raise UserError(f"data: {self.title} makes {several}: {told}")
        return made if part.collate else self._items(made, where)

    def _items(self, made: Any, where: str) -> Any:  # noqa: ANN401 (see _rows)
        """Items of a dataset: texts, dicts of plain values as a table, or whatever they are."""
        if not len(made):
            raise UserError(f"data: {self.title} has no items")
        randomness = Randomness(made)
        with randomness.set_apart():
            randomness.seed(EVALUATION)
            first = made[0]
        if isinstance(first, Mapping):
            names = [str(name) for name in first]
            text = next((name for name in (self.text, *TEXTS) if name in names), None)
            if text is not None and isinstance(first[text], str):
                label = self._named(names, self.label, TARGETS, "label", where)
                rows = [made[row] for row in range(len(made))]
                found, labels = ([_plain(row[name]) for row in rows] for name in (text, label))
                return Texts(labelled(found, labels, None, where, (text, label)))
            is_input = bool(set(INPUTS) & {name.lower() for name in names})
            if not is_input and all(isinstance(value, SCALARS) for value in first.values()):
                return pa.Table.from_pylist([dict(made[row]) for row in range(len(made))])
            return made
        if isinstance(first, str):
            raise UserError(f"{where} makes texts without labels: give (texts, labels)")
        if isinstance(first, tuple | list) and len(first) == 2 and isinstance(first[0], str):
            pairs = [made[row] for row in range(len(made))]
            labels = [_plain(label) for _, label in pairs]
            return Texts(labelled([text for text, _ in pairs], labels, _names(made), where))
        return made

    def _named(self, names: Sequence[str], wanted: str | None, usual: Sequence[str], option: str, where: str) -> str:
        found = next((name for name in ((wanted,) if wanted else usual) if name in names), None)
        if found is None:
            told = suggest(wanted, names) if wanted else f": it has {', '.join(names)}; say which by data.{option}"
            raise UserError(f"{where} has no {wanted or option}{told}")
        return found

    def _pair(self, x: Any, y: Any, where: str, whole: Mapping[Any, Any] | None = None) -> Any:  # noqa: ANN401 (see _rows)
        """Inputs and targets in two arrays, lists or columns."""
        if y is not None and hasattr(y, "columns") and len(y.columns) == 1:
            y = y[y.columns[0]]
        labels = None if y is None else [_plain(value) for value in y]
        if labels is not None and len(labels) != len(x):
            raise UserError(f"{where} has {len(x)} inputs and {len(labels)} targets: one target an input is needed")
        if (table := frame_of(x, where)) is not None:
            name = str(getattr(y, "name", None) or "target")
            return table if labels is None else table.append_column(name, pa.array(labels, from_pandas=True))
        if isinstance(next(iter(x), None), str):
            if labels is None:
                raise UserError(f"{where} makes texts without labels: give (texts, labels)")
            return Texts(labelled(x, labels, None, where))
        try:
            rows = x if isinstance(x, Tensor) else torch.from_numpy(np.asarray(x))
        except (TypeError, ValueError) as error:
            raise UserError(f"{where} has inputs that are no array of numbers ({error}): {NEEDED}") from None
        found = Pairs(rows, labels)
        for name in ("classes", "target_names", "feature_names"):
            if whole and isinstance(whole.get(name), list | tuple | np.ndarray):
                setattr(found, "classes" if name == "target_names" else name, [str(value) for value in whole[name]])
        return found

    def _hub(self, made: Any, where: str) -> Any:  # noqa: ANN401 (a Dataset of an extra)
        """A dataset of Hugging Face: texts with labels, a table, or items of pictures and arrays."""
        kinds = {name: getattr(feature, "dtype", None) for name, feature in made.features.items()}
        if any(kind is None or kind.startswith(("PIL", "dict", "list")) for kind in kinds.values()):
            return made
        strings = [name for name, kind in kinds.items() if kind in ("string", "large_string")]
        text = self.text or next((name for name in TEXTS if name in strings), None)
        if text is None and len(strings) == 1 and len(kinds) == 2:
            (text,) = strings
        if text is None:
            return _named_classes(made.with_format("arrow")[:], made.features)
        text = self._named(list(kinds), text, (), "text", where)
        label = self._named(
            list(kinds), self.label, [*TARGETS, *(kinds.keys() - {text} if len(kinds) == 2 else ())], "label", where
        )
        names = getattr(made.features[label], "names", None)
        return Texts(labelled(made[text][:], made[label][:], names, where, (text, label)))

    def _stream(self, made: Iterable[Any], where: str) -> list[Any]:
        """Items of what can only be gone through, read once; at most so many."""
        randomness = Randomness(made)
        room, most, found = _SHARE * psutil.virtual_memory().available, self.most or MOST, []
        with randomness.set_apart():
            randomness.seed(EVALUATION)
            items = iter(made)
            for item in islice(items, most):
                found.append(item)
                room -= _size(item)
                if room < 0:
                    break
            more = next(items, None) is not None if self.most is None else False
        if more and not own_rank():
            print(
                f"{where}: the first {len(found):,} items of an iterable were read, there are more; data.max_rows=N "
                "says how many",
                file=sys.stderr,
            )
        return found


# what is what ---------------------------------------------------------------------------------------------------------


def _module(made: object) -> str:
    return type(made).__module__.partition(".")[0]


def _is_hub(made: object) -> bool:
    """True for a dataset of Hugging Face that has a length."""
    return _module(made) == "datasets" and hasattr(made, "features") and hasattr(made, "__len__")


def _is_stream(made: object) -> bool:
    """True for what can be gone through, and has no items by number."""
    return isinstance(made, Iterable) and not (hasattr(made, "__len__") and hasattr(made, "__getitem__"))


def _are_datasets(made: object) -> bool:
    """True for several datasets or tables in a row."""
    kinds = (TorchDataset, DataLoader, pl.LightningDataModule)
    return (
        isinstance(made, tuple | list)
        and len(made) > 1
        and all(isinstance(one, kinds) or (hasattr(one, "columns") and len(one.columns) > 1) for one in made)
    )


def _is_pair_of_arrays(made: object) -> bool:
    return isinstance(made, tuple | list) and len(made) == 2 and all(hasattr(one, "shape") for one in made)


def _columns(made: Mapping[Any, Any]) -> tuple[Any, Any] | None:
    """Inputs and targets of a dict of whole columns; None: it has no inputs."""
    given = {str(key).lower(): value for key, value in made.items()}
    x = next((given[key] for key in (*INPUTS, *TEXTS) if key in given), None)
    return None if x is None else (x, next((given[key] for key in TARGETS if key in given), None))


def _names(made: object) -> list[str] | None:
    names = getattr(made, "classes", None)
    return [str(name) for name in names] if isinstance(names, list | tuple) and names else None


def _named_classes(table: pa.Table, features: Mapping[str, Any]) -> pa.Table:
    """The table with names in the place of classes' numbers."""
    for place, name in enumerate(table.column_names):
        names = getattr(features[name], "names", None)
        if names:
            cells = [None if at is None or at < 0 else names[at] for at in table.column(name).to_pylist()]
            table = table.set_column(place, name, pa.array(cells, pa.string()))
    return table


def _plain(value: Any) -> Any:  # noqa: ANN401 (any scalar, or what is refused later)
    if isinstance(value, Tensor):
        return value.item() if value.numel() == 1 else value
    return value.item() if isinstance(value, np.generic | np.ndarray) and value.size == 1 else value


def _size(item: object) -> int:
    """Bytes of an item, about."""
    if isinstance(item, Mapping):
        return sum(map(_size, item.values()))
    if isinstance(item, tuple | list):
        return sum(map(_size, item))
    return int(getattr(item, "nbytes", 0)) + 100
