"""A trained model from its checkpoint alone: no dataset, no config files, no Hydra, no unpickled code."""

from __future__ import annotations

from pathlib import Path
from pickle import UnpicklingError

import torch

from src.errors import UserError
from src.models.base import Model
from src.models.family import family
from src.runtime import renames, trust
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
    chosen = _family(config["model"]["_target_"], path)
    spec = DataSpec.from_dict(description["spec"])
    task = saved_task(spec, chosen.tasks, description["task"], config["task"])
    model = chosen(spec, task, **_options(config["model"]))
    model.load_state_dict(checkpoint["state_dict"])
    # the run's memory format, as other kernels round elsewhere
    return model.attach(config=config, channels_last=bool(config.get("channels_last"))).eval()


def _options(node: dict) -> dict:
    return {key: value for key, value in node.items() if not key.startswith("_")}


def _family(target: str, path: str | Path) -> type[Model]:
    # a checkpoint can come from anywhere: its text may pick one of our models, or of those that the user trusts
    if not target.startswith("src.models.") and not trust.is_trusted(target):
        raise UserError(f"{path}: {target} is not of this project; {trust.advice(target)}")
    try:
        found = family(target)
        trust.check(target)
    except UserError as error:
        reason = "; src.rerun takes a run's own code" if target.startswith("src.") else ""
        raise UserError(f"{path}: {error}{reason}") from error
    return found
