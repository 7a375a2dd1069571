"""Registry of tasks, and the task of a config for a dataset and a model."""

from __future__ import annotations

from functools import partial
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from src.errors import UserError, suggest
from src.spec import DataSpec
from src.tasks.base import Loss, Task
from src.tasks.control.task import Control
from src.tasks.detection.task import Detection
from src.tasks.forecasting.task import Forecasting
from src.tasks.generation.task import Generation
from src.tasks.language.task import CausalLM, MaskedLM
from src.tasks.losses import (
    RANKING_LOSSES,
    arcface,
    bernoulli_nll,
    focal_binary,
    focal_cross_entropy,
    gaussian_nll,
    supcon,
)
from src.tasks.question_answering.task import QuestionAnswering
from src.tasks.recommendation.task import Ranking, Rating
from src.tasks.reconstruction.task import Density, Reconstruction
from src.tasks.seq2seq.task import Seq2Seq
from src.tasks.supervised.task import Binary, Classification, Regression
from src.tasks.verification.task import Verification, check_options

TaskName = Literal[
    "auto",
    "classification",
    "binary",
    "regression",
    "forecasting",
    "causal_lm",
    "masked_lm",
    "seq2seq",
    "question_answering",
    "reconstruction",
    "density",
    "generation",
    "detection",
    "control",
    "verification",
    "rating",
    "ranking",
]


LossName = Literal[
    "cross_entropy", "focal", "mse", "l1", "huber", "bce", "bernoulli", "gaussian", "arcface", "supcon", "bpr"
]


TASKS: dict[str, type[Task]] = {
    "classification": Classification,
    "binary": Binary,
    "regression": Regression,
    "forecasting": Forecasting,
    "causal_lm": CausalLM,
    "masked_lm": MaskedLM,
    "seq2seq": Seq2Seq,
    "question_answering": QuestionAnswering,
    "reconstruction": Reconstruction,
    "density": Density,
    "generation": Generation,
    "detection": Detection,
    "control": Control,
    "verification": Verification,
    "rating": Rating,
    "ranking": Ranking,
}


for _name, _kind in TASKS.items():
    _kind.name = _name


def make_task(
    spec: DataSpec,
    supported: tuple[str, ...],
    *,
    name: TaskName = "auto",
    loss: LossName | None = None,
    label_smoothing: float = 0.0,
    class_weights: str | list[float] | None = None,
    focal_gamma: float = 2.0,
    huber_delta: float = 1.0,
    mask_fraction: float = 0.15,
    margin: float = 0.3,
    scale: float = 16.0,
    temperature: float = 0.1,
    negatives: int = 0,
    monitor: str | None = None,
) -> Task:
    """The first task that both the data offers and the model supports, or the one asked for.

    Args:
        spec: what the data is.
        supported: tasks that the model can serve.
        name: a task, or `auto`.
        loss: one of the task's losses; null is its usual one.
        label_smoothing: for cross_entropy, mass spread over the other classes.
        class_weights: `balanced` (inverse frequency in the training split, mean 1), or one number a class.
        focal_gamma: for focal, how strongly easy examples are played down.
        huber_delta: for huber, where it turns from square to straight, in standard units.
        mask_fraction: for masked_lm, share of the tokens to be guessed.
        margin: for arcface, radians that an embedding has to be nearer to its class.
        scale: for arcface, what the cosines are multiplied by.
        temperature: for supcon, what the cosines are divided by; the loss of held-out pairs is this one too.
        negatives: for ranking, items drawn against the one taken; 0: all of the catalogue.
        monitor: validation metric that picks the best checkpoint, stops early and is the objective; null is the
            task's own.

    Raises:
        UserError: no common task, a loss or a metric that the task does not have, weights that do not fit the classes.
    """
    common = [task for task in spec.tasks if task in supported]
    if name == "auto" and not common:
        raise UserError(f"data={spec.name} offers {', '.join(spec.tasks)}; the model serves {', '.join(supported)}")
    if name != "auto" and name not in common:
        raise UserError(f"task={name} does not fit data={spec.name} and this model{suggest(name, common)}")
    kind = TASKS[common[0] if name == "auto" else name]
    if loss and not kind.losses:
        raise UserError(f"task.loss={loss}: the loss of {kind.name} is the model's own")
    chosen = loss or kind.default_loss(spec)
    if chosen not in kind.losses and kind.losses:
        raise UserError(f"task.loss={chosen} is no loss of this task{suggest(chosen, kind.losses)}")
    if label_smoothing and chosen != "cross_entropy":
        raise UserError(f"task.label_smoothing is for cross_entropy, not for task.loss={chosen}")
    if label_smoothing and kind is QuestionAnswering:
        raise UserError("task.label_smoothing does not go with question_answering: where no answer can be is certain")
    if label_smoothing and kind is Ranking:
        raise UserError("task.label_smoothing does not go with ranking")
    if negatives and kind is not Ranking:
        raise UserError(f"task.negatives is for ranking, not for {kind.name}")
    if not 0 <= label_smoothing < 1:
        raise UserError(f"task.label_smoothing={label_smoothing}: a number from 0 up to 1")
    functions: dict[str, Loss] = {
        "cross_entropy": partial(F.cross_entropy, label_smoothing=label_smoothing),
        "focal": partial(focal_binary if kind is Binary else focal_cross_entropy, gamma=focal_gamma),
        "bce": F.binary_cross_entropy_with_logits,
        "mse": F.mse_loss,
        "l1": F.l1_loss,
        "huber": partial(F.huber_loss, delta=huber_delta),
        "bernoulli": bernoulli_nll,
        "gaussian": gaussian_nll,
        "arcface": partial(arcface, margin=margin, scale=scale),
        "supcon": partial(supcon, temperature=temperature),
    }
    weights = None if class_weights is None else _class_weights(spec, kind, class_weights)
    functions |= RANKING_LOSSES if kind is Ranking else {}
    options = {MaskedLM: {"mask_fraction": mask_fraction}, Ranking: {"negatives": negatives}}.get(kind, {})
    if kind is Verification:
        check_options(margin, scale, temperature)
        options = {"temperature": temperature}
    task = kind(spec, functions.get(chosen), weights, **options)
    if monitor is not None and monitor not in task.metric_modes:
        raise UserError(f"task.monitor={monitor} is no metric of {kind.name} (known: {', '.join(task.metric_modes)})")
    task.monitor = monitor or kind.monitor
    return task


def _class_weights(spec: DataSpec, kind: type[Task], wanted: str | list[float]) -> Tensor:
    if not issubclass(kind, Classification | Binary):
        raise UserError(f"task.class_weights is for classes; the task is {kind.name}")
    if wanted == "balanced":
        counts = torch.tensor(spec.class_counts, dtype=torch.float32).clamp(min=1)
        return counts.sum() / (len(counts) * counts)
    if isinstance(wanted, str):
        raise UserError(f"task.class_weights={wanted}: null, balanced, or a list of {spec.num_classes} numbers")
    if len(wanted) != spec.num_classes:
        raise UserError(
            f"task.class_weights has {len(wanted)} numbers, data={spec.name} has {spec.num_classes} classes"
        )
    return torch.tensor(wanted, dtype=torch.float32)
