"""Build the model of a config for data of a spec, and list the models that fit."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from src.config import recipes
from src.config.signature import signature
from src.config.task_options import common_data_options
from src.data.core.module import DataModule
from src.data.own.forms import Reader
from src.errors import UserError, suggest
from src.models.base import Model
from src.models.family import family
from src.runtime import plugins, project
from src.spec import DataSpec
from src.tasks.abilities import LoadsPretrained


def build_node(node: DictConfig | dict[str, Any]) -> Any:  # noqa: ANN401 - whatever `_target_` names
    """Make the object, or the factory, that a node of the config names by `_target_`."""
    # plain lists and dicts: models and Lightning keep what they are given, and checkpoints must stay plain data
    return instantiate(node, _convert_="all")


def build_data(node: DictConfig, *, seed: int = 0, task: str = "auto") -> DataModule:
    """Make the data of the config: a dataset of this project, or one of what a user's own code makes.

    Options that the user's code does not take are those of its form, such as `batch_size`.

    Args:
        seed, task: what a user's own data has as options of these names, unless the node has others.

    Raises:
        UserError: the user's code fails, makes no data, or data that has no such option.
    """
    plugins.load()  # data is what a run begins with
    values: dict[str, Any] = OmegaConf.to_container(node, resolve=True)  # type: ignore[assignment]
    target = values["_target_"]
    ours = {key: values.pop(key) for key in common_data_options(target) if key in values}
    if target.startswith("src."):
        return instantiate(values, _convert_="all")  # type: ignore[no-any-return]
    made = _made(values)
    if isinstance(made, DataModule):
        return made
    title = target.rpartition(".")[2]
    given = instantiate(ours, _convert_="all")
    form, content, of_loader = Reader(title, given).read(made)
    accepted = signature(f"{form.__module__}.{form.__qualname__}").parameters
    for key in given:
        if key not in accepted:
            near = suggest(key, accepted.keys() - {"made", "title"})
            raise UserError(f"data.{key}: {title} makes {form.what}, which have no such option{near}")
    defaults = {key: value for key, value in (("seed", seed), ("task", task)) if key in accepted}
    return form(made=content, title=title, **defaults | of_loader | given)  # type: ignore[no-any-return]


def _made(values: dict[str, Any]) -> object:
    """What a user's own code makes.

    Raises:
        UserError: it fails.
    """
    try:
        made = instantiate(values, _convert_="all")
        return made() if isinstance(made, partial) else made
    except Exception as error:
        cause = error.__cause__ or error
        if isinstance(cause, UserError):
            raise cause from None
        reason = f"{type(cause).__name__}: {cause}".splitlines()[0]
        raise UserError(f"data: {values['_target_']} fails ({reason})") from error


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
    """Class of each model in conf/model that its name alone chooses, by the name of its file.

    Those of a plugin that fails are left out.

    Raises:
        UserError: a class that cannot be imported; names the file.
    """
    plugins.load()  # which tells of those that fail
    incomplete = recipes.incomplete("model")
    names = [name for name in recipes.names("model") if name not in incomplete]
    targets = {name: recipes.load("model", name).get("_target_") for name in names}
    found = {name: _family(recipes.path_of("model", name), target) for name, target in targets.items() if target}
    return {name: chosen for name, chosen in found.items() if chosen is not None}


def _family(file: Path, target: str) -> type[Model] | None:
    try:
        return family(target)
    except UserError as error:
        if file.parents[1] in plugins.folders("conf"):
            return None
        raise UserError(f"{project.short(file)}: {error}") from error
