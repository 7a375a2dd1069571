"""Deep Q-learning (Mnih et al. 2015, Nature 518:529), by default double (van Hasselt et al. 2015, arXiv:1509.06461)."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from typing_extensions import override

from src.models.components.layers import Activation
from src.models.rl.agent import MLP, Agent, UpdateStats
from src.rl.environments import Moved, VectorEnv
from src.runtime.ranges import NonNegativeFloat, NonNegativeInt, PositiveInt, UnitFloat
from src.spec import DataSpec
from src.tasks import Task


class Steps(NamedTuple):
    """Steps of any age, (N, ...) or (N,) each."""

    observation: Tensor
    action: Tensor
    reward: Tensor
    next: Tensor
    terminated: Tensor


class DQN(Agent):
    """Acts with a share of random actions, keeps the steps, and learns action values from steps drawn among them.

    `value` is the target net, an older state of `net`. The replay buffer lies in `last.ckpt`.

    Args:
        spec: what the data is; input (F,), what is seen of the environment.
        task: evaluates episodes.
        width, depth: units and number of the hidden layers of each net.
        activation: between them.
        gamma: discount of a reward one step later.
        minibatch_size: steps of an update.
        max_grad_norm: to which gradients are clipped; 0: as they are.
        buffer_size: steps that are kept; the oldest make room.
        learning_starts: random steps before the first update.
        gradient_steps: updates of the weights after the steps of each batch.
        target_update_interval: updates after which the target net takes over the weights.
        double: the action is chosen by one net and valued by the other, so that chance is not taken for worth.
        exploration_steps: steps over which the share of random actions falls from 1 to its end.
        exploration_end: that share from then on.
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
        buffer_size: PositiveInt = 50_000,
        learning_starts: NonNegativeInt = 1000,
        gradient_steps: PositiveInt = 128,
        target_update_interval: PositiveInt = 128,
        double: bool = True,
        exploration_steps: NonNegativeInt = 10_000,
        exploration_end: UnitFloat = 0.04,
    ) -> None:
        super().__init__(spec, task, gamma=gamma, minibatch_size=minibatch_size, max_grad_norm=max_grad_norm)
        self.learning_starts, self.gradient_steps = learning_starts, gradient_steps
        self.target_update_interval = target_update_interval
        self.double_q = double  # not `double`, which is torch's way to float64
        self.exploration_steps, self.exploration_end = exploration_steps, exploration_end
        size, actions = spec.input_shape[0], task.num_outputs
        self.net = MLP(size, actions, width, depth, activation, last=1.0)
        self.value = MLP(size, actions, width, depth, activation, last=1.0)
        self.value.load_state_dict(self.net.state_dict())
        self.value.requires_grad_(False)
        self.replay = Replay(buffer_size)
        self.updates = 0

    @override
    def learner_state(self) -> dict[str, Any]:
        return {"updated": self.updates, "replay": self.replay.state_dict()}

    @override
    def load_learner_state(self, state: dict[str, Any]) -> None:
        self.updates = state["updated"]
        self.replay.load_state_dict(state["replay"])

    @property
    def exploration(self) -> float:
        """Current share of random actions, from 0 to 1."""
        if self.replay.seen < self.learning_starts:
            return 1.0
        done = min(1.0, self.replay.seen / self.exploration_steps) if self.exploration_steps else 1.0
        return 1.0 + done * (self.exploration_end - 1.0)

    def learn(self, envs: VectorEnv, count: int) -> UpdateStats:
        """Make `count` steps of all environments, then `gradient_steps` updates."""
        chances = [self._explore(envs) for _ in range(count)]
        torch.clear_autocast_cache()  # made without a gradient
        losses = []
        if self.replay.seen < self.learning_starts:
            self.update(None, last=True)
        else:
            for number in range(self.gradient_steps):
                loss = self.loss(self.replay.draw(self.minibatch_size, self.device))
                self.update(loss, last=number == self.gradient_steps - 1)
                losses.append(loss.detach())
                self.updates += 1
                if self.updates % self.target_update_interval == 0:
                    self.value.load_state_dict(self.net.state_dict())
        loss = torch.stack(losses).mean() if losses else torch.zeros((), device=self.device)
        return UpdateStats(loss, loss, torch.tensor(sum(chances) / count, device=self.device))

    @torch.no_grad()
    def _explore(self, envs: VectorEnv) -> float:
        chance, copies = self.exploration, len(envs.observation)
        best = self.act(envs.observation, ())
        other = torch.randint(self.task.num_outputs, (copies,))
        action = torch.where(torch.rand(copies) < chance, other, best)
        self.replay.keep(action, envs.step(action))
        return chance

    def loss(self, steps: Steps) -> Tensor:
        """Huber loss of the action values, a scalar."""
        worth = self(steps.observation).gather(1, steps.action.unsqueeze(1)).squeeze(1)
        with torch.no_grad():
            after = self.expected(steps.next)
            chosen = self(steps.next) if self.double_q else after
            follows = after.gather(1, chosen.argmax(1, keepdim=True)).squeeze(1)
            target = steps.reward + self.gamma * follows * ~steps.terminated
        if self.double_q:
            torch.clear_autocast_cache()
        return F.smooth_l1_loss(worth, target)


class Replay:
    """The latest steps, on the CPU.

    Attributes:
        seen: steps so far, those that were overwritten as well.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.seen = 0
        self._columns: Steps | None = None

    def keep(self, action: Tensor, moved: Moved) -> None:
        """Append one step of each of N environments."""
        new = Steps(moved.observation, action, moved.reward, moved.next, moved.terminated)
        if self._columns is None:
            self._columns = Steps(*(column.new_zeros(self.size, *column.shape[1:]) for column in new))
        places = (self.seen + torch.arange(len(action))) % self.size
        for column, values in zip(self._columns, new, strict=True):
            column[places] = values
        self.seen += len(action)

    def draw(self, count: int, device: torch.device) -> Steps:
        """Draw `count` steps uniformly, by torch's default generator."""
        assert self._columns is not None
        rows = torch.randint(min(self.seen, self.size), (count,))
        return Steps(*(column[rows].to(device) for column in self._columns))

    def state_dict(self) -> dict[str, Any]:
        """All steps that are kept: a checkpoint grows with them."""
        filled = min(self.seen, self.size)
        columns = None if self._columns is None else [column[:filled].clone() for column in self._columns]
        return {"seen": self.seen, "columns": columns}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` gave."""
        self.seen, saved = state["seen"], state["columns"]
        self._columns = None
        if saved is not None:
            self._columns = Steps(*(column.new_zeros(self.size, *column.shape[1:]) for column in saved))
            for column, values in zip(self._columns, saved, strict=True):
                column[: len(values)] = values[: self.size]
