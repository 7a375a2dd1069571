"""Registers the launchers and sweepers with Hydra."""

from __future__ import annotations

from src.runtime.compat.hydra import register_plugins
from src.sweeps.launchers.local import Local
from src.sweeps.launchers.ray import Ray
from src.sweeps.launchers.slurm import Slurm
from src.sweeps.search.grid import Grid
from src.sweeps.search.optuna import Search


def register() -> None:
    """Makes the plugins known to Hydra; again changes nothing."""

    register_plugins((Local, Ray, Slurm, Grid, Search))
