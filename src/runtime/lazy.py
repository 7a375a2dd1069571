"""What is imported or made when it is first asked for, so that start-up stays short."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from importlib import import_module
from types import ModuleType
from typing import Any


def names(package: str, places: Mapping[str, str]) -> Callable[[str], Any]:
    """The `__getattr__` of a package.

    Args:
        package: its `__name__`.
        places: the module of each public name.
    """

    def get(name: str) -> Any:
        if name in places:
            return getattr(import_module(places[name]), name)
        raise AttributeError(f"module {package!r} has no attribute {name!r}")

    return get


def modules(package: str, known: Iterable[str]) -> Callable[[str], ModuleType]:
    """The `__getattr__` of a package whose modules are imported at the first use: `plots.curves` after `import plots`.

    Args:
        package: its `__name__`.
        known: names of its modules.
    """
    found = frozenset(known)

    def get(name: str) -> ModuleType:
        if name in found:
            return import_module(f"{package}.{name}")
        raise AttributeError(f"module {package!r} has no attribute {name!r}")

    return get


class Deferred:
    """An object that is made when something is first asked of it, and is then taken for it.

    Args:
        make: makes it.
    """

    def __init__(self, make: Callable[[], Any]) -> None:
        object.__setattr__(self, "_make", make)

    @property  # type: ignore[misc]
    def __class__(self) -> type:  # for isinstance
        return type(self._make())

    def __getattr__(self, name: str) -> Any:
        return getattr(self._make(), name)
