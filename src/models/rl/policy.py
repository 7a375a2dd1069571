"""Policies that learn by acting: deep Q-learning and proximal policy optimisation.

DQN, Mnih et al. 2015 (Nature 518:529), with double Q-learning, van Hasselt et al. 2015 (arXiv:1509.06461); PPO,
Schulman et al. 2017 (arXiv:1707.06347), with generalised advantages, Schulman et al. 2015 (arXiv:1506.02438).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from src.errors import UserError
from src.models.base import Model, Stage
from src.models.components.layers import ACTIVATIONS, Activation
from src.models.rl.dqn import DQN
from src.models.rl.ppo import PPO
from src.rl import environments
from src.rl.environments import Vector
from src.runtime.stateless_random import mix
from src.spec import DataSpec, EnvironmentSpec
from src.tasks import Task
from src.tasks.base import StepOutput

_ACTING = 12  # keeps the seeds of training episodes apart from others drawn from the same one
LEARNERS = {"ppo": PPO, "dqn": DQN}


class Policy(Model):
    """A net that gives each action a number, and acts in an environment to find out which are worth how much.

    A batch is one step of training, counted once: so many steps of the environment as it has rows, then all that is
    learned from them. Each epoch begins new episodes from (seed, epoch). What a run has to know to go on in the middle
    of one are the actions so far, which are taken again, and, of dqn, the replay buffer: both lie in `last.ckpt`.

    Evaluation plays an episode for each row, from its seed, and takes the action with the largest number.

    Args:
        spec: what the data is; input (F,), what is seen of the environment.
        task: judges episodes.
        algorithm: ppo, which learns from each step a few times and then forgets it, or dqn, which keeps steps.
        width, depth: units and number of the hidden layers of each net.
        activation: between them.
        discount: of a reward one step later.
        minibatch_size: steps that one update of the weights is learned from.
        max_gradient_norm: to which gradients are clipped; 0: as they are.
        gae_lambda, clip, passes, value_weight, entropy_weight: see `PPO`.
        buffer_size, warmup, updates, target_every, double, exploration_steps, exploration_end: see `DQN`.
    """

    inputs = (EnvironmentSpec,)
    tasks = ("control",)
    heads = ("net.head.", "value.head.")

    def __init__(
        self,
        spec: DataSpec,
        task: Task,
        *,
        algorithm: Literal["ppo", "dqn"] = "ppo",
        width: int = 64,
        depth: int = 2,
        activation: Activation = "tanh",
        discount: float = 0.99,
        minibatch_size: int = 128,
        max_gradient_norm: float = 0.5,
        gae_lambda: float = 0.95,
        clip: float = 0.2,
        passes: int = 10,
        value_weight: float = 0.5,
        entropy_weight: float = 0.0,
        buffer_size: int = 50_000,
        warmup: int = 1000,
        updates: int = 128,
        target_every: int = 128,
        double: bool = True,
        exploration_steps: int = 10_000,
        exploration_end: float = 0.04,
    ) -> None:
        super().__init__(spec, task)
        given = dict(locals())
        for option in ("width", "minibatch_size", "passes", "buffer_size", "updates", "target_every"):
            if given[option] < 1:
                raise UserError(f"model.{option}={given[option]} must be at least 1")
        for option in ("depth", "max_gradient_norm", "value_weight", "entropy_weight", "warmup", "exploration_steps"):
            if given[option] < 0:
                raise UserError(f"model.{option}={given[option]} must be at least 0")
        for option in ("discount", "gae_lambda", "clip", "exploration_end"):
            if not 0 <= given[option] <= 1:
                raise UserError(f"model.{option}={given[option]}: from 0 to 1")
        if algorithm not in LEARNERS:
            raise UserError(f"model.algorithm={algorithm}: {' or '.join(LEARNERS)}")
        self.automatic_optimization = False
        self.algorithm, self.discount, self.max_gradient_norm = algorithm, discount, max_gradient_norm
        size, actions = spec.input_shape[0], task.num_outputs
        self.net = Net(size, actions, width, depth, activation, last=0.01 if algorithm == "ppo" else 1.0)
        # what is expected: of ppo the return from here on, of dqn an older state of the net itself
        self.value = Net(size, 1 if algorithm == "ppo" else actions, width, depth, activation, last=1.0)
        if algorithm == "dqn":
            self.value.load_state_dict(self.net.state_dict())
            self.value.requires_grad_(False)
        names = LEARNERS[algorithm].options
        self.learner = LEARNERS[algorithm](minibatch_size, **{name: given[name] for name in names})
        self._vector: Vector | None = None
        self._seed = 0  # of the episodes under way
        self._saved: dict[str, Any] | None = None

    def compile(self, *args: Any, **options: Any) -> None:
        for part in (self.net, self.value):
            part.compile(*args, **options)

    def normalize(self, x: Tensor) -> Tensor:
        return x.to(self.net.head.weight.dtype)

    def forward(self, x: Tensor) -> Tensor:
        """What is seen (B, F) to a number for each action (B, A)."""
        numbers = self.net(self.normalize(x))
        return numbers.to(torch.promote_types(numbers.dtype, torch.float32))

    def outputs(self, batch: Mapping[str, Tensor]) -> Tensor:
        """Numbers of the actions; in training beside them what is expected, as far as it is learned."""
        numbers = self(batch["input"])
        return torch.cat([numbers, self.expected(batch["input"])], 1) if self.training else numbers

    def expected(self, x: Tensor) -> Tensor:
        """Of what is seen (B, F), the return (B, 1), or, of dqn, that after each action (B, A)."""
        numbers = self.value(self.normalize(x))
        return numbers.to(torch.promote_types(numbers.dtype, torch.float32))

    # acting ----------------------------------------------------------------------------------------------------------

    def act(self, observations: Tensor, going: Sequence[int]) -> Tensor:
        """The best actions (B,), on the CPU; see `environments.play`."""
        return self(observations.to(self.device)).argmax(1).cpu()

    @torch.no_grad()
    def step_output(self, batch: Mapping[str, Tensor], with_reference: bool = True) -> StepOutput:
        """Return and length of the episodes that a batch names and, as a reference, of those of chance."""
        seeds, options = batch["seed"].tolist(), self._options
        played = environments.play(*options, seeds, self.act).to(self.device)
        reference = None
        if with_reference:
            chance = environments.at_random(self.task.num_outputs, seeds)
            reference = environments.play(*options, seeds, chance).to(self.device)
        return StepOutput(-played[:, 0].mean(), played, batch["seed"], reference)

    @property
    def _options(self) -> tuple[str, int]:
        return self.spec.input.id, self.spec.input.max_steps

    def step(self, batch: Mapping[str, Tensor], stage: Stage) -> Tensor:
        step_output = self.step_output(batch, with_reference=stage == "test")
        self.metrics[stage].append(step_output)
        return step_output.loss

    # learning --------------------------------------------------------------------------------------------------------

    def training_step(self, batch: Mapping[str, Tensor], batch_idx: int) -> Tensor:
        rows = batch["index"]
        vector = self._under_way(begins=int(rows[0]) == 0)
        learned = self.learner.learn(self, vector, -(-len(rows) // self.spec.input.copies))
        for schedule in self.trainer.lr_scheduler_configs:
            schedule.scheduler.step()
        figures = torch.stack([learned.value_loss, learned.exploration]).float().to(self.device)
        told = torch.cat([vector.tally().to(self.device), figures]).unsqueeze(0)
        count = torch.tensor([len(rows)], device=self.device)
        self.metrics["train"].append(StepOutput(learned.loss, told, count, weight=count[0]))
        return learned.loss

    def _under_way(self, *, begins: bool) -> Vector:
        """The environments in the state in which the last step left them; at the beginning of an epoch new episodes."""
        if self._vector is None:
            self._vector = Vector(*self._options, self.spec.input.copies)
            if not begins and self._saved is not None:
                self._seed = self._saved["seed"]
                self._vector.begin(self._seed, self._saved["actions"])
            self._saved = None
        if begins:
            self._seed = mix(self.config.get("seed", 0), _ACTING, self.trainer.current_epoch) >> 1
            self._vector.begin(self._seed)
        return self._vector

    def descend(self, loss: Tensor | None, *, last: bool) -> None:
        """One update of the weights, by the loss of a minibatch; the last one of a step of training is counted."""
        optimizer = self.optimizers()
        optimizer.zero_grad()
        if loss is not None:
            self.manual_backward(loss)
            if self.max_gradient_norm:
                nn.utils.clip_grad_norm_([p for p in self.parameters() if p.grad is not None], self.max_gradient_norm)
        # torch's own step: Lightning counts those of its wrapper, and a batch is one step
        (optimizer if last else optimizer.optimizer).step()
        torch.clear_autocast_cache()  # of the weights as they were

    # checkpoints -----------------------------------------------------------------------------------------------------

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_save_checkpoint(checkpoint)
        under_way = {} if self._vector is None else {"seed": self._seed, "actions": self._vector.actions}
        checkpoint["labbook"]["policy"] = under_way | {"learner": self.learner.state_dict()}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_load_checkpoint(checkpoint)
        saved = checkpoint["labbook"]["policy"]
        self._vector, self._saved = None, saved if "actions" in saved else None
        self.learner.load_state_dict(saved["learner"])


class Net(nn.Module):
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
        return self.head(self.body(x))
