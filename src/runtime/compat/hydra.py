"""Private members of Hydra. Tested with hydra-core >=1.3.8,<1.4."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import wraps
from types import ModuleType
from typing import Any

import hydra
from hydra._internal import config_loader_impl, config_repository
from hydra.core.plugins import Plugins

from src.errors import RunFailed

TESTED = ">=1.3.8,<1.4"
PLUGINS = "hydra_plugins.labbook"
_SWITCH = {"action": "store_true"}
_TOPICS = ["all", "config", "defaults", "defaults-tree", "plugins", "searchpath"]
FLAGS: dict[tuple[str, ...], dict[str, Any]] = {
    ("--help", "-h"): _SWITCH,
    ("--hydra-help",): _SWITCH,
    ("--version",): _SWITCH,
    ("--cfg", "-c"): {"choices": ["job", "hydra", "all"]},
    ("--resolve",): _SWITCH,
    ("--package", "-p"): {},
    ("--run", "-r"): _SWITCH,
    ("--multirun", "-m"): _SWITCH,
    ("--shell-completion", "-sc"): _SWITCH,
    ("--config-path", "-cp"): {},
    ("--config-name", "-cn"): {},
    ("--config-dir", "-cd"): {},
    ("--experimental-rerun",): {},
    ("--info", "-i"): {"const": "all", "nargs": "?", "choices": _TOPICS},
}


@contextmanager
def loading_through(load: Callable[..., Any]) -> Iterator[None]:
    """Let Hydra compose, while it holds, through `load(original, loader, config_name, overrides, run_mode, **options)`.

    Hydra has no public place from which a composed configuration could be checked before anything is done with it.

    Raises:
        RunFailed: this version has no such member.
    """
    owner = getattr(config_loader_impl, "ConfigLoaderImpl", None)
    original = getattr(owner, "load_configuration", None)
    if owner is None or original is None:
        raise RunFailed(
            f"hydra-core {hydra.__version__} has no ConfigLoaderImpl.load_configuration: install hydra-core{TESTED}"
        )

    @wraps(original)
    def load_configuration(*arguments: Any, **options: Any) -> Any:
        return load(original, *arguments, **options)

    owner.load_configuration = load_configuration
    try:
        yield
    finally:
        owner.load_configuration = original


def hide_parts() -> None:
    """Leave configs whose name begins with `_` out of Hydra's lists of choices: they are parts of others.

    Hydra has no public way to tell the two apart. A version without this member lists them all, which harms nothing.
    Again changes nothing.
    """
    owner = getattr(config_repository, "ConfigRepository", None)
    original = getattr(owner, "get_group_options", None)
    if owner is None or original is None or hasattr(original, "__wrapped__"):
        return

    @wraps(original)
    def get_group_options(*arguments: Any, **options: Any) -> list[str]:
        return [name for name in original(*arguments, **options) if not name.startswith("_")]

    owner.get_group_options = get_group_options


def arguments_parser() -> argparse.ArgumentParser:
    """A parser of Hydra's documented flags (`FLAGS`), which takes the overrides as `overrides`.

    Hydra's own is private; a test compares the two.
    """
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("overrides", nargs="*")
    for flags, options in FLAGS.items():
        parser.add_argument(*flags, **options)
    return parser


def register_plugins(plugins: Sequence[type]) -> None:
    """Makes launchers and sweepers known to Hydra; again changes nothing."""
    instance = Plugins.instance()  # before there is the module, which it would look for in folders
    plugin_module(plugins)
    for plugin in plugins:
        instance.register(plugin)


def plugin_module(plugins: Iterable[type]) -> ModuleType:
    """The module from which Hydra builds them.

    It takes plugins from the package hydra_plugins only, which has to lie beside `src` and is lost in an editable
    installation. So the package is made here.
    """
    module = ModuleType(PLUGINS)
    for plugin in plugins:
        plugin.__module__ = PLUGINS
        setattr(module, plugin.__name__, plugin)
    package, _, name = PLUGINS.partition(".")
    setattr(sys.modules.setdefault(package, ModuleType(package)), name, module)
    sys.modules[PLUGINS] = module
    return module
