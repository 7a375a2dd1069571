"""Random numbers that code of a user's own draws, as a function of integers such as (seed, epoch, row).

It draws from the generators of the whole process, or from some that it keeps. All of them are seeded from those
integers for each item that is read and each step that is trained, so that these are the same whatever was drawn before
them, and in whichever process.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator, Mapping
from types import ModuleType
from typing import Any

import numpy as np
import torch

from src.runtime.stateless_random import mix

_DEEP = 5  # steps from an owner to a generator: such as dataset.dataset.transform.transforms[0].generator
_FEW = 64  # entries up to which a list is searched


class Randomness:
    """Random state that objects may draw from: that of the process, and generators that they keep.

    Args:
        owners: datasets, samplers, modules and the like; their attributes are searched.
    """

    def __init__(self, *owners: object) -> None:
        self._generators = list({id(one): one for owner in owners for one in _kept(owner, _DEEP, set())}.values())

    def seed(self, *values: int) -> None:
        """Seed everything from integers."""
        seed = mix(*values)
        torch.default_generator.manual_seed(seed >> 1)
        np.random.seed(seed & 0xFFFFFFFF)
        random.seed(seed)
        for one in self._generators:
            if isinstance(one, torch.Generator):
                one.manual_seed(seed >> 1)
            elif isinstance(one, np.random.Generator):
                one.bit_generator.state = type(one.bit_generator)(seed).state
            else:
                one.seed(seed & 0xFFFFFFFF)

    @contextlib.contextmanager
    def set_apart(self) -> Iterator[None]:
        """Put the process' own random state back afterwards."""
        before = torch.get_rng_state(), np.random.get_state(), random.getstate()
        try:
            yield
        finally:
            torch.set_rng_state(before[0])
            np.random.set_state(before[1])
            random.setstate(before[2])

    def state(self) -> tuple[Any, ...]:
        """Everything's state, to be compared with a later one."""
        own = [_state(one) for one in self._generators]
        numpy: Any = np.random.get_state()
        return torch.get_rng_state().numpy().tobytes(), numpy[1].tobytes(), numpy[2:], random.getstate(), own


def _state(one: Any) -> object:  # noqa: ANN401 (any of four kinds of generator)
    if isinstance(one, torch.Generator):
        return one.get_state().numpy().tobytes()
    if isinstance(one, np.random.Generator):
        return repr(one.bit_generator.state)
    return repr(one.get_state()) if isinstance(one, np.random.RandomState) else one.getstate()


def _kept(owner: object, deep: int, seen: set[int]) -> Iterator[Any]:
    """Generators among an object's attributes, and theirs."""
    if id(owner) in seen:
        return
    seen.add(id(owner))
    if isinstance(owner, torch.Generator | np.random.Generator | np.random.RandomState | random.Random):
        yield owner
        return
    if isinstance(owner, Mapping):
        inside = list(owner.values()) if len(owner) <= _FEW else []
    elif isinstance(owner, list | tuple):
        inside = list(owner) if len(owner) <= _FEW else []
    elif isinstance(owner, type | ModuleType | torch.Tensor | np.ndarray | str | bytes):
        return
    else:
        inside = list(getattr(owner, "__dict__", {}).values())
        inside += [getattr(owner, "__self__", None), *(getattr(owner, "args", None) or ())]  # a method; a partial
    if deep:
        for one in inside:
            yield from _kept(one, deep - 1, seen)
