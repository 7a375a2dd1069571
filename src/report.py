"""Writes one page about a run or a sweep: `python -m src.report run=last`."""

from __future__ import annotations

from omegaconf import DictConfig

from src.config import entry
from src.runtime import fast_imports


@entry("report")
def main(config: DictConfig) -> None:
    with fast_imports.quickly():
        from src.commands.report import report

    report(config)


if __name__ == "__main__":
    main()
