"""The user's own code that a run was made with: its modules by name, with a hash of the source of each."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterable, Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

# packages whose versions are recorded by name, or that are this project's
KNOWN = ("src", "torch", "torchvision", "pytorch_lightning", "hydra_plugins")


def hashes(config: Mapping[str, Any], further: Iterable[str] = ()) -> dict[str, str]:
    """sha256 of the source of each module, loaded by now, of the packages that a configuration's targets are of.

    Installed packages count too: what lies in site-packages may be an editable copy.

    Args:
        further: names of code that stand in other options.
    """
    packages = {target.partition(".")[0] for target in (*_targets(config), *further)} - set(KNOWN)
    found = {}
    for name, loaded in sorted(sys.modules.items()):
        if name.partition(".")[0] in packages and (digest := _digest(getattr(loaded, "__file__", None))):
            found[name] = digest
    return found


def changed(saved: Mapping[str, str]) -> list[str]:
    """Modules whose source is not what it was, or that are not to be found."""
    return [name for name, digest in saved.items() if _digest(_file(name)) != digest]


def _targets(node: Any) -> Iterator[str]:  # noqa: ANN401 (any part of a configuration)
    if isinstance(node, Mapping):
        if isinstance(node.get("_target_"), str):
            yield node["_target_"]
        for part in node.values():
            yield from _targets(part)
    elif isinstance(node, list | tuple):
        for part in node:
            yield from _targets(part)


def _file(name: str) -> str | None:
    try:
        spec = find_spec(name)
    except (ImportError, ValueError):
        return None
    return None if spec is None else spec.origin


def _digest(file: str | None) -> str | None:
    if file is None or not file.endswith(".py"):
        return None
    try:
        return hashlib.sha256(Path(file).read_bytes()).hexdigest()
    except OSError:
        return None
