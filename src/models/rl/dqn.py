"""Deep Q-learning (Mnih et al. 2015, Nature 518:529), by default double (van Hasselt et al. 2015, arXiv:1509.06461)."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from src.models.rl.update_stats import Learned
from src.rl.environments import Moved, Vector


class Steps(NamedTuple):
    """Steps that were made at any time, (N, ...) or (N,) each."""

    observation: Tensor
    action: Tensor
    reward: Tensor
    next: Tensor
    terminated: Tensor


class DQN:
    """Acts with a share of chance, keeps the steps, and learns from steps drawn among them what an action is worth.

    Args:
        minibatch_size: steps of an update.
        discount: of a reward one step later.
        buffer_size: steps that are kept; the oldest make room.
        warmup: steps that are made by chance before the first update.
        updates: of the weights, after the steps of each batch.
        target_every: updates after which the net that says what follows is brought up to date.
        double: the action is chosen by one net and valued by the other, so that chance is not taken for worth.
        exploration_steps: over which the share of chance falls from 1 to its end.
        exploration_end: that share from then on.
    """

    options = (
        *("discount", "buffer_size", "warmup", "updates", "target_every", "double"),
        *("exploration_steps", "exploration_end"),
    )

    def __init__(
        self,
        minibatch_size: int,
        *,
        discount: float,
        buffer_size: int,
        warmup: int,
        updates: int,
        target_every: int,
        double: bool,
        exploration_steps: int,
        exploration_end: float,
    ) -> None:
        self.minibatch_size, self.discount = minibatch_size, discount
        self.warmup, self.updates, self.target_every, self.double = warmup, updates, target_every, double
        self.exploration_steps, self.exploration_end = exploration_steps, exploration_end
        self.replay = Replay(buffer_size)
        self.updated = 0

    def state_dict(self) -> dict[str, Any]:
        return {"updated": self.updated, "replay": self.replay.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.updated = state["updated"]
        self.replay.load_state_dict(state["replay"])

    @property
    def exploration(self) -> float:
        """The share of chance by now."""
        if self.replay.seen < self.warmup:
            return 1.0
        done = min(1.0, self.replay.seen / self.exploration_steps) if self.exploration_steps else 1.0
        return 1.0 + done * (self.exploration_end - 1.0)

    def learn(self, policy: Any, vector: Vector, count: int) -> Learned:
        """Makes `count` steps of all environments, then so many updates."""
        chances = [self._act(policy, vector) for _ in range(count)]
        torch.clear_autocast_cache()  # made without a gradient
        losses = []
        if self.replay.seen < self.warmup:
            policy.descend(None, last=True)
        else:
            for number in range(self.updates):
                loss = self.loss(policy, self.replay.draw(self.minibatch_size, policy.device))
                policy.descend(loss, last=number == self.updates - 1)
                losses.append(loss.detach())
                self.updated += 1
                if self.updated % self.target_every == 0:
                    policy.value.load_state_dict(policy.net.state_dict())
        loss = torch.stack(losses).mean() if losses else torch.zeros((), device=policy.device)
        return Learned(loss, loss, torch.tensor(sum(chances) / count, device=policy.device))

    @torch.no_grad()
    def _act(self, policy: Any, vector: Vector) -> float:
        chance, copies = self.exploration, len(vector.observation)
        best = policy.act(vector.observation, ())
        other = torch.randint(policy.task.num_outputs, (copies,))
        action = torch.where(torch.rand(copies) < chance, other, best)
        self.replay.keep(action, vector.step(action))
        return chance

    def loss(self, policy: Any, steps: Steps) -> Tensor:
        """Huber loss of what actions are worth, a scalar."""
        worth = policy(steps.observation).gather(1, steps.action.unsqueeze(1)).squeeze(1)
        with torch.no_grad():
            after = policy.expected(steps.next)
            chosen = policy(steps.next) if self.double else after
            follows = after.gather(1, chosen.argmax(1, keepdim=True)).squeeze(1)
            target = steps.reward + self.discount * follows * ~steps.terminated
        if self.double:
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
        """One step of each of N environments."""
        new = Steps(moved.observation, action, moved.reward, moved.next, moved.terminated)
        if self._columns is None:
            self._columns = Steps(*(column.new_zeros(self.size, *column.shape[1:]) for column in new))
        places = (self.seen + torch.arange(len(action))) % self.size
        for column, values in zip(self._columns, new, strict=True):
            column[places] = values
        self.seen += len(action)

    def draw(self, count: int, device: torch.device) -> Steps:
        """So many of them, each as likely as another, by torch's default generator."""
        assert self._columns is not None
        rows = torch.randint(min(self.seen, self.size), (count,))
        return Steps(*(column[rows].to(device) for column in self._columns))

    def state_dict(self) -> dict[str, Any]:
        """All steps that are kept: a checkpoint grows with them."""
        filled = min(self.seen, self.size)
        columns = None if self._columns is None else [column[:filled].clone() for column in self._columns]
        return {"seen": self.seen, "columns": columns}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.seen, saved = state["seen"], state["columns"]
        self._columns = None
        if saved is not None:
            self._columns = Steps(*(column.new_zeros(self.size, *column.shape[1:]) for column in saved))
            for column, values in zip(self._columns, saved, strict=True):
                column[: len(values)] = values[: self.size]
