"""Computes a trained run's figures again, with intervals, or on other data: `python -m src.evaluate run=last`."""

from __future__ import annotations

from omegaconf import DictConfig

from src.config import entry
from src.runtime import fast_imports


@entry("evaluate")
def main(config: DictConfig) -> None:
    with fast_imports.quickly():
        from src.commands.evaluate import evaluate  # imports torch, which a misspelt option need not wait for

    evaluate(config)


if __name__ == "__main__":
    main()
