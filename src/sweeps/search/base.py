"""Base of Hydra's sweepers here: what they choose is run by a launcher that keeps a ledger."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from hydra.core.plugins import Plugins
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig
from typing_extensions import override

if TYPE_CHECKING:
    from src.sweeps.launchers.base import LedgerLauncher


class LedgerSweeper(Sweeper):
    """Base class. `setup` sets its attributes: Hydra's loader, the configuration and the launcher."""

    config: DictConfig
    launcher: LedgerLauncher

    @override
    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Take Hydra's loader and the configuration, and make the launcher."""
        self.loader, self.config = hydra_context.config_loader, config
        launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )
        self.launcher = cast("LedgerLauncher", launcher)
