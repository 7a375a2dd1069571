"""Learning-rate schedules as fractions of training.

A schedule is a function of the step alone, so a resumed run that is made longer follows the longer curve.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, ReduceLROnPlateau

from src.runtime.ranges import PositiveFloat, UnitFloat, checked


def none() -> None:
    """No schedule: the learning rate stays as the optimizer has it."""


def step(
    optimizer: Optimizer, *, total_steps: int, milestones: Sequence[float] = (0.5, 0.75), gamma: float = 0.1
) -> LambdaLR:
    """The learning rate times `gamma` at each milestone, a fraction of training. Stepped once an optimizer step."""

    def factor(done: float) -> float:
        return gamma ** sum(done >= milestone for milestone in milestones)

    return _of_progress(optimizer, total_steps, factor)


@checked("scheduler")
def cosine(optimizer: Optimizer, *, total_steps: int, warmup: UnitFloat = 0.05, final: float = 0.0) -> LambdaLR:
    """Linear warm-up over a fraction `warmup` of training, then half a cosine down to a fraction `final` of the rate.

    Stepped once an optimizer step. Warm-up starts above zero, so that no step is lost.
    """
    warmup_steps = round(warmup * total_steps)

    def factor(done: float) -> float:
        current = done * total_steps
        if current < warmup_steps:
            return (current + 1) / (warmup_steps + 1)
        fraction = (current - warmup_steps) / max(1, total_steps - warmup_steps)
        return final + (1 - final) * _fall(fraction)

    return _of_progress(optimizer, total_steps, factor)


@checked("scheduler")
def one_cycle(
    optimizer: Optimizer,
    *,
    total_steps: int,
    pct_start: UnitFloat = 0.3,
    div_factor: PositiveFloat = 25.0,
    final_div_factor: PositiveFloat = 1e4,
) -> LambdaLR:
    """Warm up from lr / div_factor to lr over a fraction `pct_start`, then fall to lr / div_factor / final_div_factor.

    Both ways along half a cosine, as torch's OneCycleLR; momentum is left alone, so that it serves every optimizer.
    Stepped once an optimizer step.
    """
    low, end = 1 / div_factor, 1 / div_factor / final_div_factor

    def factor(done: float) -> float:
        if done < pct_start:
            return 1 + (low - 1) * _fall(done / pct_start)
        return end + (1 - end) * _fall((done - pct_start) / max(1e-12, 1 - pct_start))

    return _of_progress(optimizer, total_steps, factor)


def plateau(
    optimizer: Optimizer, *, total_steps: int, factor: float = 0.5, patience: int = 3, min_lr: float = 0.0
) -> ReduceLROnPlateau:
    """The learning rate times `factor` after `patience` epochs without improvement of the monitored value.

    Stepped by the model once an epoch, with a value of which less is better; `total_steps` is not used. The threshold
    of an improvement is absolute: a relative one means nothing for the negated accuracy that the model may hand in.
    """
    return ReduceLROnPlateau(optimizer, factor=factor, patience=patience, min_lr=min_lr, threshold_mode="abs")


def _of_progress(optimizer: Optimizer, total_steps: int, factor: Callable[[float], float]) -> LambdaLR:
    total = max(1, total_steps)
    return LambdaLR(optimizer, lambda current: factor(min(current, total) / total))


def _fall(fraction: float) -> float:
    """Value of half a cosine from 1 to 0, a fraction of the way along."""
    return (1 + math.cos(math.pi * min(1.0, fraction))) / 2
