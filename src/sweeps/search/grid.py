"""Grid sweeps: every combination of the values given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.core.utils import JobReturn
from typing_extensions import override

from src.errors import UserError
from src.sweeps.data_requirements.study import DataRequirements, study_of
from src.sweeps.launchers.base import grid_jobs
from src.sweeps.search.base import LedgerSweeper


class Grid(LedgerSweeper):
    """All combinations of the values given, handed to the launcher at once: `hydra/sweeper=grid`.

    Args:
        params: further overrides, as a recipe names them.
    """

    def __init__(self, params: Mapping[str, str] | None = None) -> None:
        self.params = params or {}

    @override
    def sweep(self, arguments: list[str]) -> Sequence[JobReturn]:
        """Run every combination of the values; returns the result of each trial."""
        parser = OverridesParser.create(config_loader=self.loader)
        overrides = parser.parse_overrides([*(f"{key}={value}" for key, value in self.params.items()), *arguments])
        for one in overrides:
            if one.is_interval_sweep():
                raise UserError(f"{one.input_line}: a grid has no intervals, hydra/sweeper=search draws from them")
        if self.config.get("study") is not None:
            self.launcher.compose(grid_jobs(overrides)[0])  # which checks the options of the study
            study = study_of(self.config)
            assert study is not None
            overrides += parser.parse_overrides(self._added(study, overrides))
        return self.launcher.launch(grid_jobs(overrides), initial_job_idx=0)

    def _added(self, study: DataRequirements, overrides: Sequence[Override]) -> list[str]:
        """Overrides that a study adds."""
        given = [one.get_key_element().lstrip("+") for one in overrides]
        varied = [key for key, one in zip(given, overrides, strict=True) if one.is_sweep_override()]
        return study.overrides(given, varied, self.config.repeats)
