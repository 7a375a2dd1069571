"""Values of a configuration that only the data tells: `${spec:in_features}`, filled when the model is made."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from src.errors import UserError, suggest

_PLACEHOLDER = re.compile(r"\$\{spec:\s*(\w+)\s*\}")


def itself(name: str) -> str:
    """The placeholder of a name: what a configuration resolves it to."""
    return f"${{spec:{name}}}"


def is_placeholder(value: object) -> bool:
    """True if a value is one, and no more than that."""
    return isinstance(value, str) and _PLACEHOLDER.fullmatch(value) is not None


def filled(value: Any, known: Mapping[str, object], path: str) -> Any:  # noqa: ANN401 (any part of a configuration)
    """A value with the placeholders in it replaced.

    Args:
        known: what the data tells, by name.
        path: of the value, for messages.

    Raises:
        UserError: one names what the data does not tell.
    """
    if isinstance(value, Mapping):
        return {key: filled(part, known, f"{path}.{key}") for key, part in value.items()}
    if isinstance(value, list):
        return [filled(part, known, f"{path}[{index}]") for index, part in enumerate(value)]
    found = _PLACEHOLDER.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        return value
    if found[1] not in known:
        raise UserError(f"{path}={value}: data and task do not tell {found[1]}{suggest(found[1], known)}")
    return known[found[1]]
