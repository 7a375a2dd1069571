"""Environments of gymnasium (Towers et al. 2024, arXiv:2407.17032): the same for the same seeds and actions.

What is imported from gymnasium is imported where it is needed, so that weights load without it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np
import torch
from torch import Tensor

from src.errors import UserError, suggest
from src.runtime import optional
from src.runtime.format import first_line

if TYPE_CHECKING:
    import gymnasium

Environment: TypeAlias = "gymnasium.Env[Any, Any]"
Act = Callable[
    [Tensor, Sequence[int]], Tensor
]  # observations (B, F) of the episodes with these numbers -> actions (B,)


def require() -> ModuleType:
    """gymnasium itself.

    Raises:
        UserError: it is not installed.
    """
    optional.require("gymnasium", "pip install -e '.[rl]'", for_="data=environment")
    import gymnasium  # noqa: PLC0415 (an extra: weights load without it)

    return gymnasium


def make(name: str, max_steps: int | None = None, *, picture: bool = False) -> Environment:
    """An environment whose observations are rows of numbers (F,).

    Args:
        name: as gymnasium registers it; `module:NAME` imports the module first, which registers it.
        max_steps: after which an episode is cut off; None: the environment's own limit.
        picture: `render()` gives pixels.

    Raises:
        UserError: no such environment, a package that it needs, actions or observations that no policy here takes.
    """
    gymnasium = require()
    options: dict[str, Any] = {"render_mode": "rgb_array"} if picture else {}
    if picture:  # or pygame's library looks for a display, and says that there is none
        os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
    if max_steps is not None:
        options["max_episode_steps"] = max_steps
    try:
        environment = gymnasium.make(name, disable_env_checker=True, **options)
    except (gymnasium.error.UnregisteredEnv, gymnasium.error.Error) as error:
        if isinstance(error, gymnasium.error.DependencyNotInstalled):
            raise UserError(f"data.name={name} needs a further package: {first_line(error)}") from None
        if name in gymnasium.registry:
            raise UserError(f"data.name={name} cannot be made: {first_line(error)}") from None
        raise UserError(f"data.name={name}: there is no such environment{_near(name, gymnasium.registry)}") from None
    except ImportError as error:
        raise UserError(f"data.name={name} cannot be imported: {first_line(error)}") from None
    spaces, seen, actions = gymnasium.spaces, environment.observation_space, environment.action_space
    if not isinstance(actions, spaces.Discrete):
        raise UserError(f"data.name={name} has actions of {actions}; a policy here chooses one of several (Discrete)")
    if not isinstance(seen, spaces.Box) or len(seen.shape) != 1:
        if not seen.is_np_flattenable or (isinstance(seen, spaces.Box) and len(seen.shape) > 2):
            raise UserError(f"data.name={name} shows {_short(seen)}; a policy here takes rows of numbers, no pictures")
        environment = gymnasium.wrappers.FlattenObservation(environment)
    return environment


def _short(space: gymnasium.Space[Any]) -> str:
    return f"{type(space).__name__} {space.shape}" if space.shape else type(space).__name__


def _near(name: str, known: Mapping[str, Any]) -> str:
    near = suggest(name, known)
    return near if "did you mean" in near else ", such as CartPole-v1 (gymnasium.pprint_registry() lists all)"


class Start(NamedTuple):
    """Facts about an environment before anything is done in it.

    Attributes:
        observations: (N, F) at the beginning of the episodes with given seeds.
        actions: how many there are to choose from.
        max_steps: of an episode.
    """

    observations: Tensor
    actions: int
    max_steps: int


def start(name: str, max_steps: int | None, seeds: Sequence[int]) -> Start:
    """Begins an episode with each seed.

    Raises:
        UserError: as `make`; an environment without a limit of its own, and none is given.
    """
    environment = make(name, max_steps)
    limit = max_steps or (environment.spec and environment.spec.max_episode_steps)
    if not limit:
        raise UserError(f"data.name={name} sets its episodes no limit: give one, data.max_steps=1000")
    observations = torch.stack([_row(environment.reset(seed=seed)[0]) for seed in seeds])
    actions = environment.action_space.n  # type: ignore[attr-defined]  # Discrete, as `make` has seen
    return Start(observations, int(actions), int(limit))


def _row(observation: np.ndarray) -> Tensor:
    return torch.from_numpy(np.asarray(observation, dtype=np.float32))


class Moved(NamedTuple):
    """One step of several environments.

    Attributes:
        observation: (N, F), before it.
        next: (N, F) to which the actions led, also where that ended the episode.
        reward: (N,).
        terminated: (N,) whether the episode came to an end of its own, after which nothing more can be earned.
        ended: (N,) whether it came to an end at all, by the limit of steps as well.
    """

    observation: Tensor
    next: Tensor
    reward: Tensor
    terminated: Tensor
    ended: Tensor


class VectorEnv:
    """Copies of an environment in this process, stepped together; an episode that ends is followed by the next one.

    All that happens is a function of the seed and the actions since `begin`, which are kept: `begin` with both comes
    to the same state again.

    Attributes:
        observation: (N, F), what is to be acted on next.
        actions: (T, N), those since `begin`.
    """

    def __init__(self, name: str, max_steps: int, copies: int) -> None:
        vector = require().vector
        makers = [partial(make, name, max_steps)] * copies
        self._envs = vector.SyncVectorEnv(makers, autoreset_mode=vector.AutoresetMode.SAME_STEP)
        self._copies = copies
        self.begin(0)

    @property
    def actions(self) -> Tensor:
        """Actions since `begin`, one row a step (T, N)."""
        return torch.stack(self._actions) if self._actions else torch.empty(0, self._copies, dtype=torch.int64)

    def begin(self, seed: int, actions: Tensor | None = None) -> None:
        """New episodes, in which these actions (T, N) are taken; none of them is in the next `tally`."""
        seeds = np.random.SeedSequence(seed).generate_state(self._copies).tolist()
        observations, _ = self._envs.reset(seed=seeds)
        self._actions: list[Tensor] = []
        self.observation = _row(observations)
        self._played = torch.zeros(2, self._copies, dtype=torch.float64)  # return and length until now
        self._tally = torch.zeros(5, dtype=torch.float64)
        for row in () if actions is None else actions:
            self.step(row)
        self.tally()

    def step(self, actions: Tensor) -> Moved:
        """Takes actions (N,), on the CPU."""
        before = self.observation
        observations, reward, terminated, truncated, info = self._envs.step(actions.numpy())
        self._actions.append(actions)
        self.observation = last = _row(observations)
        ended = terminated | truncated
        self._played += torch.from_numpy(np.stack([reward, np.ones_like(reward)]))
        self._tally[3] += reward.mean()
        self._tally[4] += 1
        if ended.any():
            last = last.clone()
            for i in ended.nonzero()[0].tolist():
                last[i] = _row(info["final_obs"][i])
                self._tally[:2] += self._played[:, i]
                self._tally[2] += 1
                self._played[:, i] = 0
        rewards = torch.from_numpy(reward.astype(np.float32))
        return Moved(before, last, rewards, torch.from_numpy(terminated), torch.from_numpy(ended))

    def tally(self) -> Tensor:
        """Since the last time (5,): returns and lengths summed over the episodes that ended, how many these were;
        rewards and steps of one copy, on average.
        """
        tally, self._tally = self._tally, torch.zeros(5, dtype=torch.float64)
        return tally.float()


class Step(NamedTuple):
    """One step of an episode, for whoever looks on: observation (F,) before it, action, reward."""

    observation: Tensor
    action: int
    reward: float


def play(
    name: str,
    max_steps: int,
    seeds: Sequence[int],
    act: Act,
    *,
    watch: Callable[[Step], None] | None = None,
    picture: Callable[[np.ndarray], None] | None = None,
    every: int = 1,
) -> Tensor:
    """Plays an episode with each seed to its end, all side by side; (N, 2): return and length of each.

    Args:
        act: chooses the actions of the episodes that still go on.
        watch: takes each step of a single episode,
        picture: and a picture (H, W, 3) of every so many, of the beginning and of the end.

    Raises:
        UserError: as `make`; pictures where the environment draws none.
    """
    envs = [make(name, max_steps, picture=picture is not None) for _ in seeds]
    seen = torch.stack([_row(env.reset(seed=seed)[0]) for env, seed in zip(envs, seeds, strict=True)])
    played = torch.zeros(len(envs), 2, dtype=torch.float64)
    going = list(range(len(envs)))
    _shown(envs[0], picture)
    steps = 0
    while going:
        steps += 1
        actions = act(seen[going], going).tolist()
        still = []
        for i, action in zip(going, actions, strict=True):
            observation, reward, terminated, truncated, _ = envs[i].step(action)
            if watch is not None:
                watch(Step(seen[i].clone(), action, float(reward)))
            seen[i] = _row(observation)
            played[i] += torch.tensor([float(reward), 1.0], dtype=torch.float64)
            if not (terminated or truncated):
                still.append(i)
        going = still
        if not going or steps % every == 0:
            _shown(envs[0], picture)
    for env in envs:
        env.close()
    return played.float()


def _shown(environment: Environment, picture: Callable[[np.ndarray], None] | None) -> None:
    if picture is None:
        return
    gymnasium = require()
    assert environment.spec is not None
    try:
        pixels = environment.render()
    except (gymnasium.error.DependencyNotInstalled, ImportError) as error:
        raise UserError(f"{environment.spec.id} cannot be drawn: {first_line(error)}") from None
    if not isinstance(pixels, np.ndarray) or pixels.ndim != 3:
        raise UserError(f"{environment.spec.id} draws no pictures")
    picture(pixels)


def pictures_per_second(name: str) -> float:
    """Frame rate for rendering in real time."""
    return float(make(name).metadata.get("render_fps") or 30)


def at_random(actions: int, seeds: Sequence[int]) -> Act:
    """Any action as likely as another, in each episode drawn from its own seed."""
    draws = [np.random.default_rng(seed) for seed in seeds]
    return lambda observations, going: torch.tensor([int(draws[i].integers(actions)) for i in going])
