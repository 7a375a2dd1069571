"""Agent: base of the models that learn by acting in an environment, whatever the algorithm."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from typing_extensions import override

from src.models.base import Model, Stage
from src.models.components.layers import ACTIVATIONS, Activation
from src.rl import environments
from src.rl.environments import VectorEnv
from src.runtime.stateless_random import mix
from src.spec import DataSpec, EnvironmentSpec
from src.tasks import Task
from src.tasks.base import StepOutput

_ACTING = 12  # keeps the seeds of training episodes apart from others drawn from the same one


class UpdateStats(NamedTuple):
    """Statistics of one training step, scalars without a gradient.

    Attributes:
        loss: mean over the updates of the weights; 0 where there was none.
        value_loss: the error of the expected return.
        exploration: share of random actions, or entropy as a share of its maximum, from 0 to 1.
    """

    loss: Tensor
    value_loss: Tensor
    exploration: Tensor


class Agent(Model):
    """A net that gives each action a number, and acts in an environment to find out which are worth how much.

    A batch is one step of training, counted once: so many steps of the environment as it has rows, then all that is
    learned from them. Each epoch begins new episodes from (seed, epoch). A run that goes on in the middle of an epoch
    takes the actions so far again; they lie in `last.ckpt` beside the algorithm's own state (`learner_state`).

    Evaluation plays an episode for each row, from its seed, and takes the action with the largest number.

    An algorithm builds `net` (an action's number) and `value` (the expected return), and defines `learn`.

    Args:
        spec: what the data is; input (F,), what is seen of the environment.
        task: evaluates episodes.
        gamma: discount of a reward one step later.
        minibatch_size: steps that one update of the weights is learned from.
        max_grad_norm: to which gradients are clipped; 0: as they are.
    """

    inputs = (EnvironmentSpec,)
    tasks = ("control",)
    heads = ("net.head.", "value.head.")
    owns_training_step = True

    net: MLP
    value: MLP

    def __init__(self, spec: DataSpec, task: Task, *, gamma: float, minibatch_size: int, max_grad_norm: float) -> None:
        super().__init__(spec, task)
        self.gamma, self.minibatch_size, self.max_grad_norm = gamma, minibatch_size, max_grad_norm
        self._envs: VectorEnv | None = None
        self._seed = 0  # of the episodes under way
        self._saved: dict[str, Any] | None = None

    def learn(self, envs: VectorEnv, count: int) -> UpdateStats:
        """Make `count` steps of all environments and learn from them, by calls of `update`."""
        raise NotImplementedError

    def learner_state(self) -> dict[str, Any]:
        """State of the algorithm beside the weights, as plain data: a run resumed within an epoch needs it."""
        return {}

    def load_learner_state(self, state: dict[str, Any]) -> None:
        """Restore what `learner_state` gave."""

    @override
    def compile(self, *args: object, **options: object) -> None:
        for part in (self.net, self.value):
            part.compile(*args, **options)

    @override
    def normalize(self, x: Tensor) -> Tensor:
        return x.to(self.net.head.weight.dtype)

    def forward(self, x: Tensor) -> Tensor:
        """Observations (B, F) to a number for each action (B, A)."""
        numbers = self.net(self.normalize(x))
        return numbers.to(torch.promote_types(numbers.dtype, torch.float32))

    def outputs(self, batch: Mapping[str, Tensor]) -> Tensor:
        """Numbers of the actions (B, A); in training with the expected return beside them."""
        numbers = self(batch["input"])
        return torch.cat([numbers, self.expected(batch["input"])], 1) if self.training else numbers

    def expected(self, x: Tensor) -> Tensor:
        """Expected return (B, 1) of observations (B, F); where `value` has one for each action, (B, A)."""
        numbers = self.value(self.normalize(x))
        return numbers.to(torch.promote_types(numbers.dtype, torch.float32))

    # acting ----------------------------------------------------------------------------------------------------------

    def act(self, observations: Tensor, going: Sequence[int]) -> Tensor:
        """The best actions (B,), on the CPU; see `environments.play`."""
        return self(observations.to(self.device)).argmax(1).cpu()

    @override
    @torch.no_grad()
    def step_output(self, batch: Mapping[str, Tensor], stage: Stage) -> StepOutput:
        """Return and length of the episodes that a batch names and, as a reference, of random actions in them."""
        seeds, options = batch["seed"].tolist(), self._options
        played = environments.play(*options, seeds, self.act).to(self.device)
        reference = None
        if stage == "test":
            chance = environments.at_random(self.task.num_outputs, seeds)
            reference = environments.play(*options, seeds, chance).to(self.device)
        return StepOutput(-played[:, 0].mean(), played, batch["seed"], reference)

    @property
    def _options(self) -> tuple[str, int]:
        environment = self.spec.input_as(EnvironmentSpec)
        return environment.id, environment.max_steps

    # learning --------------------------------------------------------------------------------------------------------

    @override
    def training_step(self, batch: Mapping[str, Tensor], batch_idx: int) -> Tensor:
        rows = batch["index"]
        envs = self._under_way(begins=int(rows[0]) == 0)
        stats = self.learn(envs, -(-len(rows) // self.spec.input_as(EnvironmentSpec).copies))
        for schedule in self.trainer.lr_scheduler_configs:
            schedule.scheduler.step()  # type: ignore[call-arg]  # a plateau is stepped by Model
        learning = torch.stack([stats.value_loss, stats.exploration]).float().to(self.device)
        outputs = torch.cat([envs.tally().to(self.device), learning]).unsqueeze(0)
        count = torch.tensor([len(rows)], device=self.device)
        self.metrics["train"].append(StepOutput(stats.loss, outputs, count, weight=count[0]))
        return stats.loss

    def _under_way(self, *, begins: bool) -> VectorEnv:
        """The environments in the state in which the last step left them; at the beginning of an epoch new episodes."""
        if self._envs is None:
            self._envs = VectorEnv(*self._options, self.spec.input_as(EnvironmentSpec).copies)
            if not begins and self._saved is not None:
                self._seed = self._saved["seed"]
                self._envs.begin(self._seed, self._saved["actions"])
            self._saved = None
        if begins:
            self._seed = mix(self.config.get("seed", 0), _ACTING, self.trainer.current_epoch) >> 1
            self._envs.begin(self._seed)
        return self._envs

    def update(self, loss: Tensor | None, *, last: bool) -> None:
        """Update the weights once by the loss of a minibatch; the last update of a step of training is counted."""
        optimizer: Any = self.optimizers()  # the only one
        optimizer.zero_grad()
        if loss is not None:
            self.manual_backward(loss)
            if self.max_grad_norm:
                nn.utils.clip_grad_norm_([p for p in self.parameters() if p.grad is not None], self.max_grad_norm)
        # torch's own step: Lightning counts those of its wrapper, and a batch is one step
        (optimizer if last else optimizer.optimizer).step()
        torch.clear_autocast_cache()  # of the weights as they were

    # checkpoints -----------------------------------------------------------------------------------------------------

    @override
    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_save_checkpoint(checkpoint)
        under_way = {} if self._envs is None else {"seed": self._seed, "actions": self._envs.actions}
        checkpoint["labbook"]["policy"] = under_way | {"learner": self.learner_state()}

    @override
    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_load_checkpoint(checkpoint)
        saved = checkpoint["labbook"]["policy"]
        self._envs, self._saved = None, saved if "actions" in saved else None
        self.load_learner_state(saved["learner"])


class MLP(nn.Module):
    """Linear layers with an activation between them; (B, F) to (B, outputs).

    Weights are orthogonal (Saxe et al. 2013, arXiv:1312.6120), those of the head `last` times as large: a policy that
    begins near chance has seen more before it makes up its mind.
    """

    def __init__(self, size: int, outputs: int, width: int, depth: int, activation: Activation, last: float) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for _ in range(depth):
            layers += [nn.Linear(size, width), ACTIVATIONS[activation]()]
            size = width
        self.body = nn.Sequential(*layers)
        self.head = nn.Linear(size, outputs)
        for layer in [*self.body, self.head]:
            if isinstance(layer, nn.Linear):
                nn.init.orthogonal_(layer.weight, last if layer is self.head else 2**0.5)
                nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Observations (B, F) to (B, outputs)."""
        return self.head(self.body(x))
