"""Labelled texts in the form of Hugging Face's datasets (Lhoest et al. 2021, arXiv:2109.02846): folders, or the hub."""

from __future__ import annotations

import logging
import shutil
import tempfile
import urllib.request
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from typing_extensions import override

from src.data.text.classification import LabelledTexts
from src.errors import UserError, suggest
from src.runtime import optional

if TYPE_CHECKING:
    from datasets import Dataset

READERS = {".parquet": "parquet", ".jsonl": "json", ".json": "json", ".csv": "csv", ".tsv": "csv"}
SPLITS = {"train": ("train", "training"), "val": ("validation", "valid", "val", "dev"), "test": ("test", "testing")}
REACHABLE = 5  # seconds that the hub has for an answer


class HubTexts(LabelledTexts):
    """Texts with a class each, of a dataset that `datasets.save_to_disk` wrote or that `datasets.load_dataset` reads.

    The splits train, validation and test are the parts; what is missing is taken from train. A split without any label
    (-1, as in the tests of GLUE) is left out, and the dataset's description says so.

    Args:
        path: of a folder: `save_to_disk`'s, or one with files in parquet, jsonl, csv or tsv, named after their splits
            where there are several (`train.parquet`, `train-00000-of-00002.parquet`); or a name on the hub.
        subset: of a dataset on the hub that has several, such as sst2 of glue.
        options: as of `LabelledTexts`; labels are classes (ClassLabel), whole numbers or texts.

    Raises:
        UserError: no such folder or dataset, a missing column, an empty text or a label that is none (row named).
    """

    name = "hf"

    def __init__(self, *, path: str, subset: str | None = None, **options) -> None:
        super().__init__(**options)
        self.path = Path(path).expanduser()
        self.given, self.subset = path, subset
        self.unlabelled_splits: list[str] = []

    def _rows_of_parts(self) -> dict[str, list[tuple[str, str]]]:
        self.source = self.given
        rows: dict[str, list[tuple[str, str]]] = {}
        with quiet():
            splits = self._splits()
            for split, table in splits.items():
                part = next((name for name, names in SPLITS.items() if split in names), None)
                if part is None and len(splits) == 1:
                    part = "train"
                if part is None:
                    continue
                found = self._labelled(split, table)
                if found:
                    rows[part] = found
                else:
                    self.unlabelled_splits.append(split)
        if "train" not in rows:
            raise UserError(f"data.path={self.given}: has no labelled split train (found: {', '.join(splits)})")
        return {"all": rows["train"]} if len(rows) == 1 else rows

    def _rows_given(self) -> list[tuple[str, ...]]:
        return [row for part in self._rows_of_parts().values() for row in part]

    @override
    def describe(self) -> dict:
        return super().describe() | {"unlabelled_splits": self.unlabelled_splits}

    def _splits(self) -> dict[str, Any]:
        """Each split as a dataset of the library `datasets`."""
        optional.require("datasets", optional.extra("hf"), for_="data=hf")
        folder = Path(self.given).expanduser()
        if not folder.exists():
            return self._fetched()
        if not folder.is_dir():
            raise UserError(
                f"data.path={self.given}: is a file; data=hf takes a folder, data=text_csv a csv or tsv file"
            )
        if (folder / "dataset_dict.json").is_file() or (folder / "state.json").is_file():
            return self._saved(folder)
        return self._files(folder)

    def _saved(self, folder: Path) -> dict[str, Any]:
        import datasets  # noqa: PLC0415 (an extra)

        try:
            found = datasets.load_from_disk(str(folder))
        except Exception as error:  # noqa: BLE001 (the library raises whatever its readers and its servers do)
            raise self._damaged(error) from None
        return dict(found) if isinstance(found, dict) else {"train": found}

    def _files(self, folder: Path) -> dict[str, Any]:
        """Read files, all by one reader, through a temporary cache that is deleted."""
        import datasets  # noqa: PLC0415 (an extra)

        found: dict[str, dict[str, list[str]]] = {}
        for file in sorted(folder.rglob("*")):
            if file.suffix in READERS and file.name != "dataset_infos.json":
                found.setdefault(file.suffix, {}).setdefault(_split_of(file, folder), []).append(str(file))
        if not found:
            kinds = ", ".join(kind[1:] for kind in READERS)
            raise UserError(
                f"data.path={self.given}: is no dataset: neither saved by save_to_disk nor files in {kinds}"
            )
        if len(found) > 1:
            raise UserError(
                f"data.path={self.given}: has files in {' and in '.join(k[1:] for k in found)}; keep one kind"
            )
        ((kind, files),) = found.items()
        cache = tempfile.mkdtemp(prefix="labbook-datasets-")
        options = {"sep": "\t"} if kind == ".tsv" else {}
        try:
            loaded = datasets.load_dataset(
                READERS[kind], data_files=files, cache_dir=cache, keep_in_memory=True, **options
            )
            return dict(loaded)
        except Exception as error:  # noqa: BLE001 (the library raises whatever its readers and its servers do)
            raise self._damaged(error) from None
        finally:
            shutil.rmtree(cache, ignore_errors=True)

    def _fetched(self) -> dict[str, Any]:
        """A dataset on the hub, from its cache or downloaded."""
        import datasets  # noqa: PLC0415 (an extra)
        from huggingface_hub import constants  # noqa: PLC0415 (an extra)

        if self.given.startswith(("/", ".", "~")) or self.given.count("/") > 1:
            raise UserError(f"data.path={self.given}: there is no such folder")
        try:
            urllib.request.urlopen(constants.ENDPOINT, timeout=REACHABLE).close()
        except OSError as error:
            reason = getattr(error, "reason", None) or error
            raise UserError(
                f"data.path={self.given}: no such folder, and {constants.ENDPOINT} cannot be reached ({reason}): put "
                "its files into a folder and give data.path=FOLDER"
            ) from None
        try:
            return dict(datasets.load_dataset(self.given, self.subset))
        except Exception as error:  # noqa: BLE001 (the library raises whatever its readers and its servers do)
            raise self._damaged(error) from None

    def _damaged(self, error: BaseException) -> UserError:
        cause = error.__cause__ or error
        told = (str(cause).strip().splitlines() or [type(cause).__name__])[0][:160].rstrip(".")
        return UserError(f"data.path={self.given}: cannot be read ({told})")

    def _labelled(self, split: str, table: Dataset) -> list[tuple[str, str]]:
        """(text, label) of each row; none where all labels are -1.

        Raises:
            UserError: a column that is not there, or as of `labelled`.
        """
        for column in self.columns:
            if column not in table.column_names:
                where = f"data.path={self.given}: split {split}"
                raise UserError(f"{where} has no column {column}{suggest(column, table.column_names)}")
        names = getattr(table.features[self.columns[1]], "names", None)
        texts, labels = (table[column][:] for column in self.columns)
        if all(label == -1 for label in labels):
            return []
        return labelled(texts, labels, names, f"data.path={self.given}: split {split}", self.columns)


def labelled(
    texts: Iterable[object],
    labels: Iterable[object],
    names: Sequence[str] | None,
    where: str,
    columns: tuple[str, str] = ("text", "label"),
) -> list[tuple[str, str]]:
    """(text, label) of each row.

    Args:
        labels: names of classes or whole numbers.
        names: of the classes, where labels are their numbers.
        where: beginning of messages.
        columns: what messages call the two.

    Raises:
        UserError: an empty text, a label that is missing or is none (row named).
    """
    rows = []
    for row, (text, label) in enumerate(zip(texts, labels, strict=True)):
        place = f"{where}, row {row}"
        if not isinstance(text, str) or not text.strip():
            raise UserError(f"{place}: column {columns[0]} has no text")
        if label is None or label == -1 or isinstance(label, float | list | dict) or not str(label).strip():
            raise UserError(f"{place}: column {columns[1]} has no class ({label!r})")
        label = int(label) if isinstance(label, bool) else label
        if names:
            if not isinstance(label, int) or not 0 <= label < len(names):
                raise UserError(f"{place}: column {columns[1]} has {label!r}, the classes are 0 to {len(names) - 1}")
            label = names[label]
        rows.append((text, str(label)))
    return rows


def _split_of(file: Path, root: Path) -> str:
    """The split that a file belongs to, by the beginning of its name or of the folder that it lies in; else train."""
    names = {name: name for names in SPLITS.values() for name in names}
    parts = [file.stem, *(part.name for part in file.relative_to(root).parents if part.name)]
    for part in parts:
        word = part.lower().replace("_", "-").replace(".", "-").split("-")[0]
        if word in names:
            return word
    return "train"


@contextmanager
def quiet() -> Iterator[None]:
    """Silence progress bars and messages of the library `datasets`."""
    try:
        import datasets  # noqa: PLC0415 (an extra)
    except ImportError:
        yield
        return
    hub = logging.getLogger("huggingface_hub")
    level, before, bars = hub.level, datasets.logging.get_verbosity(), datasets.is_progress_bar_enabled()
    datasets.logging.set_verbosity_error()
    datasets.disable_progress_bars()
    hub.setLevel(logging.ERROR)
    try:
        yield
    finally:
        datasets.logging.set_verbosity(before)
        hub.setLevel(level)
        if bars:
            datasets.enable_progress_bars()
