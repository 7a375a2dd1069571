"""Build the model of a config for data of a spec, and list the models that fit."""

from __future__ import annotations

from functools import partial
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
    task = build_node(config.task)(spec, chosen.supported_tasks(**options))
    model = chosen(spec, task, **options)
    return model.load_pretrained() if isinstance(model, LoadsPretrained) else model


def model_options(node: DictConfig) -> dict[str, Any]:
    """Options of the config's model, nodes among them made."""
    values: dict[str, Any] = OmegaConf.to_container(node, resolve=True)  # type: ignore[assignment]
    options = {key: value for key, value in values.items() if not key.startswith("_")}
    return dict(instantiate(options, _convert_="all"))


def fitting_models(spec: DataSpec) -> list[str]:
    """Names of all models in conf/model that can learn from such data."""
    return [name for name, family in families().items() if family.incompatibility(spec) is None]


def families() -> dict[str, type[Model]]:
    """Class of each model in conf/model that its name alone chooses, by the name of its file.

    Raises:
        UserError: a class that cannot be imported; names the file.
    """
    incomplete = recipes.incomplete("model")
    names = [name for name in recipes.names("model") if name not in incomplete]
    targets = {name: recipes.load("model", name).get("_target_") for name in names}
    return {name: _family(name, target) for name, target in targets.items() if target}


def _family(name: str, target: str) -> type[Model]:
    try:
        return family(target)
    except UserError as error:
        raise UserError(f"conf/model/{name}.yaml: {error}") from error
