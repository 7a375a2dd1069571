"""Objects that a Python program hands over, under dotted names by which a configuration can name them.

A name ends in a hash of the object's content, so that the same command on other data is another one.
"""

from __future__ import annotations

import hashlib
import inspect
import pickle
import secrets
import sys
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

NAME = "labbook_in_memory"  # of the module that has them


class _Module(ModuleType):
    """Module without a file."""

    stand_in: Callable[..., Any] | None = None

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if self.stand_in is None or name.startswith("_"):
            raise AttributeError(name)
        return self.stand_in


def add(thing: Callable[..., Any], content: object, title: str) -> str:
    """Make a class or function known.

    Args:
        content: what it stands for, whose hash is part of the name. Where no hash can be taken (a function without
            source, an open file) the name is a new one each time, and nothing that was run before is taken for it.
        title: how the name begins.

    Returns:
        The dotted name.
    """
    name = f"{title}_{_digest(content)[:8]}"
    setattr(_known(), name, thing)
    return f"{NAME}.{name}"


def has(name: str) -> bool:
    """True if something stands under a name."""
    return hasattr(_known(), name)


def stand_in(thing: Callable[..., Any]) -> None:
    """Let a class or function stand for all names that this process does not know."""
    _known().stand_in = thing


def _known() -> _Module:
    if NAME not in sys.modules:
        made = _Module(NAME)
        made.__spec__ = ModuleSpec(NAME, None)  # without one, who looks for its source is told that it is no module
        sys.modules[NAME] = made
    return sys.modules[NAME]  # type: ignore[return-value]


class _Hash:
    """File that keeps nothing but the sha256 of what is written."""

    def __init__(self) -> None:
        self.sha256 = hashlib.sha256()

    def write(self, data: Any) -> int:  # noqa: ANN401 (whatever has bytes)
        """Take in bytes."""
        view = memoryview(data).cast("B")
        self.sha256.update(view)
        return len(view)


def _digest(content: object) -> str:
    file = _Hash()
    try:
        pickle.dump(_plain(content), file)
    except (pickle.PicklingError, TypeError, AttributeError, OSError, RuntimeError, ValueError):
        return secrets.token_hex(32)
    return file.sha256.hexdigest()


def _plain(content: object) -> object:
    """Content by values: classes and functions by their source, a program's own objects by their attributes too."""
    if inspect.isclass(content) or inspect.isfunction(content):
        return content.__module__, content.__qualname__, inspect.getsource(content)
    is_own = type(content).__module__ == "__main__"  # pickled by name, which another program may have too
    return (_plain(type(content)), vars(content)) if is_own else content
