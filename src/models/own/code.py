"""Code that a configuration names: found by its dotted name, and called with the options beside it."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping
from functools import partial
from typing import Any

from src.errors import UserError, suggest
from src.runtime import in_memory


def imported(target: str) -> Any:  # noqa: ANN401 (whatever the name stands for)
    """The object of a dotted name.

    Raises:
        UserError: it cannot be imported; says why, and where it was looked for.
    """
    name, _, attribute = target.rpartition(".")
    if name == in_memory.NAME and not hasattr(in_memory.module(), attribute):
        raise UserError(f"{target} is an object of a Python program: load_run(ID, model=...) takes it again")
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        missing = error.name or name
        where = f" in {', '.join(place or '.' for place in sys.path[:3])} ..." if name.startswith(missing) else ""
        raise UserError(f"{target} cannot be imported: no module {missing}{where}; PYTHONPATH adds a folder") from error
    except Exception as error:
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise UserError(f"{target} cannot be imported ({reason})") from error
    if not hasattr(module, attribute):
        public = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
        raise UserError(f"{target} cannot be imported: {name} has no {attribute}{suggest(attribute, public)}")
    return getattr(module, attribute)


def made(value: Any, path: str) -> Any:  # noqa: ANN401 (any part of a configuration)
    """A value with the nodes in it made, inner ones first: what has a `_target_` is called with its other keys.

    Raises:
        UserError: a name that cannot be imported, or an error of what it names; says where.
    """
    if isinstance(value, list):
        return [made(part, f"{path}[{index}]") for index, part in enumerate(value)]
    if not isinstance(value, Mapping):
        return value
    options = {key: made(part, f"{path}.{key}") for key, part in value.items() if not key.startswith("_")}
    if "_target_" not in value:
        return options
    found = imported(value["_target_"])
    try:
        return partial(found, **options) if value.get("_partial_") else found(**options)
    except Exception as error:
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise UserError(f"{path}: {value['_target_']} cannot be made ({reason})") from error
