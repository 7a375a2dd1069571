"""Environments: data to act in."""

from __future__ import annotations

from dataclasses import dataclass, field

from src.spec.inputs import InputSpec


@dataclass(frozen=True)
class EnvironmentSpec(InputSpec):
    """Observation at the beginning of an episode, a row of numbers (F,), and what makes the environment anew.

    Attributes:
        id: as gymnasium registers it.
        max_steps: of an episode.
        copies: stepped side by side in training.
    """

    modality = "environment"

    id: str = field(kw_only=True)
    max_steps: int = field(kw_only=True)
    copies: int = field(kw_only=True)
