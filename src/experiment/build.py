"""Build the model of a config for data of a spec, and list the models that fit."""

from __future__ import annotations

from typing import Any, cast

from hydra.utils import get_class, instantiate
from omegaconf import DictConfig

from src.config import recipes
from src.errors import UserError
from src.models.base import Model
from src.spec import DataSpec
from src.tasks.abilities import LoadsPretrained


def build_node(node: DictConfig) -> Any:  # noqa: ANN401 - whatever `_target_` names
    """Make the object, or the factory, that a node of the config names by `_target_`."""
    # plain lists and dicts: models and Lightning keep what they are given, and checkpoints must stay plain data
    return instantiate(node, _convert_="all")


def build_model(config: DictConfig, spec: DataSpec) -> Model:
    """Build the config's model for data of this spec.

    Raises:
        UserError: they do not fit together; names the models that would.
    """
    factory = build_node(config.model)
    family: type[Model] = factory.func
    incompatibility = family.incompatibility(spec)
    if incompatibility is not None:
        raise UserError(
            f"model {family.__name__} {incompatibility}; models that fit: {', '.join(fitting_models(spec))}"
        )
    task = build_node(config.task)(spec, family.supported_tasks(**factory.keywords))
    model: Model = factory(spec, task)
    return model.load_pretrained() if isinstance(model, LoadsPretrained) else model


def fitting_models(spec: DataSpec) -> list[str]:
    """Names of all models in conf/model that can learn from such data."""
    fitting = []
    for name in recipes.names("model"):
        target = recipes.load("model", name).get("_target_")
        if target and cast(type[Model], get_class(target)).incompatibility(spec) is None:
            fitting.append(name)
    return fitting
