"""Predicts new rows with a trained run, from its checkpoint alone: `python -m src.predict run=last data.path=a.csv`."""

from __future__ import annotations

from omegaconf import DictConfig

from src import imports
from src.config import entry


@entry("predict")
def main(config: DictConfig) -> None:
    with imports.quickly():
        from src import drawing, inference, playing  # imports torch, which a misspelt option need not wait for

    nothing = config.data.get("path") is None and config.text is None
    answer = drawing.draw if config.draw is not None else playing.play if nothing else inference.predict
    answer(config)


if __name__ == "__main__":
    main()
