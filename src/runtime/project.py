"""Paths of the project: the code, its configuration files, and the folder that runs and data go to.

In a checkout that folder is the checkout, from wherever a command is started. An installation (a wheel in
site-packages) is never written to: there it is the folder in which the process was started.
"""

from __future__ import annotations

import re
from pathlib import Path

CODE = Path(__file__).resolve().parents[2]  # what has to be on the path for `import src`


def _is_checkout(folder: Path) -> bool:
    file = folder / "pyproject.toml"
    return file.is_file() and bool(re.search(r'^name = "labbook"$', file.read_text(encoding="utf-8"), re.MULTILINE))


IN_CHECKOUT = _is_checkout(CODE)
ROOT = CODE if IN_CHECKOUT else Path.cwd()  # of mlflow.db, mlruns/ and data/
CONF = CODE / "conf"
EXPERIMENTS = CODE / "experiments"


def short(path: str | Path) -> str:
    """A path as messages show it: of a file of the project without the folders above it."""
    path = Path(path)
    return str(path.relative_to(CODE)) if path.is_relative_to(CODE) else str(path)
