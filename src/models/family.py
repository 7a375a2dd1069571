"""The family of models that a dotted name stands for: one of this project, or one made from a user's own class."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import cache
from typing import Any, get_type_hints

import pytorch_lightning as pl

from src.errors import UserError
from src.models.base import Model
from src.models.own.lightning import OwnLightning, hooks_of
from src.models.own.module import OwnModule
from src.runtime.own_code import imported
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
    made = found if isinstance(found, type) else _returned(found)
    if isinstance(made, type) and issubclass(made, pl.LightningModule):
        return type(name, (OwnLightning,), own | hooks_of(made))
    return type(name, (OwnModule,), own)


def _returned(function: Callable[..., Any]) -> object:
    """The class that a function's annotation says it makes; None where it has none."""
    try:
        return get_type_hints(function).get("return")
    except (NameError, TypeError):  # names that only a type checker knows
        return None
