"""Control: what a policy earns in episodes that it plays to their end, beside one that acts at random."""

from __future__ import annotations

from typing import Any

import torch
import torchmetrics as tm
from torch import Tensor

from src.directions import directions
from src.spec import DataSpec
from src.tasks.base import Loss, Task


class Control(Task):
    """Acting in an environment so as to earn as much as can be earned; the loss is the model's own.

    The net's outputs are a number for each action (B, A), the largest of which is taken. In evaluation the judged
    outputs are return and length of an episode (B, 2), for each seed (B,); beside them stand those of a policy that
    acts at random.

    - loss: the mean return with its sign turned.
    - return: mean over episodes of the sum of all rewards, not discounted.
    - return_std: standard deviation of the episodes' returns.
    - length: mean steps of an episode.

    In training these are the episodes that ended in the epoch, in which actions are tried out, with `value_loss`, the
    error of what was expected, and `exploration`, the share of chance: of dqn the probability of a random action, of
    ppo the policy's entropy over that of an even one.
    """

    monitor = "return"
    directions = directions("loss", "return", "return_std", "length")

    def __init__(self, spec: DataSpec, loss: Loss | None, class_weights: Tensor | None = None) -> None:
        super().__init__(spec, loss, class_weights)
        self.num_outputs = spec.num_classes

    def prediction(self, outputs: Tensor) -> Tensor:
        return outputs

    def predict(self, outputs: Tensor) -> Tensor:
        """The number of the action (B,) of outputs (B, A)."""
        return outputs.argmax(-1)

    def columns(self, predictions: Tensor) -> dict[str, list[Any]]:
        return {"action": [self.spec.class_names[action] for action in predictions.tolist()]}

    def metrics(self) -> tm.MetricCollection:
        kinds = {"return": Mean(0), "return_std": Deviation(0), "length": Mean(1)}
        return tm.MetricCollection(kinds, compute_groups=False)

    def training_metrics(self) -> tm.MetricCollection:
        kinds = {"return": Ended(0), "length": Ended(1), "value_loss": Mean(5), "exploration": Mean(6)}
        return tm.MetricCollection(kinds, compute_groups=False)

    def baseline(self, target: Tensor, reference: Tensor | None = None) -> Tensor:
        assert reference is not None
        return reference


class OfRows(tm.Metric):
    """A figure of all rows (N, K) of an epoch, which are few: kept, and put together on the CPU in double precision."""

    full_state_update = False

    def __init__(self, place: int) -> None:
        super().__init__()
        self.place = place
        self.add_state("rows", default=[], dist_reduce_fx="cat")

    def update(self, prediction: Tensor, target: Tensor) -> None:
        self.rows.append(prediction)

    def compute(self) -> Tensor:
        return self.of(torch.cat(list(self.rows)).cpu().double())

    def of(self, rows: Tensor) -> Tensor:
        raise NotImplementedError(f"{type(self).__name__}.of")


class Mean(OfRows):
    def of(self, rows: Tensor) -> Tensor:
        return rows[:, self.place].mean()


class Deviation(OfRows):
    """Standard deviation, of all rows as a population: 0 of a single one."""

    def of(self, rows: Tensor) -> Tensor:
        return rows[:, self.place].std(correction=0)


class Ended(OfRows):
    """Mean over the episodes that ended in training; while none did, over those that go on.

    A row is a step of training: returns and lengths, each summed over the episodes that ended in it, and how many
    these were; then the rewards and steps of one copy of the environment, on average.
    """

    def of(self, rows: Tensor) -> Tensor:
        total, count, going = rows[:, self.place].sum(), rows[:, 2].sum(), rows[:, 3 + self.place].sum()
        return total / count if count else going
