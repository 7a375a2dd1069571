"""Scores that are explained: that of what a model predicted, as it falls when the input loses parts."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from src.spec import ImageSpec, InteractionsSpec, SeriesSpec, TableSpec, TextSpec
from src.tasks.abilities import EmbedsTokens, ExplainsInPart

INPUTS = (TableSpec, ImageSpec, TextSpec, SeriesSpec, InteractionsSpec)  # whose cells can be removed


def incompatibility(model: Any) -> str | None:
    """Why a model's predictions cannot be explained, or None where they can."""
    spec, family = model.spec, type(model).__name__
    if model.task.view.explained is None or not isinstance(spec.input, INPUTS):
        of = f"{model.task.name} on {spec.modality} data"
        return f"explain=true: attributions are of a class, a number, a box or a list, not of {of}"
    if isinstance(spec.input, TextSpec) and not isinstance(model, EmbedsTokens):
        return f"explain=true: {family} has no embedding of tokens to attribute to"
    problem = model.explanation_problem() if isinstance(model, ExplainsInPart) else None
    return problem and f"explain=true: {problem}"


def numeric(model: Any) -> bool:
    """Whether what is predicted is a number."""
    return model.task.view.explained.numeric


def predicted(model: Any, x: Tensor) -> Tensor:
    """What is explained of raw rows, as numbers (B,): what the model predicts, among all that it could."""
    with torch.no_grad():
        outputs = model.forward(x)
    return model.task.view.explained.choose(outputs, x)


def score(model: Any, x: Tensor, chosen: Tensor) -> Tensor:
    """Output (B,) for what was chosen, a logit; of numbers, the mean of all that are predicted."""
    # not model(x): a compiled graph would not run the hooks of its layers
    return model.task.view.explained.score(model.forward(x), chosen)


def confidence(model: Any, x: Tensor, chosen: Tensor) -> Tensor:
    """Probability (B,) of what was chosen, or the predicted number in standard units."""
    return model.task.view.explained.kept(model.forward(x), chosen)
