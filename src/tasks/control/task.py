"""Control: what a policy earns in episodes that it plays to their end, beside one that acts at random."""

from __future__ import annotations

from typing import Any

import torchmetrics as tm
from torch import Tensor
from typing_extensions import override

from src.metrics.episodes import Deviation, Ended, Mean
from src.metrics.modes import modes
from src.spec import DataSpec
from src.tasks.base import Loss, Named, Task
from src.tasks.control.view import EpisodeView
from src.tasks.registry import register_task


@register_task("control")
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

    answer_per_row = False
    monitor = "return"
    metric_modes = modes("loss", "return", "return_std", "length")
    view_class = EpisodeView

    def __init__(self, spec: DataSpec, loss: Loss | None = None) -> None:
        super().__init__(spec, loss)
        self.num_outputs = spec.num_classes

    @override
    def prediction(self, outputs: Tensor) -> Tensor:
        return outputs

    def predict(self, outputs: Tensor) -> Tensor:
        """The number of the action (B,) of outputs (B, A)."""
        return outputs.argmax(-1)

    @override
    def columns(self, predictions: Tensor) -> dict[str, list[Any]]:
        return {"action": [self.spec.class_names[action] for action in predictions.tolist()]}

    @override
    def metrics(self) -> tm.MetricCollection:
        kinds: Named = {"return": Mean(0), "return_std": Deviation(0), "length": Mean(1)}
        return tm.MetricCollection(kinds, compute_groups=False)

    @override
    def training_metrics(self) -> tm.MetricCollection:
        kinds: Named = {"return": Ended(0), "length": Ended(1), "value_loss": Mean(5), "exploration": Mean(6)}
        return tm.MetricCollection(kinds, compute_groups=False)

    @override
    def baseline(self, target: Tensor, reference: Tensor | None = None) -> Tensor:
        """Return and length (N, 2) of episodes in which the actions are drawn at random: the reference itself."""
        assert reference is not None
        return reference
