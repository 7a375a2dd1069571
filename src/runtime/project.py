"""Paths of the project: the code, its configuration files, and the folder that runs and data go to.

A project of a user's own is a folder whose pyproject.toml has a table `[tool.labbook]`; it is found from any folder
below it, as git finds its own. Else, in a checkout that folder is the checkout, from wherever a command is started. An
installation (a wheel in site-packages) is never written to: there it is the folder in which the process was started.
"""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

from src.errors import UserError

CODE = Path(__file__).resolve().parents[2]  # what has to be on the path for `import src`


def _is_checkout(folder: Path) -> bool:
    file = folder / "pyproject.toml"
    return file.is_file() and bool(re.search(r'^name = "labbook"$', file.read_text(encoding="utf-8"), re.MULTILINE))


def _own(start: Path) -> Path | None:
    """Folder of the user's own project that a folder lies in."""
    for folder in (start, *start.parents):
        file = folder / "pyproject.toml"
        if file.is_file() and re.search(r"^\[tool\.labbook\]", file.read_text(encoding="utf-8"), re.MULTILINE):
            return folder
    return None


IN_CHECKOUT = _is_checkout(CODE)
OWN = _own(Path.cwd())
ROOT = OWN or (CODE if IN_CHECKOUT else Path.cwd())  # of mlflow.db, mlruns/ and data/
CONF = CODE / "conf"
EXPERIMENTS = CODE / "experiments"
# folders of configuration files, the user's own first: a file there stands before one of the same name here
CONFS = (*((OWN / "conf",) if OWN else ()), CONF)
RECIPES = (*((OWN / "experiments",) if OWN else ()), EXPERIMENTS)


def packages() -> tuple[str, ...]:
    """Packages of the user's own project: `packages` of its table, else all folders with an `__init__.py`.

    Raises:
        UserError: its pyproject.toml cannot be read.
    """
    if OWN is None:
        return ()
    try:
        table = tomllib.loads((OWN / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["labbook"]
    except (tomllib.TOMLDecodeError, KeyError, TypeError) as error:
        raise UserError(f"{OWN / 'pyproject.toml'}: {error}") from None
    return tuple(table.get("packages", sorted(file.parent.name for file in OWN.glob("*/__init__.py"))))


def enter() -> None:
    """Make the packages of the user's own project importable; again changes nothing."""
    if OWN is not None and str(OWN) not in sys.path:
        sys.path.insert(0, str(OWN))


def short(path: str | Path) -> str:
    """A path as messages show it: of a file of the project without the folders above it."""
    path = Path(path)
    root = next((folder for folder in (OWN, CODE) if folder and path.is_relative_to(folder)), None)
    return str(path) if root is None else str(path.relative_to(root))
