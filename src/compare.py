"""Compares tracked runs: a leaderboard with statistics, or how two runs differ: `python -m src.compare sweep=last`."""

from __future__ import annotations

from omegaconf import DictConfig

from src.config import entry


@entry("compare")
def main(config: DictConfig) -> None:
    from src.commands.compare import compare

    compare(config)


if __name__ == "__main__":
    main()
