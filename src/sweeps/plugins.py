"""Registers the launchers and sweepers with Hydra."""

from __future__ import annotations

import sys
from types import ModuleType

from hydra.core.plugins import Plugins

from src.sweeps.launchers.local import Local
from src.sweeps.search.grid import Grid

PLUGINS = "hydra_plugins.labbook"


def register() -> None:
    """Makes the plugins known to Hydra; again changes nothing.

    Hydra takes plugins from the package hydra_plugins only, which has to lie beside `src` and is lost in an editable
    installation. So the package is made here.
    """
    from src.sweeps.launchers.ray import Ray
    from src.sweeps.launchers.slurm import Slurm
    from src.sweeps.search.optuna import Search  # these build on this module

    instance, module = Plugins.instance(), ModuleType(PLUGINS)
    for plugin in (Local, Ray, Slurm, Grid, Search):
        plugin.__module__ = PLUGINS
        setattr(module, plugin.__name__, plugin)
        instance.register(plugin)
    package, _, name = PLUGINS.partition(".")
    setattr(sys.modules.setdefault(package, ModuleType(package)), name, module)
    sys.modules[PLUGINS] = module
