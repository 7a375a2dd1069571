"""Data looked at before it is trained on: read as training would read it, then described, checked and drawn."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hydra.utils import get_class, instantiate
from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from src.analysis import data_checks, data_overview
from src.analysis.data_checks import Finding
from src.analysis.samples import draw_samples
from src.config import recipes
from src.data.core.modality import modality_class, modality_of
from src.data.core.module import DataModule, without_targets
from src.errors import UserError
from src.experiment.build import build_data, families, fitting_models
from src.experiment.run import quieten
from src.models.base import Model
from src.runtime import output as outputs
from src.runtime.console import say
from src.spec import DataSpec
from src.tasks.registry import common_tasks
from src.training.seeding import seed_everything


def inspect(config: DictConfig) -> list[Finding]:
    """Print what data is, which models fit it and what should be looked into, and draw some rows.

    Raises:
        UserError: data that cannot be read, or a picture that exists already; nothing was written.
    """
    quieten()
    seed_everything(config.seed, config.threads)
    console = Console()
    if config.data is None:
        data_overview.print_fits(console, _matrix(families()))
        say(console, f"and models of a file, which says what fits: {', '.join(recipes.incomplete('model'))}")
        return []
    if "_target_" not in config.data:
        raise UserError(f"data.{next(iter(config.data), '')}: of which data? add data=NAME, such as data=csv")
    data = build_data(config.data, seed=config.seed, task=config.task.name)
    output = _output(config, data)
    data.prepare_data()
    data.setup("fit")
    spec, described = data.spec, data.describe()
    data_overview.print_overview(console, spec, data.splits, described, data.times)
    known = families()
    data_overview.print_models(console, {m: _usual(known[m], spec, config) for m in fitting_models(spec)})
    found = data_checks.find(
        spec,
        data.splits,
        {name: column["missing"] for name, column in described.get("columns", {}).items()},
        config.rows,
        data.row_name,
        ordered=data.ordered,
    )
    data_overview.print_findings(console, found)
    if (rows := modality_of(spec).listing(data)) is not None:
        data_overview.print_listing(console, rows)
    elif output is not None:
        draw_samples(output, data)
        say(console, f"some rows are drawn in {output}")
    return found


def _output(config: DictConfig, data: DataModule) -> Path | None:
    """Path of the picture, checked before anything is read."""
    if config.output is None or not modality_class(data.inputs[0]).is_drawn:
        return None
    path = Path(config.output).expanduser()
    if path.suffix != ".png":
        raise UserError(f"output={path}: a name that ends in .png")
    outputs.check(path, config.force, remedy="force=true writes over it, output=null draws nothing")
    outputs.check_folder(path)
    return path


# models ---------------------------------------------------------------------------------------------------------------


def _usual(family: type[Model], spec: DataSpec, config: DictConfig) -> str:
    """The task that training would take: the one asked for where both have it, else the first of both."""
    common = common_tasks(spec, family.tasks, config.task.name)
    return config.task.name if config.task.name in common else common[0]


def _matrix(models: Mapping[str, type[Model]]) -> dict[str, dict[str, list[str]]]:
    """Usual task of each model that fits, for each dataset in conf/data, by what their classes say; nothing is read.
    Where the target decides, all tasks that it may turn out to be."""
    fits: dict[str, dict[str, list[str]]] = {}
    for dataset in recipes.names("data"):
        node = recipes.load("data", dataset)
        data: Any = get_class(node["_target_"])
        if not any(OmegaConf.is_missing(node, key) for key in node):
            root = OmegaConf.create({"seed": 0, "task": {"name": "auto"}, "data": node})
            with contextlib.suppress(UserError):  # one that wants an option which is null
                data = instantiate(root.data, _convert_="all")  # some know their tasks by then
        fits[dataset] = {}
        unlabelled = (task for modality in data.inputs for task in without_targets(data, modality))
        offered = dict.fromkeys([*data.tasks, *unlabelled])
        for name, family in models.items():
            common = [task for task in offered if task in family.tasks]
            if common and any(issubclass(modality, family.inputs) for modality in data.inputs):
                fits[dataset][name] = common if "task" in node else common[:1]
    return fits
