"""The family of models that a dotted name stands for: one of this project, or one made from a user's own class."""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Callable
from functools import cache
from typing import Any

import pytorch_lightning as pl

from src.errors import UserError, suggest
from src.models.base import Model
from src.models.own.lightning import OwnLightning, hooks_of
from src.models.own.module import OwnModule
from src.tasks.registry import from_outside


@cache
def family(target: str) -> type[Model]:
    """Find the family of a `_target_`.

    Raises:
        UserError: it cannot be imported, and where it was looked for; or it is nothing that makes a model.
    """
    found = imported(target)
    if isinstance(found, type) and issubclass(found, Model):
        return found
    if target.startswith("src."):
        raise UserError(f"{target} is no Model")
    if not callable(found) or inspect.ismodule(found):
        raise UserError(f"model._target_={target} is neither a class nor a function")
    return _wrapped(target, found)


def _wrapped(target: str, found: Callable[..., Any]) -> type[Model]:
    """A family under the name of a user's own class or function."""
    own = {"factory": staticmethod(found), "target": target, "tasks": (*OwnModule.tasks, *from_outside())}
    name = target.rpartition(".")[2]
    if isinstance(found, type) and issubclass(found, pl.LightningModule):
        return type(name, (OwnLightning,), own | hooks_of(found))
    return type(name, (OwnModule,), own)


def imported(target: str) -> Any:  # noqa: ANN401 (whatever the name stands for)
    """The object of a dotted name.

    Raises:
        UserError: it cannot be imported; says why, and where it was looked for.
    """
    name, _, attribute = target.rpartition(".")
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
