"""Runs a command, or lists them: `labbook train model=cnn`, `python -m src`."""

from __future__ import annotations

import importlib.util
import os
import re
import sys
from importlib import import_module

from src.config import version
from src.errors import suggest
from src.runtime import invocation, project

COMMANDS = (
    *("train", "predict", "evaluate", "inspect", "compare"),
    *("rerun", "report", "export", "runs", "sweep", "init"),
)
COMPLETION = ("-sc", "--shell-completion")


def main() -> None:
    """Ends the process with the command's exit code; 2 for a command that there is not."""
    if os.path.basename(sys.argv[0]) == "labbook":
        invocation.through_labbook()
    name, *arguments = sys.argv[1:] or ["--help"]
    if name in COMPLETION:
        name, arguments = _completed(sys.argv[1:])
    if name in ("-h", "--help", "help"):
        print(_overview())
    elif name == "--version":
        print(f"labbook {version()}")
    elif name in COMMANDS:
        _run(name, arguments)
    elif name:
        print(f"error: there is no command {name}{suggest(name, COMMANDS)}", file=sys.stderr)
        sys.exit(2)


def _run(name: str, arguments: list[str]) -> None:
    """Becomes the command, so that further processes of a run are started as `python -m src.NAME`."""
    sys.argv[1:] = arguments
    sys.modules["__main__"].__spec__ = importlib.util.find_spec(f"src.{name}")
    import_module(f"src.{name}").main()


def _overview() -> str:
    """All commands, with how the help of each begins."""
    lines = []
    for name in COMMANDS:
        text = (project.CONF / f"{name}.txt").read_text(encoding="utf-8")
        lines.append(f"  {invocation.command(name):<24} {re.split('[:.]', text, maxsplit=1)[0]}")
    title = "Labbook trains models, tracks every run, compares and reproduces them."
    return "\n".join([title, "", *lines, "", f"{invocation.command('NAME --help')} shows all of one command."])


def _completed(arguments: list[str]) -> tuple[str, list[str]]:
    """The command that answers the shell, which sees its own part of the line; none where the command is being typed.

    The shell's function is the one that `labbook-train` has: it asks `labbook -sc query=SHELL` with COMP_LINE set.
    """
    program, _, rest = os.environ.get("COMP_LINE", "").partition(" ")
    name, space, rest = rest.lstrip().partition(" ")
    if not arguments[-1].startswith("query="):  # of the shell's function itself
        return "train", arguments
    if not space:
        print(" ".join(COMMANDS))
        return "", []
    os.environ["COMP_LINE"] = f"{program} {rest}"
    return (name, arguments) if name in COMMANDS else ("", [])


if __name__ == "__main__":
    main()
