"""Runs a tracked run again, exactly or with changes: `python -m src.rerun run=last verify=true`."""

from __future__ import annotations

import sys
from functools import partial

from omegaconf import DictConfig

from src.config import Command
from src.runtime import allocator, fast_imports

OWN = ("run", "here", "verify", "tracking", "traceback", "debug")  # what else is given changes the run's configuration


def _rerun(config: DictConfig, changes: list[str]) -> None:
    allocator.keep_freed()
    with fast_imports.quickly():
        from src.commands.rerun import rerun  # imports torch, which a misspelt option need not wait for

    rerun(config, changes)


def main() -> None:
    own = [text for text in sys.argv[1:] if text.startswith("-") or text.partition("=")[0].partition(".")[0] in OWN]
    changes = [text for text in sys.argv[1:] if text not in own]
    sys.exit(Command("rerun", partial(_rerun, changes=changes)).run(own))


if __name__ == "__main__":
    main()
