"""Proximal policy optimisation (Schulman et al. 2017, arXiv:1707.06347) with generalised advantage estimation."""

from __future__ import annotations

from math import log
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from src.models.rl.update_stats import Learned
from src.rl.environments import Moved, Vector


class Steps(NamedTuple):
    """Steps that were made with one state of the policy, (N, ...) or (N,) each."""

    observation: Tensor
    action: Tensor
    log_probability: Tensor
    advantage: Tensor
    target: Tensor


class PPO:
    """Acts for some steps, then learns from them several times, as long as the policy stays near the one that acted.

    Args:
        minibatch_size: steps of an update.
        discount: of a reward one step later.
        gae_lambda: how far rewards count against what was expected: 1 takes the rewards, 0 the expectation after the
            next one.
        clip: by which share the probability of an action may change before it counts no further.
        passes: over the steps that were made.
        value_weight: of the squared error of the expected return.
        entropy_weight: of the policy's entropy, which keeps it trying.
    """

    options = ("discount", "gae_lambda", "clip", "passes", "value_weight", "entropy_weight")

    def __init__(
        self,
        minibatch_size: int,
        *,
        discount: float,
        gae_lambda: float,
        clip: float,
        passes: int,
        value_weight: float,
        entropy_weight: float,
    ) -> None:
        self.minibatch_size, self.discount, self.gae_lambda = minibatch_size, discount, gae_lambda
        self.clip, self.passes = clip, passes
        self.value_weight, self.entropy_weight = value_weight, entropy_weight

    def state_dict(self) -> dict[str, Any]:
        """Nothing: what was learned from is forgotten at once."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        pass

    def learn(self, policy: Any, vector: Vector, count: int) -> Learned:
        """Makes `count` steps of all environments and learns from them."""
        steps = self._acted(policy, vector, count)
        told = []
        total = len(steps.action)
        for number in range(self.passes):
            chunks = torch.randperm(total).to(policy.device).split(self.minibatch_size)
            for place, rows in enumerate(chunks):
                loss, value_loss, entropy = self.losses(policy, Steps(*(column[rows] for column in steps)))
                policy.descend(loss, last=number == self.passes - 1 and place == len(chunks) - 1)
                told.append(torch.stack([loss, value_loss, entropy]).detach())
        loss, value_loss, entropy = torch.stack(told).mean(0)
        return Learned(loss, value_loss, entropy / log(max(2, policy.task.num_outputs)))

    @torch.no_grad()
    def _acted(self, policy: Any, vector: Vector, count: int) -> Steps:
        moves: list[Moved] = []
        actions, log_probabilities = [], []
        for _ in range(count):
            logs = policy(vector.observation.to(policy.device)).log_softmax(1)
            action = torch.multinomial(logs.exp(), 1)
            moves.append(vector.step(action.squeeze(1).cpu()))
            actions.append(action)
            log_probabilities.append(logs.gather(1, action))
        observation, following, reward, terminated, ended = (
            torch.stack(column).to(policy.device) for column in zip(*moves, strict=True)
        )  # (T, N, F), (T, N, F), (T, N), ...
        values, after = (policy.expected(seen.flatten(0, 1)).view_as(reward) for seen in (observation, following))
        torch.clear_autocast_cache()  # made without a gradient
        advantage = advantages(reward, values, after, terminated, ended, self.discount, self.gae_lambda)
        return Steps(
            observation.flatten(0, 1),
            torch.stack(actions).flatten(),
            torch.stack(log_probabilities).flatten(),
            advantage.flatten(),
            (advantage + values).flatten(),
        )

    def losses(self, policy: Any, steps: Steps) -> tuple[Tensor, Tensor, Tensor]:
        """(what is minimised, squared error of the expected return, entropy) of some steps, scalars."""
        logs = policy(steps.observation).log_softmax(1)
        ratio = (logs.gather(1, steps.action.unsqueeze(1)).squeeze(1) - steps.log_probability).exp()
        advantage = steps.advantage
        if len(advantage) > 1:
            advantage = (advantage - advantage.mean()) / (advantage.std() + 1e-8)
        near = ratio.clamp(1 - self.clip, 1 + self.clip)
        gain = torch.minimum(ratio * advantage, near * advantage).mean()
        entropy = -(logs.exp() * logs).sum(1).mean()
        value_loss = F.mse_loss(policy.expected(steps.observation).squeeze(1), steps.target)
        return self.value_weight * value_loss - gain - self.entropy_weight * entropy, value_loss, entropy


def advantages(
    reward: Tensor,
    value: Tensor,
    after: Tensor,
    terminated: Tensor,
    ended: Tensor,
    discount: float,
    gae_lambda: float,
) -> Tensor:
    """How much better than expected it went after each step (T, N); Schulman et al. 2015, arXiv:1506.02438.

    Args:
        reward, value, after: (T, N), what was earned, what was expected before it and after it.
        terminated: (T, N) bool, nothing follows; where an episode was only cut off, what was expected after it counts.
        ended: (T, N) bool, the next step is of another episode.
    """
    surprise = reward + discount * after * ~terminated - value
    carried = discount * gae_lambda * (~ended).to(surprise.dtype)
    found = torch.empty_like(surprise)
    later = torch.zeros_like(surprise[0])
    for step in reversed(range(len(surprise))):
        later = surprise[step] + carried[step] * later
        found[step] = later
    return found
