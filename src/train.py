"""Trains one model, tests its best checkpoint, and tracks the run: `python -m src.train model=cnn`."""

from __future__ import annotations

from omegaconf import DictConfig

from src.config import entry
from src.runtime import allocator, fast_imports


@entry("train")
def main(config: DictConfig) -> float | None:
    """Returns the objective that a sweep compares: the best validation value."""
    from src import tracking

    if config.tracking.enabled:
        tracking.prepare()  # its process imports MLflow while this one imports torch
    allocator.keep_freed()
    with fast_imports.quickly():
        from src.experiment.run import train  # imports torch, which a misspelt option need not wait for
    if config.explain:
        from src.analysis.explain import attribution

        attribution.require()
    return train(config).objective


if __name__ == "__main__":
    main()
