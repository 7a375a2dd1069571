"""Files in class folders: `path/CLASS/*`, or `path/{train,val,test}/CLASS/*`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from src.errors import UserError

SPLIT_FOLDERS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}

ClassFolders = dict[str, tuple[list[Path], list[int]]]


def labelled(
    path: Path, formats: Sequence[str], what: str, class_names: Sequence[str] = ()
) -> tuple[ClassFolders, tuple[str, ...]]:
    """Files of each part in the order of class and name, with their classes' numbers; and the classes' names.

    Args:
        path: holds the class folders, or one folder a part that does; without parts the whole is called `all`.
        formats: how the files' names end.
        what: one file is, such as `picture`.
        class_names: those known; empty: the folders' names of `all` or `train` in alphabetical order.

    Raises:
        UserError: no such folder, fewer than two classes, a class that is not known or has no files.
    """
    folders = _split_folders(path)
    names = tuple(class_names)
    if not names:
        whole = folders.get("train") or folders["all"]
        names = tuple(entry.name for entry in _subfolders(whole))
        if len(names) < 2:
            raise UserError(f"data.path: {whole} has {len(names)} class folders, two or more are needed")
    return {split: _of_classes(folder, names, formats, what) for split, folder in folders.items()}, names


def files_below(folder: Path, formats: Sequence[str]) -> list[Path]:
    """At any depth, in alphabetical order."""
    return sorted(
        Path(place) / name
        for place, _, names in os.walk(folder, followlinks=True)
        for name in names
        if name.lower().endswith(tuple(formats)) and not name.startswith(".")
    )


def _split_folders(path: Path) -> dict[str, Path]:
    """Where each part lies: the parts' own folders, or the whole as `all`."""
    if not path.is_dir():
        raise UserError(f"data.path={path}: there is no such folder")
    children = _subfolders(path)
    splits = {SPLIT_FOLDERS[child.name.lower()]: child for child in children if child.name.lower() in SPLIT_FOLDERS}
    if "train" not in splits or len(splits) < len(children):
        return {"all": path}
    return splits


def _of_classes(
    folder: Path, class_names: Sequence[str], formats: Sequence[str], what: str
) -> tuple[list[Path], list[int]]:
    files, labels = [], []
    for child in _subfolders(folder):
        if child.name not in class_names:
            raise UserError(f"data.path: {child} is no class of the training split")
        of_class = files_below(child, formats)
        if not of_class:
            raise UserError(f"data.path: no {what} in the class folder {child} ({', '.join(formats)})")
        files += of_class
        labels += [class_names.index(child.name)] * len(of_class)
    return files, labels


def _subfolders(folder: Path) -> list[Path]:
    return sorted(Path(entry) for entry in os.scandir(folder) if entry.is_dir() and not entry.name.startswith("."))
