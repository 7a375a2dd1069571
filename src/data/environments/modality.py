"""What general code asks of environments, whose rows are made by acting."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from typing_extensions import override

from src.data.core.chunks import Split
from src.data.core.modality import Modality, register_modality
from src.spec import EnvironmentSpec


@register_modality("environment")
class EnvironmentModality(Modality):
    """First observations of episodes: nothing to draw, to check or to remove from."""

    is_drawn = False
    is_stored = False

    @override
    def describe(
        self, splits: Mapping[str, Split], described: Mapping[str, Any], times: Sequence[str]
    ) -> Iterator[tuple[str, str]]:
        limit = self.spec.input_as(EnvironmentSpec).max_steps
        yield "actions", f"{self.spec.num_classes} to choose from in each of at most {limit:,} steps of an episode"
