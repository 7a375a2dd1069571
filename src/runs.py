"""Lists, shows, tags and deletes tracked runs: `python -m src.runs list`."""

from __future__ import annotations

import sys

from omegaconf import DictConfig

from src.config import Command


def _runs(config: DictConfig) -> None:
    from src.commands.runs import runs

    runs(config)


def main() -> None:
    """`show last` and the like are written without keys."""
    words = [word for word in sys.argv[1:] if "=" not in word and not word.startswith(("-", "~"))]
    others = [word for word in sys.argv[1:] if word not in words]
    named = [f"{key}={word}" for key, word in zip(("action", "run"), words, strict=False)]
    sys.exit(Command("runs", _runs).run([*named, *words[2:], *others]))


if __name__ == "__main__":
    main()
