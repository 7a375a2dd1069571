"""Files of datasets: where they lie, how they get there, and the text in them."""

from __future__ import annotations

import gzip
import os
import zlib
from pathlib import Path

from src.errors import UserError
from src.runtime import project


def data_root(root: str | None) -> Path:
    """Folder for downloads: the one given, LABBOOK_DATA_ROOT, or data/ in the project."""
    return Path(root or os.environ.get("LABBOOK_DATA_ROOT") or project.ROOT / "data").expanduser().absolute()


def download(name: str, root: Path) -> list[Path]:
    """Find and verify the files of a dataset; download those that are missing.

    Raises:
        UserError: a file that is damaged, or missing and not to be had.
    """
    from src.data.core.download import verified  # noqa: PLC0415 (imports torchvision, which is slow)
    from src.data.core.sources import FILES  # noqa: PLC0415 (likewise)

    folder, files = FILES[name]
    return verified(files, root / folder, name)


def own_file(source: str, path: str | None) -> Path | None:
    """The user's own file, where `data.source` is `file`.

    Raises:
        UserError: it is, and none was given.
    """
    if source == "file" and path is None:
        raise UserError("data.path: has no default, give one: data.path=...")
    return Path(path).expanduser().absolute() if path else None


def required(path: Path | None) -> Path:
    """The path of a dataset's file, which `own_file` or `prepare_data` has set."""
    if path is None:
        raise RuntimeError("prepare_data() comes first")
    return path


def read_text(path: Path, option: str = "path") -> str:
    """Read a text file in UTF-8, plain or gzipped; `option` is the one that named it.

    Raises:
        UserError: it is missing, empty, or not UTF-8 (line named).
    """
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"data.{option}: {path} cannot be read ({reason})") from None
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise UserError(f"data.{option}: {path}, line {line}: byte {content[error.start]:#x} is not UTF-8") from None
    if not text.strip():
        raise UserError(f"data.{option}: {path} is empty")
    return text
