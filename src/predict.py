"""Predicts new rows with a trained run, from its checkpoint alone: `python -m src.predict run=last data.path=a.csv`."""

from __future__ import annotations

from omegaconf import DictConfig

from src import imports
from src.config import entry


@entry("predict")
def main(config: DictConfig) -> None:
    with imports.quickly():
        from src import drawing, inference  # imports torch, which a misspelt option need not wait for

    (inference.predict if config.draw is None else drawing.draw)(config)


if __name__ == "__main__":
    main()
