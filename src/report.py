"""Writes one page about a run or a sweep: `python -m src.report run=last`."""

from __future__ import annotations

from omegaconf import DictConfig

from src import imports
from src.config import entry


@entry("report")
def main(config: DictConfig) -> None:
    with imports.quickly():
        from src.reporting import report

    report(config)


if __name__ == "__main__":
    main()
