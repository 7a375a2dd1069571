"""Bodies of the commands: each reads its checked configuration, prints, writes files.

`src/X.py` is `main = entry("X")`. Its body is the function X of src/commands/X.py, which is imported once the
configuration is known to be right: most import torch, which help and a misspelt option need not wait for.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Sequence
from importlib import import_module

from omegaconf import DictConfig

from src import sweeps
from src.config import Command
from src.runtime import fast_imports
from src.runtime.compat.hydra import FLAGS

LIGHT = ("train", "compare", "runs", "sweep", "init")  # modules that import no torch, or not at once


# keys whose values may be given without them: `show last` for `action=show run=last`
WORDS = {"init": ("name",), "runs": ("action", "run"), "sweep": ("action", "sweep")}
# a command's own keys, where all other arguments are handed to its body as they are: changes of a run's configuration
OWN = {"rerun": ("run", "here", "verify", "tracking", "trust", "traceback", "debug")}


def entry(name: str) -> Callable[[], None]:
    """Make the `main` of a command, which ends the process with its exit code."""

    def main() -> None:
        made, arguments = prepared(name, sys.argv[1:])
        sys.exit(made.run(arguments))

    return main


def prepared(name: str, arguments: Sequence[str]) -> tuple[Command, list[str]]:
    """Make a command of conf/NAME.yaml and src/commands/NAME.py for arguments as a person types them.

    Returns:
        The command, and the arguments that it is to be run with.
    """
    flags, given = _flags(arguments)
    given = _keyed(given, WORDS.get(name, ()))
    others = [text for text in given if _root(text) not in OWN[name]] if name in OWN else []
    return command(name, *([others] if name in OWN else [])), [*flags, *(text for text in given if text not in others)]


def command(name: str, *further: object, body: Callable[..., object] | None = None) -> Command:
    """Make a command with what sweeps add to each: Hydra's launchers and sweepers, and jobs in processes of their own.

    Args:
        further: what its body is given beside the configuration.
        body: function of the configuration and these; None: the one of src/commands/NAME.py.
    """

    def task(config: DictConfig) -> object:
        return (body or _body(name))(config, *further)

    return Command(name, task, plugins=_plugins, is_job=lambda: sweeps.current() is not None)


def _plugins() -> None:
    from src.sweeps import plugins  # noqa: PLC0415 - 60 ms, for sweeps alone

    plugins.register()


def _body(name: str) -> Callable[..., object]:
    with contextlib.nullcontext() if name in LIGHT else fast_imports.quickly():
        return getattr(import_module(f"src.commands.{name}"), name)


def _keyed(arguments: Sequence[str], keys: Sequence[str]) -> list[str]:
    """Words in front of all others, as values of these keys in their order."""
    words = [text for text in arguments if keys and "=" not in text and not text.startswith("~")]
    named = [f"{key}={word}" for key, word in zip(keys, words, strict=False)]
    return [*named, *words[len(keys) :], *(text for text in arguments if text not in words)]


def _flags(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Hydra's flags with their values, and all other arguments."""
    flags: list[str] = []
    given: list[str] = []
    with_value = {name for names, options in FLAGS.items() if not options.get("action") for name in names}
    for before, text in zip(["", *arguments], arguments, strict=False):
        is_value = before in with_value and "=" not in text
        (flags if text.startswith("-") or is_value else given).append(text)
    return flags, given


def _root(text: str) -> str:
    return text.partition("=")[0].partition(".")[0]
