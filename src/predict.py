"""Predicts new rows with a trained run, from its checkpoint alone: `python -m src.predict run=last data.path=a.csv`."""

from __future__ import annotations

from omegaconf import DictConfig

from src.config import entry
from src.runtime import fast_imports


@entry("predict")
def main(config: DictConfig) -> None:
    with fast_imports.quickly():
        from src.commands import predict
        from src.inference.answers import (
            control,  # imports torch, which a misspelt option need not wait for
            generation,
        )

    nothing = config.data.get("path") is None and config.text is None
    answer = generation.draw if config.draw is not None else control.play if nothing else predict.predict
    answer(config)


if __name__ == "__main__":
    main()
