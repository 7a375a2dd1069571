"""Command by which the project was started, `labbook X` or `python -m src.X`: hints name the next one the same way."""

from __future__ import annotations

import os
import sys
from pathlib import Path

STARTED_AS = "LABBOOK_STARTED_AS"  # a variable, so that a run's further processes and the writer beside it know too
SCRIPTS = ("labbook", "labbook-train")


def through_labbook() -> None:
    """Notes that the script `labbook` started this process."""
    os.environ[STARTED_AS] = "labbook"


def command(name: str) -> str:
    """The beginning of a command line, such as `python -m src.rerun`."""
    return f"labbook {name}" if os.environ.get(STARTED_AS) == "labbook" else f"python -m src.{name}"


def typed() -> list[str]:
    """The command line of this process as a person typed it, without the folders of programs."""
    program, *arguments = sys.orig_argv
    if arguments and Path(arguments[0]).name in SCRIPTS:
        return [Path(arguments[0]).name, *arguments[1:]]
    return [Path(program).name, *arguments]
