"""Sweeps on this machine, several jobs at a time."""

from __future__ import annotations

import importlib
from collections.abc import Sequence

from hydra.types import TaskFunction
from omegaconf import DictConfig
from typing_extensions import override

from src.runtime import fast_imports, renames
from src.sweeps.jobs.ledger import Ledger
from src.sweeps.launchers.base import LedgerLauncher
from src.sweeps.launchers.executor import Executor
from src.sweeps.launchers.pool import Pool, places


class Local(LedgerLauncher):
    """Processes on this machine: `hydra/launcher=local`.

    Args:
        preload: modules that are imported once, before jobs are forked.
    """

    def __init__(self, preload: Sequence[str] = ()) -> None:
        self.preload = preload

    @override
    def threads(self, jobs: int, config: DictConfig) -> int:
        return self._places(jobs, config)[1]

    @override
    def executor(self, ledger: Ledger, jobs: int, config: DictConfig, task: TaskFunction) -> Executor:
        """Make the pool of processes, after the modules of `preload` are imported for all of them."""
        with fast_imports.quickly():
            for module in self.preload:
                importlib.import_module(renames.MODULES.get(module, module))
        slots, _ = self._places(jobs, config)
        return Pool(task, slots=slots, threads=ledger.threads, on_error=config.on_error, sweep=ledger.id)

    @staticmethod
    def _places(jobs: int, config: DictConfig) -> tuple[list[dict[str, str]], int]:
        accelerator = str(config.get("trainer", {}).get("accelerator", "cpu"))
        return places(jobs, config.n_jobs, config.threads, config.jobs_per_gpu, accelerator)
