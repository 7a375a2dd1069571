"""Proximal policy optimisation (Schulman et al. 2017, arXiv:1707.06347) with generalised advantage estimation."""

from __future__ import annotations

from math import log
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from src.models.components.layers import Activation
from src.models.rl.agent import MLP, Agent, UpdateStats
from src.rl.environments import Moved, VectorEnv
from src.runtime.ranges import NonNegativeFloat, NonNegativeInt, PositiveInt, UnitFloat
from src.spec import DataSpec
from src.tasks import Task


class Steps(NamedTuple):
    """Steps made with one state of the policy, (N, ...) or (N,) each."""

    observation: Tensor
    action: Tensor
    log_probability: Tensor
    advantage: Tensor
    target: Tensor


class PPO(Agent):
    """Acts for some steps, then learns from them several times, as long as the policy stays near the one that acted.

    Args:
        spec: what the data is; input (F,), what is seen of the environment.
        task: evaluates episodes.
        width, depth: units and number of the hidden layers of each net.
        activation: between them.
        gamma: discount of a reward one step later.
        minibatch_size: steps of an update.
        max_grad_norm: to which gradients are clipped; 0: as they are.
        gae_lambda: how far rewards count against what was expected: 1 takes the rewards, 0 the expectation after the
            next one.
        clip_range: share by which the probability of an action may change before it counts no further.
        n_epochs: passes over the steps that were made.
        vf_coef: weight of the squared error of the expected return.
        ent_coef: weight of the policy's entropy, which keeps it trying.
    """

    def __init__(
        self,
        spec: DataSpec,
        task: Task,
        *,
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
    ) -> None:
        super().__init__(spec, task, gamma=gamma, minibatch_size=minibatch_size, max_grad_norm=max_grad_norm)
        self.gae_lambda, self.clip_range, self.n_epochs = gae_lambda, clip_range, n_epochs
        self.vf_coef, self.ent_coef = vf_coef, ent_coef
        size = spec.input_shape[0]
        self.net = MLP(size, task.num_outputs, width, depth, activation, last=0.01)
        self.value = MLP(size, 1, width, depth, activation, last=1.0)

    def learn(self, envs: VectorEnv, count: int) -> UpdateStats:
        """Make `count` steps of all environments and learn from them."""
        steps = self._rollout(envs, count)
        updates = []
        total = len(steps.action)
        for epoch in range(self.n_epochs):
            chunks = torch.randperm(total).to(self.device).split(self.minibatch_size)
            for number, rows in enumerate(chunks):
                loss, value_loss, entropy = self.losses(Steps(*(column[rows] for column in steps)))
                self.update(loss, last=epoch == self.n_epochs - 1 and number == len(chunks) - 1)
                updates.append(torch.stack([loss, value_loss, entropy]).detach())
        loss, value_loss, entropy = torch.stack(updates).mean(0)
        return UpdateStats(loss, value_loss, entropy / log(max(2, self.task.num_outputs)))

    @torch.no_grad()
    def _rollout(self, envs: VectorEnv, count: int) -> Steps:
        moves: list[Moved] = []
        actions, log_probabilities = [], []
        for _ in range(count):
            logs = self(envs.observation.to(self.device)).log_softmax(1)
            action = torch.multinomial(logs.exp(), 1)
            moves.append(envs.step(action.squeeze(1).cpu()))
            actions.append(action)
            log_probabilities.append(logs.gather(1, action))
        observation, following, reward, terminated, ended = (
            torch.stack(column).to(self.device) for column in zip(*moves, strict=True)
        )  # (T, N, F), (T, N, F), (T, N), ...
        values, after = (self.expected(seen.flatten(0, 1)).view_as(reward) for seen in (observation, following))
        torch.clear_autocast_cache()  # made without a gradient
        advantage = advantages(reward, values, after, terminated, ended, self.gamma, self.gae_lambda)
        return Steps(
            observation.flatten(0, 1),
            torch.stack(actions).flatten(),
            torch.stack(log_probabilities).flatten(),
            advantage.flatten(),
            (advantage + values).flatten(),
        )

    def losses(self, steps: Steps) -> tuple[Tensor, Tensor, Tensor]:
        """Loss to minimise, squared error of the expected return, and entropy, of some steps; scalars."""
        logs = self(steps.observation).log_softmax(1)
        ratio = (logs.gather(1, steps.action.unsqueeze(1)).squeeze(1) - steps.log_probability).exp()
        advantage = steps.advantage
        if len(advantage) > 1:
            advantage = (advantage - advantage.mean()) / (advantage.std() + 1e-8)
        near = ratio.clamp(1 - self.clip_range, 1 + self.clip_range)
        gain = torch.minimum(ratio * advantage, near * advantage).mean()
        entropy = -(logs.exp() * logs).sum(1).mean()
        value_loss = F.mse_loss(self.expected(steps.observation).squeeze(1), steps.target)
        return self.vf_coef * value_loss - gain - self.ent_coef * entropy, value_loss, entropy


def advantages(
    reward: Tensor,
    value: Tensor,
    after: Tensor,
    terminated: Tensor,
    ended: Tensor,
    gamma: float,
    gae_lambda: float,
) -> Tensor:
    """Generalised advantage estimates of each step (T, N) (Schulman et al. 2015, arXiv:1506.02438).

    Args:
        reward, value, after: (T, N), what was earned, what was expected before it and after it.
        terminated: (T, N) bool, nothing follows; where an episode was only cut off, what was expected after it counts.
        ended: (T, N) bool, the next step is of another episode.
    """
    surprise = reward + gamma * after * ~terminated - value
    carried = gamma * gae_lambda * (~ended).to(surprise.dtype)
    found = torch.empty_like(surprise)
    later = torch.zeros_like(surprise[0])
    for step in reversed(range(len(surprise))):
        later = surprise[step] + carried[step] * later
        found[step] = later
    return found
