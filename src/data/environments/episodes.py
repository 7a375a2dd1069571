"""Environments of gymnasium as data: no rows to learn from, but episodes in which a policy acts."""

from __future__ import annotations

from collections.abc import Callable

import torch
from typing_extensions import override

from src.data.core.module import DataModule
from src.data.core.samplers import EpochSampler
from src.data.core.splits import Split, average, fingerprint, tensor_of
from src.rl import environments
from src.runtime.ranges import PositiveInt
from src.runtime.stateless_random import mix
from src.spec import Actions, EnvironmentSpec

_EPISODES = 11  # keeps these seeds apart from others drawn from the same one
_BITS = 31  # of a seed, as every environment takes it


class Environment(DataModule):
    """Steps of an environment to learn from, and episodes with fixed seeds to be judged by.

    A training row is one step of one copy of the environment, and what happens in it is the policy's doing: all that
    a batch says is how many steps are due, dealt to the copies and rounded up. Each epoch begins new episodes, whose
    seeds come from (seed, epoch). A row of `val` and `test` is an episode: the first observation, and its seed, which
    does not depend on the run's own.

    Args:
        name: as gymnasium registers it; `module:NAME` imports the module first.
        steps: of an epoch, by all copies together.
        num_envs: copies that are stepped side by side.
        val_episodes, test_episodes: played after an epoch, and at the end.
        max_steps: after which an episode is cut off; null: the environment's own limit.
        batch_size: steps between two updates of the policy.
        eval_batch_size: episodes played side by side.
        split_seed: of the episodes of `val` and `test`.

    Raises:
        UserError: gymnasium is missing, no such environment, or a number out of its range.
    """

    inputs = (EnvironmentSpec,)
    tasks = ("control",)
    unlabelled = ()

    def __init__(
        self,
        *,
        name: str,
        steps: PositiveInt = 8192,
        num_envs: PositiveInt = 8,
        val_episodes: PositiveInt = 20,
        test_episodes: PositiveInt = 100,
        max_steps: PositiveInt | None = None,
        seed: int = 0,
        batch_size: int = 1024,
        eval_batch_size: int = 100,
        split_seed: int = 0,
    ) -> None:
        super().__init__(seed=seed, batch_size=batch_size, eval_batch_size=eval_batch_size, split_seed=split_seed)
        self.name = name
        self.steps, self.num_envs, self.max_steps = steps, num_envs, max_steps
        self.episodes = {"val": val_episodes, "test": test_episodes}
        self.source = f"gymnasium {name}"

    @override
    def load(self) -> dict[str, Split]:
        seeds = {split: [self._seed(split, i) for i in range(count)] for split, count in self.episodes.items()}
        seeds["train"] = [self._seed("train", 0)]
        first = environments.start(self.name, self.max_steps, [seed for split in seeds.values() for seed in split])
        self._actions, self.max_steps = first.actions, first.max_steps
        rows = first.observations.split([len(split) for split in seeds.values()])
        splits: dict[str, Split] = {
            split: {"input": observations, "seed": torch.tensor(seeds[split])}
            for split, observations in zip(seeds, rows, strict=True)
        }
        # one observation stands for all steps: which others follow is not known before they are made
        train = splits["train"]
        splits["train"] = {
            "input": tensor_of(train, "input").expand(self.steps, -1),
            "seed": tensor_of(train, "seed").expand(self.steps),
        }
        return splits

    def _seed(self, split: str, number: int) -> int:
        return mix(self.split_seed, _EPISODES, ("train", "val", "test").index(split), number) & ((1 << _BITS) - 1)

    def _split(self, splits: dict[str, Split]) -> dict[str, Split]:
        return splits

    def _measure_input(self, **more: object) -> EnvironmentSpec:
        first = self.splits["val"]["input"]
        made: Callable[..., EnvironmentSpec] = EnvironmentSpec  # `more` are any of its fields
        return made(
            shape=tuple(first.shape[1:]),
            average=average(first),
            id=self.name,
            max_steps=self.max_steps,
            copies=self.num_envs,
            **more,
        )

    def _measure_target(self) -> Actions:
        return Actions(tuple(map(str, range(self._actions))))

    def _fingerprint(self) -> str:
        return fingerprint({name: self.splits[name] for name in self.episodes})

    def _sampler(self, split: Split, device: torch.device | str) -> EpochSampler:
        # in order: the number of a row is how many steps the epoch has made
        return EpochSampler(len(split["input"]), self.batch_size, seed=self.seed, shuffle=False, device=device)
