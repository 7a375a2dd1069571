"""Scores that are explained: that of what a model predicted, as it falls when the input loses parts."""

from __future__ import annotations

import torch
from torch import Tensor

from src.data.core.modality import modality_of
from src.models.base import Model
from src.tasks.abilities import EmbedsTokens, ExplainsInPart
from src.tasks.explained import Explained


def incompatibility(model: Model) -> str | None:
    """Reason why a model's predictions cannot be explained; None where they can."""
    spec, family = model.spec, type(model).__name__
    modality = modality_of(spec)
    if model.task.view.explained is None or not modality.methods:
        of = f"{model.task.name} on {spec.modality} data"
        return f"explain=true: attributions are of a class, a number, a box or a list, not of {of}"
    if modality.is_embedded and not isinstance(model, EmbedsTokens):
        return f"explain=true: {family} has no embedding of tokens to attribute to"
    problem = model.explanation_problem() if isinstance(model, ExplainsInPart) else None
    return problem and f"explain=true: {problem}"


def explained(model: Model) -> Explained:
    """Target of attributions in the model's predictions; there is one where `incompatibility` finds none."""
    found = model.task.view.explained
    assert found is not None
    return found


def numeric(model: Model) -> bool:
    """True if the model predicts numbers."""
    return explained(model).numeric


def predicted(model: Model, x: Tensor) -> Tensor:
    """Choice of what is explained for each raw row, as numbers (B,): what the model predicts."""
    with torch.no_grad():
        outputs = model.forward(x)
    return explained(model).choose(outputs, x)


def score(model: Model, x: Tensor, chosen: Tensor) -> Tensor:
    """Output (B,) for what was chosen, a logit; of numbers, the mean of all that are predicted."""
    # not model(x): a compiled graph would not run the hooks of its layers
    return explained(model).score(model.forward(x), chosen)


def confidence(model: Model, x: Tensor, chosen: Tensor) -> Tensor:
    """Probability (B,) of what was chosen, or the predicted number in standard units."""
    return explained(model).confidence(model.forward(x), chosen)
