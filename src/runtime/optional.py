"""Optional packages: asked for before they are needed, in one line that says how to get them."""

from __future__ import annotations

import importlib.util

from src.errors import UserError


def has(package: str) -> bool:
    """True if a package is installed; it is not imported."""
    return importlib.util.find_spec(package) is not None


def require(package: str, remedy: str, *, for_: str) -> None:
    """Refuse what a missing package is needed for.

    Args:
        package: its name when it is imported.
        remedy: how to install it, such as `pip install 'labbook[hf]'`.
        for_: what needs it, as the user gave it: `data=hf`.

    Raises:
        UserError: it is not installed.
    """
    if not has(package):
        raise UserError(f"{for_} needs {package}: {remedy}")


def extra(name: str) -> str:
    """The command that installs an extra of this project."""
    return f"pip install 'labbook[{name}]'"
