"""Continuation of an earlier run: its configuration, its weights, its checkpoints, its data."""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from src import tracking
from src.data.core.module import DataModule
from src.errors import UserError
from src.experiment.artifacts import FILES
from src.models.base import Model
from src.runtime import own_code, renames
from src.runtime.compat.lightning import own_rank
from src.training.callbacks.checkpoint import read_checkpoint
from src.training.init_from import InitFrom
from src.training.weight_files import SUFFIXES

STARTS_FROM = "LABBOOK_INIT_FROM"  # the run that init_from names, for the processes of further devices


def saved_config(run: tracking.RunInfo) -> dict[str, Any]:
    """The config of the run's latest start (a resume may have changed values), in today's names.

    Where the file that its model is made of is gone, the run's own copy stands in for it.
    """
    resumes = int(run.tags.get("labbook.resumes", 0))
    name = f"resumed-{resumes}/config.yaml" if resumes else "config.yaml"
    config = renames.renamed(OmegaConf.to_container(OmegaConf.load(tracking.download(run, name))), "train")
    path = config["model"].get("path")
    if isinstance(path, str) and not Path(path).expanduser().exists():
        with contextlib.suppress(UserError):  # the run keeps none: the model says what it misses
            copies = tracking.download(run, FILES)  # all: one may need the others
            config["model"]["path"] = str(copies / Path(path).name)
    return config


def find_start(config: DictConfig, resumed: tracking.RunInfo | None = None) -> InitFrom | None:
    """The model that `init_from` names, which then holds the run's full id; of a resumed run, its own latest weights.

    Raises:
        UserError: no such run or file, or a run without a checkpoint.
    """
    if config.init_from is None:
        return None
    own = None if resumed is None else resumed.directory / "checkpoints" / "last.ckpt"
    if own is not None and own.exists():
        return InitFrom.read(own, config.init_from)
    if config.init_from.endswith(SUFFIXES):
        return InitFrom.read(Path(config.init_from).expanduser(), config.init_from)
    reference = config.init_from
    if own_rank():
        # a further process looks when this run is there already, and would take it for the last one
        reference = os.environ.get(STARTS_FROM, reference)
        if not re.fullmatch("[0-9a-f]{32}", reference):
            raise UserError(f"init_from={reference}: processes that torchrun or SLURM starts need the run's full id")
    try:
        run = tracking.find_run(reference, uri=config.tracking.uri)
        path = tracking.download(run, "checkpoints/best.ckpt")
    except UserError as error:
        raise UserError(f"init_from={config.init_from}: {error}") from None
    config.init_from = os.environ[STARTS_FROM] = run.id
    return InitFrom.read(path, run.id)


def check_resumable(model: Model, config: DictConfig, run: tracking.RunInfo) -> str:
    """Fetch the run's checkpoints where they lie elsewhere, and make sure that training can go on from them.

    Returns:
        What a person should know of code that is another by now; else empty.

    Raises:
        UserError: a damaged checkpoint, a model of another shape, training already longer than asked for.
    """
    for name in ("best.ckpt", "last.ckpt"):
        with contextlib.suppress(UserError):  # killed before its first checkpoint: it starts again
            tracking.download(run, f"checkpoints/{name}")
    path = run.directory / "checkpoints" / "last.ckpt"
    if not path.exists():
        return ""
    saved = read_checkpoint(path)
    shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    for name, tensor in saved["state_dict"].items():
        if tuple(tensor.shape) != shapes.pop(name, None):
            shapes[name] = ()
            break
    if shapes:
        raise UserError(
            f"the changed options make another model than that of {path} ({next(reversed(shapes))} differs): "
            "a resumed run keeps the shape of its model"
        )
    done = saved["loops"]["fit_loop"]["epoch_progress"]["current"]["processed"]
    limit = config.trainer.max_epochs
    if limit not in (None, -1) and done > limit:
        raise UserError(f"trainer.max_epochs={limit}: run {run.id} has trained {done} epochs already")
    return own_code.change(saved["labbook"].get("code", {}))


def check_data(data: DataModule, config: DictConfig, run: tracking.RunInfo) -> None:
    """Make sure that the data is what the run was trained on, unless its options were changed.

    Raises:
        UserError: it is not; names the files that were written since the run began.
    """
    options: dict[str, Any] = OmegaConf.to_container(config.data)  # type: ignore[assignment]
    if run.tags.get("labbook.data_sha256") in (None, data.spec.sha256) or saved_config(run)["data"] != options:
        return
    paths = [Path(value) for value in options.values() if isinstance(value, str) and value]
    written = [str(path) for path in paths if path.is_file() and path.stat().st_mtime > run.start]
    files = f"; written since: {', '.join(written)}" if written else ""
    raise UserError(f"the data ({data.spec.name}) is not what run {run.id[:8]} was trained on{files}")
