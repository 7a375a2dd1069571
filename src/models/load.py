"""A trained model from its checkpoint alone: no dataset, no config files, no Hydra, no unpickled code."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import Tensor

from src.errors import UserError
from src.models.base import Model
from src.models.family import family
from src.runtime import own_code, plugins, renames, trust
from src.spec import DataSpec
from src.tasks.registry import saved_task

MODELS = "src.models."


def load_model(path: str | Path) -> Model:
    """Load a model in evaluation mode, with its spec, task and config.

    Args:
        path: a `best.ckpt` or `last.ckpt`.

    Raises:
        UserError: there is no such file, it is damaged or no checkpoint of this harness, or its class is no model of
            this project, nor of a package that is trusted.
    """
    checkpoint = read(path)
    plugins.load()
    description = checkpoint["labbook"]
    config = renames.renamed(description["config"], "train")
    chosen = _family(config["model"], path)
    spec = DataSpec.from_dict(description["spec"])
    options = _options(config["model"])
    _check_named(chosen, options, path)
    _check_judges(config, path)
    own = {"metrics": config.get("metrics"), "metric_modes": config.get("metric_modes"), "logs": chosen.logs_metrics}
    task = saved_task(spec, chosen.tasks, description["task"], config["task"], **own)
    model = chosen(spec, task, **options)
    _load_weights(model, checkpoint["state_dict"], path)
    # the run's memory format, as other kernels round elsewhere
    model.attach(config=config, channels_last=bool(config.get("channels_last")))
    model.changed_code = own_code.change(description.get("code", {}))
    return model.eval()


def read(path: str | Path) -> dict[str, Any]:
    """Read a checkpoint: `state_dict`, and in `labbook` what `Model.description` gave.

    Raises:
        UserError: there is no such file, or it is damaged or no checkpoint of this harness.
    """
    try:
        checkpoint: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise UserError(f"{path}: {error.strerror or error}") from None
    except (RuntimeError, EOFError, KeyError, UnpicklingError) as error:
        raise UserError(f"{path}: damaged, or no checkpoint of this harness") from error
    if "labbook" not in checkpoint:
        raise UserError(f"{path}: no checkpoint of this harness (it carries no config and no spec)")
    return checkpoint


def _check_judges(config: Mapping[str, Any], path: str | Path) -> None:
    """Make sure that the loss and the metrics that a checkpoint names are code that may run."""
    for target in own_code.targets([config["task"].get("loss"), config.get("metrics")]):
        ours = target.startswith("src.")
        if not (target.startswith(trust.JUDGES) if ours else trust.is_trusted(target)):
            raise UserError(f"{path}: {target} is not of this project; {trust.advice(target)}")
        try:
            own_code.imported(target)
            trust.check(target)
        except UserError as error:
            raise UserError(f"{path}: {error}") from error


def _load_weights(model: Model, weights: dict[str, Tensor], path: str | Path) -> None:
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        own = {name: tuple(value.shape) for name, value in model.state_dict().items()}
        other = {name: tuple(value.shape) for name, value in weights.items()}
        name = next(name for name in [*own, *other] if own.get(name) != other.get(name))
        here, there = own.get(name, "missing"), other.get(name, "missing")
        raise UserError(
            f"{path}: {type(model).__name__} is another net than the saved one: {name} is {there} there, {here} here"
        ) from error


def _options(node: dict) -> dict:
    return {key: value for key, value in node.items() if not key.startswith("_")}


def _check_named(chosen: type[Model], options: dict, path: str | Path) -> None:
    try:
        for target in trust.named_code(chosen.__init__, options).values():
            trust.check_named(target)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error


def _family(node: dict, path: str | Path) -> type[Model]:
    # a checkpoint can come from anywhere: its text may pick one of our models, or code of those that the user trusts
    target, *inner = own_code.targets(node)
    for name in (target, *inner):
        # of ours the models alone: the file gives what they are called with, too
        if not (name.startswith(MODELS) if name.startswith("src.") else trust.is_trusted(name)):
            raise UserError(f"{path}: {name} is not of this project; {trust.advice(name)}")
    try:
        found = family(target)
        for name in (target, *inner):
            trust.check_part(name)
    except (UserError, ImportError, AttributeError) as error:
        if target.startswith("src."):
            text = str(error).replace("cannot be imported", "cannot be imported from this code")
            raise UserError(f"{path}: {text}; src.rerun takes a run's own code") from error
        raise UserError(f"{path}: {error}") from error
    return found
