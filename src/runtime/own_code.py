"""The user's own code: found by its name and called, and its modules with a hash of the source of each."""

from __future__ import annotations

import hashlib
import importlib
import sys
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from src.errors import UserError, suggest
from src.runtime import in_memory, trust

# packages whose versions are recorded by name, or that are this project's
KNOWN = ("src", "torch", "torchvision", "pytorch_lightning", "hydra_plugins")


def hashes(config: Mapping[str, Any], further: Iterable[str] = ()) -> dict[str, str]:
    """sha256 of the source of each module, loaded by now, of the packages that a configuration's targets are of.

    Installed packages count too: what lies in site-packages may be an editable copy.

    Args:
        further: names of code that stand in other options.
    """
    packages = {target.partition(".")[0] for target in (*targets(config), *further)} - set(KNOWN)
    found = {}
    for name, loaded in sorted(sys.modules.items()):
        if name.partition(".")[0] in packages and (digest := _digest(getattr(loaded, "__file__", None))):
            found[name] = digest
    return found


def change(saved: Mapping[str, str]) -> str:
    """Sentence that names the modules whose source is not what it was, or that are not to be found; empty if none is.

    Args:
        saved: `hashes` of a checkpoint.
    """
    # to look for a module imports the packages above it, which nobody has asked for where they are not trusted
    names = [name for name, digest in saved.items() if trust.is_trusted(name) and _digest(_file(name)) != digest]
    return f"the code has changed since the checkpoint was written: {', '.join(names)}" if names else ""


def imported(target: str) -> Any:  # noqa: ANN401 (whatever the name stands for)
    """The object of a dotted name.

    Raises:
        UserError: it cannot be imported; says why, and where it was looked for.
    """
    name, _, attribute = target.rpartition(".")
    if name == in_memory.NAME and not in_memory.has(attribute):
        raise UserError(f"{target} is an object of a Python program: load_run(ID, model=...) takes it again")
    try:
        place = importlib.import_module(name)
    except ModuleNotFoundError as error:
        missing = error.name or name
        where = f" in {', '.join(folder or '.' for folder in sys.path[:3])} ..." if name.startswith(missing) else ""
        raise UserError(f"{target} cannot be imported: no module {missing}{where}; PYTHONPATH adds a folder") from error
    except Exception as error:
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise UserError(f"{target} cannot be imported ({reason})") from error
    if not hasattr(place, attribute):
        public = [key for key, value in vars(place).items() if callable(value) and not key.startswith("_")]
        raise UserError(f"{target} cannot be imported: {name} has no {attribute}{suggest(attribute, public)}")
    return getattr(place, attribute)


def made(value: Any, path: str) -> Any:  # noqa: ANN401 (any part of a configuration)
    """A value with the nodes in it made, inner ones first: what has a `_target_` is called with its other keys.

    Raises:
        UserError: a name that cannot be imported, or an error of what it names; says where.
    """
    if isinstance(value, list):
        return [made(part, f"{path}[{index}]") for index, part in enumerate(value)]
    if not isinstance(value, Mapping):
        return value
    options = {key: made(part, f"{path}.{key}") for key, part in value.items() if not str(key).startswith("_")}
    if "_target_" not in value:
        return options
    found = imported(str(value["_target_"]))
    try:
        return partial(found, **options) if value.get("_partial_") else found(**options)
    except Exception as error:
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise UserError(f"{path}: {value['_target_']} cannot be made ({reason})") from error


def targets(node: Any) -> Iterator[str]:  # noqa: ANN401 (any part of a configuration)
    """Names of all `_target_` in a part of a configuration, outer ones first."""
    if isinstance(node, Mapping):
        if isinstance(node.get("_target_"), str):
            yield node["_target_"]
        for part in node.values():
            yield from targets(part)
    elif isinstance(node, list | tuple):
        for part in node:
            yield from targets(part)


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
