"""Target of an attribution: the score of a prediction, as it falls when cells of the input are removed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

if TYPE_CHECKING:
    from src.tasks.base import Task


class Explained(Protocol):
    """Offer of a task's view to attributions; all of it is of the model's outputs (B, ...) for raw rows.

    Attributes:
        numeric: what is predicted is a number, and not one thing among several.
    """

    numeric: bool

    def choose(self, outputs: Tensor, x: Tensor) -> Tensor:
        """Number (B,) of what was predicted for the raw rows x (B, ...), among all that could be; 0 of numbers."""
        ...

    def score(self, outputs: Tensor, chosen: Tensor) -> Tensor:
        """Output (B,) for what was chosen, a logit; of numbers, the mean of all that are predicted."""
        ...

    def confidence(self, outputs: Tensor, chosen: Tensor) -> Tensor:
        """Probability (B,) of what was chosen, or the predicted number in standard units."""
        ...


class OneOfMany:
    """One of several classes, from logits (B, C)."""

    numeric = False

    def __init__(self, task: Task) -> None:
        self.task = task

    def choose(self, outputs: Tensor, x: Tensor) -> Tensor:
        """The likeliest class (B,)."""
        return outputs.argmax(1)

    def score(self, outputs: Tensor, chosen: Tensor) -> Tensor:
        """The class's logit (B,)."""
        return outputs.float().gather(1, chosen.unsqueeze(1)).squeeze(1)

    def confidence(self, outputs: Tensor, chosen: Tensor) -> Tensor:
        """The class's probability (B,)."""
        return self.task.predict(outputs).gather(1, chosen.unsqueeze(1)).squeeze(1)


class OneOfTwo:
    """One of two classes, from the logit of the second (B, 1)."""

    numeric = False

    def choose(self, outputs: Tensor, x: Tensor) -> Tensor:
        """The likelier class (B,)."""
        return (outputs.squeeze(1) > 0).long()

    def score(self, outputs: Tensor, chosen: Tensor) -> Tensor:
        """The class's logit (B,)."""
        return outputs.float().squeeze(1) * (2 * chosen - 1)

    def confidence(self, outputs: Tensor, chosen: Tensor) -> Tensor:
        """The class's probability (B,)."""
        return self.score(outputs, chosen).sigmoid()


class MeanOfNumbers:
    """One number a row or several, (B, ...) in standard units: their mean."""

    numeric = True

    def choose(self, outputs: Tensor, x: Tensor) -> Tensor:
        """Zeros (B,): there is nothing to choose from."""
        return torch.zeros(len(x), dtype=torch.long, device=x.device)

    def score(self, outputs: Tensor, chosen: Tensor) -> Tensor:
        """The mean (B,)."""
        return outputs.float().flatten(1).mean(1)

    def confidence(self, outputs: Tensor, chosen: Tensor) -> Tensor:
        """The mean (B,)."""
        return self.score(outputs, chosen)
