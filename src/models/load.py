"""A trained model from its checkpoint alone: no dataset, no config files, no Hydra, no unpickled code."""

from __future__ import annotations

import importlib
from pathlib import Path
from pickle import UnpicklingError

import torch

from src.errors import UserError
from src.models.base import Model
from src.runtime import renames
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
    family = _family(config["model"]["_target_"], path)
    spec = DataSpec.from_dict(description["spec"])
    task = saved_task(spec, family.tasks, description["task"], config["task"])
    model = family(spec, task, **_options(config["model"]))
    model.load_state_dict(checkpoint["state_dict"])
    # the run's memory format, as other kernels round elsewhere
    return model.attach(config=config, channels_last=bool(config.get("channels_last"))).eval()


def _options(node: dict) -> dict:
    return {key: value for key, value in node.items() if not key.startswith("_")}


def _family(target: str, path: str | Path) -> type[Model]:
    # a checkpoint can come from anywhere: its text may pick one of our models and nothing else
    module, _, name = target.rpartition(".")
    if module != "src.models" and not module.startswith("src.models."):
        raise UserError(f"{path}: {target} is not in src.models; build that model with its own code")
    try:
        family = getattr(importlib.import_module(module), name, None)
    except Exception as error:
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise UserError(
            f"{path}: {target} cannot be imported from this code ({reason}); src.rerun takes a run's own code"
        ) from error
    if not (isinstance(family, type) and issubclass(family, Model) and family.__module__.startswith("src.models.")):
        raise UserError(f"{path}: {target} is no Model")
    return family
