"""Build the model of a config for data of a spec, and list the models that fit."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from src.config import recipes
from src.config.task_options import common_data_options
from src.data.core.module import DataModule
from src.data.own.dataset import OwnData
from src.errors import UserError
from src.models.base import Model
from src.models.family import family
from src.runtime import plugins, project
from src.spec import DataSpec
from src.tasks.abilities import LoadsPretrained


def build_node(node: DictConfig | dict[str, Any]) -> Any:  # noqa: ANN401 - whatever `_target_` names
    """Make the object, or the factory, that a node of the config names by `_target_`."""
    # plain lists and dicts: models and Lightning keep what they are given, and checkpoints must stay plain data
    return instantiate(node, _convert_="all")


def build_data(node: DictConfig) -> DataModule:
    """Make the data of the config: a dataset of this project, or one of what a user's own code makes.

    Options that the user's code does not take are those of every dataset, such as `batch_size`.
    """
    plugins.load()  # data is what a run begins with
    values: dict[str, Any] = OmegaConf.to_container(node, resolve=True)  # type: ignore[assignment]
    ours = {key: values.pop(key) for key in common_data_options(values["_target_"]) if key in values}
    made = instantiate(values, _convert_="all")
    if isinstance(made, partial):
        made = made()
    if isinstance(made, DataModule):
        return made
    title = values["_target_"].rpartition(".")[2]
    return OwnData(made=made, title=title, **instantiate(ours, _convert_="all"))


def build_model(config: DictConfig, spec: DataSpec) -> Model:
    """Build the config's model for data of this spec.

    Raises:
        UserError: they do not fit together; names the models that would.
    """
    chosen, options = family(config.model._target_), model_options(config.model)
    incompatibility = chosen.incompatibility(spec)
    if incompatibility is not None:
        raise UserError(
            f"model {chosen.__name__} {incompatibility}; models that fit: {', '.join(fitting_models(spec))}"
        )
    further = {key: plain(config.get(key) or {}) for key in ("metrics", "metric_modes")} | {"logs": chosen.logs_metrics}
    # a loss of the user's own stays a node: data and task fill its arguments
    make_task = instantiate(config.task, _convert_="all", _recursive_=False)
    task = make_task(spec, chosen.supported_tasks(**options), **further)
    model = chosen(spec, task, **options)
    return model.load_pretrained() if isinstance(model, LoadsPretrained) else model


def plain(node: DictConfig | dict[str, Any]) -> dict[str, Any]:
    """A part of the config as plain containers."""
    found: dict[str, Any] = OmegaConf.to_container(OmegaConf.create(node), resolve=True)  # type: ignore[assignment]
    return found


def model_options(node: DictConfig) -> dict[str, Any]:
    """Options of the config's model."""
    values: dict[str, Any] = OmegaConf.to_container(node, resolve=True)  # type: ignore[assignment]
    return {key: value for key, value in values.items() if not key.startswith("_")}


def fitting_models(spec: DataSpec) -> list[str]:
    """Names of all models in conf/model that can learn from such data."""
    return [name for name, family in families().items() if family.incompatibility(spec) is None]


def families() -> dict[str, type[Model]]:
    """Class of each model in conf/model, by the name of its file; those of a plugin that fails are left out.

    Raises:
        UserError: a class that cannot be imported; names the file.
    """
    plugins.load()  # which tells of those that fail
    targets = {name: recipes.load("model", name).get("_target_") for name in recipes.names("model")}
    found = {name: _family(recipes.path_of("model", name), target) for name, target in targets.items() if target}
    return {name: chosen for name, chosen in found.items() if chosen is not None}


def _family(file: Path, target: str) -> type[Model] | None:
    try:
        return family(target)
    except UserError as error:
        if file.parents[1] in plugins.folders("conf"):
            return None
        raise UserError(f"{project.short(file)}: {error}") from error
