"""Names that keys and options had in the release before: accepted, with a note on stderr that tells the new one."""

from __future__ import annotations

import re
import sys
from collections.abc import Collection
from typing import Any, cast

from omegaconf import DictConfig, OmegaConf, open_dict

from src.config.validate import nodes
from src.runtime import renames

_noted: set[str] = set()


def renamed(argument: str, command: str) -> str:
    """One argument of the command line, its key in today's spelling."""
    marks, key, value = re.fullmatch(r"([~+]*)([^=]*)(.*)", argument, re.DOTALL).groups()  # type: ignore[union-attr]
    today = renames.keys(command).get(key)
    if today is None:
        return argument
    _note(key, today)
    return f"{marks}{today}{value}"


def update(config: DictConfig, command: str, given: Collection[str] = ()) -> None:
    """Brings a composed configuration up to date: what a recipe names in the old way, and options of nodes.

    Args:
        given: keys of the overrides, which win over what a recipe says in the old way.
    """
    keys = [str(key) for key in config if key != "hydra"]
    plain = cast("dict[str, Any]", OmegaConf.to_container(OmegaConf.masked_copy(config, keys)))
    for old, new in renames.keys(command).items():
        if old in plain:  # a whole path such as data.part is an argument only
            _move(config, "", old, new, plain, given)
    for key in keys:
        for path, node in nodes(key, plain[key]):
            target = renames.target(str(node["_target_"]))
            if target != node["_target_"]:
                _note(f"{path}._target_={node['_target_']}", target)
                OmegaConf.update(config, f"{path}._target_", target)
            for old, new in renames.options(target).items():
                if old in node:
                    _move(config, path, old, new, node, given)


def _move(config: DictConfig, path: str, old: str, new: str, plain: dict[str, Any], given: Collection[str]) -> None:
    before, now = (f"{path}.{name}" if path else name for name in (old, new))
    _note(before, now)
    node = OmegaConf.select(config, path) if path else config
    with open_dict(node):
        if now not in given or before in given:
            node[new] = plain[old]
        del node[old]


def spellings(config: DictConfig, path: str) -> list[str]:
    """A dotted key, and what it was called before."""
    node, _, option = path.rpartition(".")
    target = OmegaConf.select(config, f"{node}._target_") if node else None
    found = [f"{node}.{old}" for old, new in renames.options(target).items() if new == option]
    found += [old for old, new in renames.keys(config.hydra.job.config_name).items() if new == path]
    return [path, *found]


def _note(old: str, new: str) -> None:
    """Print the note, once a process."""
    if old not in _noted:
        _noted.add(old)
        print(f"note: {old} is now {new}; the old name is accepted for one release", file=sys.stderr)
