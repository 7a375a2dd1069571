"""Scores that are explained: that of what a model predicted, as it falls when the input loses parts."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from src.spec import ImageSpec, InputSpec, InteractionsSpec, SeriesSpec, TableSpec, TextSpec
from src.tasks.abilities import EmbedsTokens, ExplainsInPart

_ROWS: tuple[type[InputSpec], ...] = (TableSpec, ImageSpec, TextSpec, SeriesSpec)
EXPLAINED = {
    "classification": _ROWS,
    "binary": _ROWS,
    "regression": _ROWS,
    "forecasting": (SeriesSpec,),
    "detection": (ImageSpec,),
    "ranking": (InteractionsSpec,),
}
NUMERIC = ("regression", "forecasting")  # what is predicted is a number


def incompatibility(model: Any) -> str | None:
    """Why a model's predictions cannot be explained, or None where they can."""
    spec, task, family = model.spec, model.task.name, type(model).__name__
    if not isinstance(spec.input, EXPLAINED.get(task, ())):
        of = f"{task} on {spec.modality} data"
        return f"explain=true: attributions are of a class, a number, a box or a list, not of {of}"
    if isinstance(spec.input, TextSpec) and not isinstance(model, EmbedsTokens):
        return f"explain=true: {family} has no embedding of tokens to attribute to"
    problem = model.explanation_problem() if isinstance(model, ExplainsInPart) else None
    return problem and f"explain=true: {problem}"


def predicted(model: Any, x: Tensor) -> Tensor:
    """Index of what is explained (B,): the likeliest class; 0 of numbers; the number among all places and classes of
    the surest box; the first item of the list, without those that the user took.
    """
    task = model.task
    with torch.no_grad():
        outputs = model.forward(x)
    if task.name == "classification":
        return outputs.argmax(1)
    if task.name == "binary":
        return (outputs.squeeze(1) > 0).long()
    if task.name == "detection":
        return _box_logits(model, outputs).argmax(1)
    if task.name == "ranking":
        return outputs.masked_fill(task.left_out(x), float("-inf")).argmax(1)
    return torch.zeros(len(x), dtype=torch.long, device=x.device)


def score(model: Any, x: Tensor, chosen: Tensor) -> Tensor:
    """Output (B,) for what was chosen, a logit; of numbers, the mean of all that are predicted."""
    # not model(x): a compiled graph would not run the hooks of its layers
    outputs, task = model.forward(x).float(), model.task.name
    if task == "binary":
        return outputs.squeeze(1) * (2 * chosen - 1)
    if task in NUMERIC:
        return outputs.flatten(1).mean(1)
    if task == "detection":
        outputs = _box_logits(model, outputs)
    return outputs.gather(1, chosen.unsqueeze(1)).squeeze(1)


def confidence(model: Any, x: Tensor, chosen: Tensor) -> Tensor:
    """Probability (B,) of what was chosen, or the predicted number in standard units."""
    task = model.task.name
    if task == "classification":
        return model.task.predict(model.forward(x)).gather(1, chosen.unsqueeze(1)).squeeze(1)
    if task == "ranking":
        return model.forward(x).float().softmax(1).gather(1, chosen.unsqueeze(1)).squeeze(1)
    found = score(model, x, chosen)
    return found if task in NUMERIC else found.sigmoid()


def _box_logits(model: Any, outputs: Tensor) -> Tensor:
    """Logits of each place and class (B, L * C), from dense outputs as src/tasks/detection/task.py has them."""
    return outputs[..., -model.spec.num_classes :].flatten(1)
