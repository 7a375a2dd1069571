"""Predicts new rows with a trained run, from its checkpoint alone: `python -m src.predict run=last data.path=a.csv`."""

from __future__ import annotations

from omegaconf import DictConfig

from src import imports
from src.config import entry


@entry("predict")
def main(config: DictConfig) -> None:
    with imports.quickly():
        from src.inference import predict  # imports torch, which a misspelt option need not wait for

    predict(config)


if __name__ == "__main__":
    main()
