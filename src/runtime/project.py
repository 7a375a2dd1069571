"""Paths of the project: the code, its configuration files, and the folder that runs and data go to.

A project of a user's own is a folder whose pyproject.toml has a table `[tool.labbook]`; it is found from any folder
below it, as git finds its own, or where LABBOOK_PROJECT names it (an empty one: there is none). Else, in a checkout
that folder is the checkout, from wherever a command is started. An installation (a wheel in site-packages) is never
written to: there it is the folder in which the process was started.
"""

from __future__ import annotations

import importlib.metadata
import os
import re
import sys
import tomllib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from src.errors import UserError

VARIABLE = "LABBOOK_PROJECT"
TABLE = re.compile(r"^\[tool\.labbook\]", re.MULTILINE)
CODE = Path(__file__).resolve().parents[2]  # what has to be on the path for `import src`


def _is_checkout(folder: Path) -> bool:
    file = folder / "pyproject.toml"
    return file.is_file() and bool(re.search(r'^name = "labbook"$', file.read_text(encoding="utf-8"), re.MULTILINE))


def is_own(folder: Path) -> bool:
    """True if a folder is a user's own project."""
    try:
        return bool(TABLE.search((folder / "pyproject.toml").read_text(encoding="utf-8", errors="replace")))
    except OSError:  # there is none, or it is not for this user to read
        return False


def around(place: Path) -> Path | None:
    """Folder of the user's own project that a place lies in."""
    return next((folder for folder in (place, *place.parents) if is_own(folder)), None)


def _own() -> Path | None:
    given = os.environ.get(VARIABLE)
    if given is None:
        return around(Path.cwd())
    return Path(given).expanduser().resolve() if given else None


IN_CHECKOUT = _is_checkout(CODE)
OWN = _own()
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
    return _names("packages") or tuple(sorted(file.parent.name for file in OWN.glob("*/__init__.py")))


def imports() -> tuple[str, ...]:
    """Modules of the user's own project that are imported ahead of a run, since they register something.

    Raises:
        UserError: its pyproject.toml cannot be read.
    """
    return _names("import")


def _names(key: str) -> tuple[str, ...]:
    """A list of names in the table of the user's own project; empty where there is none."""
    names = _table().get(key, [])
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise UserError(f'{OWN}/pyproject.toml: tool.labbook.{key} expects a list of names, such as ["mylab"]')
    return tuple(names)


@cache
def _table() -> dict[str, Any]:
    if OWN is None:
        return {}
    file = OWN / "pyproject.toml"
    try:
        table: dict[str, Any] = tomllib.loads(file.read_text(encoding="utf-8"))["tool"]["labbook"]
    except FileNotFoundError:
        raise UserError(f"{VARIABLE}={OWN}: there is no pyproject.toml, so it is no project") from None
    except (KeyError, TypeError):
        raise UserError(f"{file}: has no table [tool.labbook], so its folder is no project") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{file}: {error}") from None
    return table


def enter() -> None:
    """Make the packages of the user's own project importable; again changes nothing.

    Raises:
        UserError: it is no project, or its pyproject.toml cannot be read.
    """
    if OWN is None:
        return
    _table()
    if str(OWN) not in sys.path:
        sys.path.insert(0, str(OWN))


def environment(given: Mapping[str, str], code: Path = CODE, own: Path | None = OWN) -> dict[str, str]:
    """Extend an environment so that a process imports this code and is of the same project wherever it starts."""
    paths = [str(code), *filter(None, [given.get("PYTHONPATH")])]
    return {**given, "PYTHONPATH": os.pathsep.join(paths), VARIABLE: str(own or "")}


def version() -> str:
    """Labbook's own."""
    try:
        return importlib.metadata.version("labbook")
    except importlib.metadata.PackageNotFoundError:
        return str(tomllib.loads((CODE / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"])


def short(path: str | Path) -> str:
    """A path as messages show it: of a file of the project without the folders above it."""
    path = Path(path)
    root = next((folder for folder in (OWN, CODE) if folder and path.is_relative_to(folder)), None)
    return str(path) if root is None else str(path.relative_to(root))
