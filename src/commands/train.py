"""Train one model, test its best checkpoint, and track the run."""

from __future__ import annotations

from omegaconf import DictConfig

from src import sweeps, tracking
from src.runtime import allocator, fast_imports


def train(config: DictConfig) -> float | None:
    """Train, and return the objective that a sweep compares: the best validation value.

    What imports torch is imported here, after the process that writes to the store was started: it imports MLflow in
    the meantime.
    """
    if config.tracking.enabled:
        tracking.prepare()
    allocator.keep_freed()
    with fast_imports.quickly():
        from src.experiment import run  # noqa: PLC0415 - imports torch
    if config.explain:
        from src.analysis.explain import attribution  # noqa: PLC0415 - imports torch

        attribution.require()
    job = sweeps.current()
    if job is None:
        return run.train(config).objective
    from src.sweeps.hooks import Hooks  # noqa: PLC0415 - imports torch

    return run.train(config, job=Hooks(job)).objective
