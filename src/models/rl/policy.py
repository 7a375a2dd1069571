"""Policy: PPO or DQN by its option `algorithm`, for configurations of when both were one model."""

from __future__ import annotations

from inspect import signature
from typing import Literal

from src.models.components.layers import Activation
from src.models.rl.agent import Agent
from src.models.rl.dqn import DQN
from src.models.rl.ppo import PPO
from src.runtime.ranges import NonNegativeFloat, NonNegativeInt, PositiveInt, UnitFloat
from src.spec import DataSpec
from src.tasks import Task

ALGORITHMS: dict[str, type[Agent]] = {"ppo": PPO, "dqn": DQN}


class Policy(Agent):
    """Makes a `PPO` or a `DQN`; options of the other one change nothing.

    Args:
        algorithm: ppo, which learns from each step a few times and then forgets it, or dqn, which keeps steps.
        others: see `PPO` and `DQN`.
    """

    def __new__(  # type: ignore[misc]
        cls,
        spec: DataSpec,
        task: Task,
        *,
        algorithm: Literal["ppo", "dqn"] = "ppo",
        width: PositiveInt = 64,
        depth: NonNegativeInt = 2,
        activation: Activation = "tanh",
        gamma: UnitFloat = 0.99,
        minibatch_size: PositiveInt = 128,
        max_grad_norm: NonNegativeFloat = 0.5,
        gae_lambda: UnitFloat = 0.95,
        clip_range: UnitFloat = 0.2,
        n_epochs: PositiveInt = 10,
        vf_coef: NonNegativeFloat = 0.5,
        ent_coef: NonNegativeFloat = 0.0,
        buffer_size: PositiveInt = 50_000,
        learning_starts: NonNegativeInt = 1000,
        gradient_steps: PositiveInt = 128,
        target_update_interval: PositiveInt = 128,
        double: bool = True,
        exploration_steps: NonNegativeInt = 10_000,
        exploration_end: UnitFloat = 0.04,
    ) -> Agent:
        """Build the model of the algorithm from the options that it takes."""
        given = dict(locals())
        family = ALGORITHMS[algorithm]
        return family(**{name: given[name] for name in signature(family).parameters})
