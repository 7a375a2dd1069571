"""Writes a trained model as a file that other programs take, or as an MLflow model: `python -m src.export run=last`."""

from __future__ import annotations

from omegaconf import DictConfig

from src.config import entry
from src.runtime import fast_imports


@entry("export")
def main(config: DictConfig) -> None:
    with fast_imports.quickly():
        from src.inference.export import export  # imports torch, which a misspelt option need not wait for

    export(config)


if __name__ == "__main__":
    main()
