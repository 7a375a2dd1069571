"""Frozen dataclasses as plain containers and back, so that a checkpoint holds no class of this project."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any


def plain(value: object) -> Any:  # noqa: ANN401 (a container of whatever the fields hold)
    """Dataclasses as dicts and tuples as lists, however deep."""
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    return value


def frozen(cls: type[Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """Keyword arguments for a dataclass out of what `plain` made of one: lists as tuples, unknown names left out."""
    known = {field.name for field in fields(cls)}
    return {name: _tuples(value) for name, value in values.items() if name in known}


def _tuples(value: object) -> object:
    return tuple(_tuples(one) for one in value) if isinstance(value, list) else value
