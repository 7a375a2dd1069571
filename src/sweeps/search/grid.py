"""Grid sweeps: every combination of the values given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.core.plugins import Plugins
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from src.errors import UserError
from src.sweeps.data_requirements.study import DataRequirements, study_of
from src.sweeps.launchers.base import grid_jobs


class Grid(Sweeper):
    """All combinations of the values given, handed to the launcher at once: `hydra/sweeper=grid`.

    Args:
        params: further overrides, as a recipe names them.
    """

    def __init__(self, params: Mapping[str, str] | None = None) -> None:
        self.params = params or {}

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.loader, self.config = hydra_context.config_loader, config
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> Any:
        parser = OverridesParser.create(config_loader=self.loader)
        overrides = parser.parse_overrides([*(f"{key}={value}" for key, value in self.params.items()), *arguments])
        for override in overrides:
            if override.is_interval_sweep():
                raise UserError(f"{override.input_line}: a grid has no intervals, hydra/sweeper=search draws from them")
        if self.config.get("study") is not None:
            self.launcher.compose(grid_jobs(overrides)[0])  # which checks the options of the study
            overrides += parser.parse_overrides(self._added(study_of(self.config), overrides))
        return self.launcher.launch(grid_jobs(overrides), initial_job_idx=0)

    def _added(self, study: DataRequirements, overrides: Sequence[Override]) -> list[str]:
        """Overrides that a study adds."""
        given = [override.get_key_element().lstrip("+") for override in overrides]
        varied = [key for key, override in zip(given, overrides, strict=True) if override.is_sweep_override()]
        return study.overrides(given, varied, self.config.repeats)
