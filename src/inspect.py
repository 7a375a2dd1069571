"""Looks at data before anything is trained on it: `python -m src.inspect data=csv data.path=my.csv data.target=y`."""

from __future__ import annotations

from omegaconf import DictConfig

from src import imports
from src.config import entry


@entry("inspect")
def main(config: DictConfig) -> None:
    with imports.quickly():
        from src.inspection import inspect  # imports torch, which a misspelt option need not wait for

    inspect(config)


if __name__ == "__main__":
    main()
