"""Looks at data before anything is trained on it: `python -m src.inspect data=csv data.path=my.csv data.target=y`."""

from __future__ import annotations

from omegaconf import DictConfig

from src.config import entry
from src.runtime import fast_imports


@entry("inspect")
def main(config: DictConfig) -> None:
    with fast_imports.quickly():
        from src.commands.inspect import inspect  # imports torch, which a misspelt option need not wait for

    inspect(config)


if __name__ == "__main__":
    main()
