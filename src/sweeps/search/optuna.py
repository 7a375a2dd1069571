"""Search for good values instead of trying all: `hydra/sweeper=search`, by Optuna's samplers."""

from __future__ import annotations

import hashlib
import importlib
import json
import multiprocessing
import os
import re
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.utils import setup_globals
from hydra.utils import get_method
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from typing_extensions import override

from src.errors import RunFailed, UserError, suggest
from src.runtime import fast_imports
from src.sweeps.jobs.ledger import Ledger
from src.sweeps.search import study as studies
from src.sweeps.search.base import LedgerSweeper
from src.sweeps.search.space import Dimension, Space, read

if TYPE_CHECKING:
    from src.experiment.preview import Outlook  # which imports torch

SAMPLERS = ("random", "tpe", "cmaes", "gp", "nsga2")
PRUNERS = ("none", "median", "hyperband")


class Search(LedgerSweeper):
    """Asks for a trial whenever there is a place for it, so that each one knows the results of those before.

    Overrides say what varies, as Hydra writes it: `optimizer.lr=tag(log,interval(1e-4,1e-1))`, `model.depth=
    int(interval(1,4))`, `model.width=range(16,129,16)`, `optimizer=adamw,sgd`, `model=glob(*)`. Each trial has
    a job for each of `repeats` and `folds`, whose mean counts. The same command goes on with its study until it
    has `n_trials`, whatever was killed; more of them continue it. With `n_jobs=1` the same seed gives the same trials.

    Args:
        n_trials: in all; pruned and failed ones count.
        sampler: `random`; `tpe`, tree-structured Parzen estimators (Bergstra et al. 2011); `cmaes`, CMA-ES (Hansen
            and Ostermeier 2001), for two or more keys with numbers, other keys are drawn at random; `gp`, a Gaussian
            process; `nsga2`, NSGA-II (Deb et al. 2002).
        seed: of the sampler.
        startup_trials: drawn at random before the sampler learns from them, and before `median` prunes; the size of
            a generation of `nsga2`.
        objectives: metrics and their good direction, `{val/accuracy: max, cost/parameters: min}`; null: the one that
            picks the best checkpoint. Values of val/ are those of the epoch whose weights are kept. Of several the
            Pareto front is found.
        pruner: gives up trials that look bad after a validation: `median`, those below the median of the others at
            the same point (above it, where less is better); `hyperband` (Li et al. 2018, arXiv:1603.06560).
        warmup: validations of a trial before it can be pruned; as many epochs, where each is validated.
        storage: an Optuna URL such as `sqlite:///study.db`; null: a file in the sweep's folder.
        study: its name there; null: made from what is searched.
        params: further overrides, as a recipe names them.
        outlook: function that says what a run of a configuration will record.
    """

    def __init__(
        self,
        *,
        n_trials: int,
        sampler: str,
        seed: int,
        startup_trials: int,
        objectives: Mapping[str, str] | None,
        pruner: str,
        warmup: int,
        storage: str | None,
        study: str | None,
        params: Mapping[str, str] | None,
        outlook: str,
    ) -> None:
        self.n_trials, self.outlook, self.params = n_trials, outlook, params or {}
        self.settings: dict[str, Any] = {
            "sampler": sampler,
            "seed": seed,
            "startup_trials": startup_trials,
            "objectives": dict(objectives) if objectives is not None else None,
            "pruner": pruner,
            "warmup": warmup,
            # of a file the place counts, wherever it is looked at from
            "storage": storage and re.sub("^sqlite:///(?=[^/])", f"sqlite:///{os.getcwd()}/", storage),
            "study": study,
        }

    @override
    def sweep(self, arguments: list[str]) -> list[float | None]:
        """Begin the search, or go on with the one of the same key; returns the objective of each job."""
        if self.config.get("study") is not None:
            raise UserError("study: its jobs are a grid, a search has jobs of its own: leave hydra/sweeper=search out")
        self._check_settings()
        dimensions, fixed = self._dimensions(arguments)
        studies.import_optuna(self.settings["sampler"])
        space, hashes = Space.freeze(dimensions, fixed, self.launcher.compose)
        plain = asdict(space)
        asked = self.settings | {"templates": hashes, "dimensions": plain["dimensions"], "runs": plain["runs"]}
        key = hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()
        ledger = None if self.config.force else Ledger.find_by_key(self.launcher.place, key)
        if ledger is None:
            settings = self.settings | {
                "key": key,
                "n_trials": self.n_trials,
                "study": self.settings["study"] or key[:12],
            }
            studies.check_free(settings)
            settings |= {"objectives": self._objectives(space), "space": plain}
            ledger = self.launcher.ledger(key, [], self.n_trials * len(space.runs), settings)
        self.launcher.run(ledger, studies.Study(ledger, self.n_trials), Console())
        return [job.state.objective for job in ledger.jobs]

    def _check_settings(self) -> None:
        for name, known in (("sampler", SAMPLERS), ("pruner", PRUNERS)):
            if self.settings[name] not in known:
                raise UserError(
                    f"hydra.sweeper.{name}={self.settings[name]} is not known{suggest(self.settings[name], known)}"
                )
        counts = {"n_trials": self.n_trials} | {
            name: self.settings[name] for name in ("startup_trials", "seed", "warmup")
        }
        for (name, value), least in zip(counts.items(), (1, 1, 0, 0), strict=True):
            if not isinstance(value, int) or value < least:
                raise UserError(f"hydra.sweeper.{name}={value}: a whole number from {least} on")
        if self.settings["sampler"] == "nsga2" and self.settings["startup_trials"] < 2:
            raise UserError("hydra.sweeper.startup_trials=1: a generation of nsga2 has two trials or more")
        objectives = self.settings["objectives"]
        if objectives is None:
            return
        for metric, mode in objectives.items():
            if mode not in ("min", "max"):
                raise UserError(f"hydra.sweeper.objectives: {metric} is {mode}{suggest(str(mode), ('min', 'max'))}")
        if not objectives:
            raise UserError("hydra.sweeper.objectives names no metric; null: the one that picks the best checkpoint")
        if len(objectives) > 1 and self.settings["sampler"] == "cmaes":
            raise UserError("hydra.sweeper.sampler=cmaes has one objective; nsga2, tpe, gp and random take several")

    def _dimensions(self, arguments: list[str]) -> tuple[list[Dimension], list[str]]:
        """Split overrides into what varies and the others; of several for one key the last counts."""
        parser = OverridesParser.create(config_loader=self.loader)
        repository = self.loader.repository  # type: ignore[attr-defined]  # every loader of Hydra has one
        given: dict[str, Dimension | str] = {}
        for change in parser.parse_overrides([*(f"{key}={value}" for key, value in self.params.items()), *arguments]):
            line, key = str(change.input_line), change.get_key_element().lstrip("+")
            given.pop(key, None)
            group = change.package is not None or repository.group_exists(change.key_or_group)
            given[key] = read(change, group) if change.is_sweep_override() else line
        found = [one for one in given.values() if isinstance(one, Dimension)]
        if not found:
            raise UserError(
                "hydra/sweeper=search: nothing varies; say what does, such as optimizer.lr=tag(log,interval(1e-4,1e-1))"
            )
        numbers = sum(not one.choices for one in found)
        if self.settings["sampler"] == "cmaes" and numbers < 2:
            raise UserError(
                f"hydra.sweeper.sampler=cmaes needs two keys or more with numbers, interval(...) or range(...), and got"
                f" {numbers}; tpe takes any"
            )
        return found, [one for one in given.values() if isinstance(one, str)]

    def _objectives(self, space: Space) -> dict[str, str]:
        """Choose the metrics to be optimised, of which a run is known to have each."""
        wanted: dict[str, str] | None = self.settings["objectives"]
        if self.settings["pruner"] != "none":
            self._check_pruner(wanted or {}, space)
        outlook = self._preview(space.templates[0])
        if self.settings["pruner"] != "none" and outlook.processes > 1:
            raise UserError(f"hydra.sweeper.pruner={self.settings['pruner']} is for runs of one process on one device")
        if wanted is None:
            if outlook.monitor is None:
                raise UserError(
                    "hydra/sweeper=search: these runs have no validation, so they return nothing to compare"
                )
            return {outlook.monitor: outlook.mode}
        for metric in wanted:
            if metric not in outlook.metrics and not (outlook.logs and "/" in metric):
                raise UserError(f"hydra.sweeper.objectives: runs have no {metric}{suggest(metric, outlook.metrics)}")
        return wanted

    def _check_pruner(self, wanted: Mapping[str, str], space: Space) -> None:
        name = f"hydra.sweeper.pruner={self.settings['pruner']}"
        if len(wanted) > 1:
            raise UserError(f"{name} judges by one metric, objectives has {len(wanted)}: pruner=none")
        for metric in wanted:
            if not metric.startswith("val/"):
                raise UserError(f"{name} needs a metric of each validation, {metric} is known at the end: pruner=none")
        if len(space.runs) > 1:
            raise UserError(f"{name}: pruning needs one run per trial, this trial has {len(space.runs)}: pruner=none")

    def _preview(self, template: str) -> Outlook:
        """Find out what a run of the space will record, in another process, since jobs are forked from this one."""
        with fast_imports.quickly():
            importlib.import_module(self.outlook.rpartition(".")[0])
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("fork")) as other:
            return other.submit(_preview_template, self.outlook, template).result()


def _preview_template(outlook: str, template: str) -> Outlook:
    setup_globals()
    config = OmegaConf.create(template)
    assert isinstance(config, DictConfig)
    HydraConfig.instance().cfg = config  # type: ignore[assignment]
    try:
        return get_method(outlook)(OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"]))
    except Exception as error:  # noqa: BLE001 (any error has to become one that another process can read)
        inner: BaseException | None = error
        while inner is not None and not isinstance(inner, UserError):
            inner = inner.__cause__  # `instantiate` wraps what a constructor raises
        # plain ones: not every error can go to another process
        if inner is not None:
            raise UserError(str(inner)) from None
        raise RunFailed(f"{type(error).__name__}: {error}") from None
