"""A trained model from its checkpoint alone: no dataset, no config files, no Hydra, no unpickled code."""

from __future__ import annotations

from pathlib import Path
from pickle import UnpicklingError

import torch
from torch import Tensor

from src.errors import UserError
from src.models.base import Model
from src.models.family import family
from src.runtime import own_code, renames, trust
from src.spec import DataSpec
from src.tasks.registry import saved_task


def load_model(path: str | Path) -> Model:
    """Load a model in evaluation mode, with its spec, task and config.

    Args:
        path: a `best.ckpt` or `last.ckpt`.

    Raises:
        UserError: there is no such file, it is damaged or no checkpoint of this harness, or its class is no model of
            this project.
    """
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise UserError(f"{path}: {error.strerror or error}") from None
    except (RuntimeError, EOFError, KeyError, UnpicklingError) as error:
        raise UserError(f"{path}: damaged, or no checkpoint of this harness") from error
    if "labbook" not in checkpoint:
        raise UserError(f"{path}: no checkpoint of this harness (it carries no config and no spec)")
    description = checkpoint["labbook"]
    config = renames.renamed(description["config"], "train")
    chosen, options = _family(config["model"]["_target_"], path), _options(config["model"])
    _check_named(chosen, options, path)
    spec = DataSpec.from_dict(description["spec"])
    task = saved_task(spec, chosen.tasks, description["task"], config["task"])
    model = chosen(spec, task, **options)
    _load_weights(model, checkpoint["state_dict"], path)
    # the run's memory format, as other kernels round elsewhere
    model.attach(config=config, channels_last=bool(config.get("channels_last")))
    # to look for a module imports the packages above it
    known = {name: digest for name, digest in description.get("code", {}).items() if trust.is_trusted(name)}
    model.changed_code = own_code.changed(known)
    return model.eval()


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


def _family(target: str, path: str | Path) -> type[Model]:
    # a checkpoint can come from anywhere: its text may pick one of our models, or of those that the user trusts
    if not target.startswith("src.models.") and not trust.is_trusted(target):
        raise UserError(f"{path}: {target} is not of this project; {trust.advice(target)}")
    try:
        found = family(target)
        trust.check(target)
    except UserError as error:
        if target.startswith("src."):
            text = str(error).replace("cannot be imported", "cannot be imported from this code")
            raise UserError(f"{path}: {text}; src.rerun takes a run's own code") from error
        raise UserError(f"{path}: {error}") from error
    return found
