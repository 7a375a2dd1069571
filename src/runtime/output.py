"""Files that a command writes: refused before any work where they cannot be, and there only when they are whole."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from src.errors import UserError

OTHER_NAME = "give another name, or force=true to write over it"


def check(path: Path, force: bool, *, shown: str | None = None, remedy: str = OTHER_NAME) -> None:
    """Refuse a path that exists, unless the user forces it.

    Args:
        path: where the output is to go.
        force: whether it may be written over.
        shown: how the error calls it; `output=PATH` by default.
        remedy: what the user can do.

    Raises:
        UserError: it exists.
    """
    if path.exists() and not force:
        raise UserError(f"{shown or f'output={path}'} exists: {remedy}")


def check_folder(path: Path, *, shown: object = None) -> None:
    """Refuse a path whose folder is not there, or takes no files.

    Args:
        shown: the path as the user gave it, for the error.

    Raises:
        UserError: there is no such folder, or this user may not write to it.
    """
    if not path.parent.is_dir():
        raise UserError(f"output={shown or path}: there is no folder {path.parent}")
    if not os.access(path.parent, os.W_OK):
        raise UserError(f"output={shown or path}: {path.parent} cannot be written to")


@contextmanager
def replacing(path: Path, *, suffix: str = ".tmp", synced: bool = False) -> Iterator[Path]:
    """A temporary path in the folder of `path`, renamed to it when the block ends well and removed when it does not.

    Args:
        path: of the file, or of a folder; what it held stays until the new content is whole.
        suffix: ends the temporary name, for writers that go by it.
        synced: whether the content is on the disk before the name is, as after a power cut it has to be.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}{suffix}")
    try:
        yield temporary
        if synced:
            _sync(temporary)
        _rename(temporary, path)
        if synced:
            _sync(path.parent)
    finally:
        if temporary.is_dir():
            shutil.rmtree(temporary)
        else:
            temporary.unlink(missing_ok=True)


def _rename(new: Path, path: Path) -> None:
    """Give a new file or folder its name; the folder that had it goes afterwards."""
    old = new.with_name(f"{new.name}.old")
    if new.is_dir() and path.is_dir():
        os.rename(path, old)
    os.replace(new, path)
    if old.is_dir():
        shutil.rmtree(old)


def write(path: Path, content: str | bytes) -> None:
    """Write a whole file, text as UTF-8."""
    with replacing(path) as temporary:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
