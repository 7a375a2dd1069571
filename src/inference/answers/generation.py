"""New images drawn by a trained generator, as a picture of them all and as arrays that data=npz reads."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig
from rich.console import Console

from src.data.core.modality import modality_of
from src.errors import UserError, suggest
from src.inference.load import Trained, load
from src.models.base import Model
from src.plots.grid import grid
from src.runtime import output as outputs
from src.runtime.console import say
from src.tasks.abilities import Samples, is_conditional

SHOWN = 400  # images in the picture


def draw(config: DictConfig) -> None:
    """Draws `num_samples` images with a seed, of one `class` where that is given, into NAME.png and NAME.npz.

    Raises:
        UserError: a run that draws nothing, a class that it does not know, an output that exists. Nothing is written.
    """
    if config.data.get("path") is not None or config.text is not None:
        asked = f"num_samples={config.num_samples}"
        raise UserError(f"{asked} takes neither data.path nor text: what is drawn comes from noise")
    picture = Path(config.output or "samples.png").expanduser().absolute()
    if picture.suffix != ".png":
        raise UserError(f"output={config.output}: a name that ends in .png; the arrays lie beside it")
    outputs.check_folder(picture, shown=config.output)
    arrays = picture.with_suffix(".npz")
    for path in (picture, arrays):
        remedy = "give another output, or force=true to write over it"
        outputs.check(path, config.force, shown=str(path), remedy=remedy)
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    trained = load(config.run, uri=config.tracking.get("uri"), device=config.device)
    model = trained.model
    if not isinstance(model, Samples) or not modality_of(model.spec).is_image:
        kind = type(model).__name__
        raise UserError(f"num_samples={config.num_samples}: run {trained.name} ({kind}) makes no new images")
    options = {} if config["class"] is None else {"label": _label(trained, str(config["class"]))}
    with torch.inference_mode():
        images = model.draw(config.num_samples, seed=config.seed, **options).cpu()
    pixels = (255 * images).round().to(torch.uint8)
    # as files of pictures have them: (N, H, W, 3), or grey (N, H, W)
    content = {"x": (pixels.movedim(1, 3) if pixels.shape[1] == 3 else pixels.squeeze(1)).numpy()}
    if is_conditional(model):
        content["y"] = np.array(model.spec.class_names)[model.classes(config.num_samples, **options).numpy()]
    _write(picture, lambda file: grid(images[:SHOWN], across=_across(model)).save(file, "png"))
    _write(arrays, lambda file: np.savez(file, **content))
    said = f"{config.num_samples:,} samples of seed {config.seed} in {picture} and {arrays.name}"
    say(Console(), said)


def _label(trained: Trained, name: str) -> int:
    """Number of a class."""
    model: Any = trained.model
    if not is_conditional(model):
        raise UserError(f"class={name}: run {trained.name} draws from all classes; train with model.conditional=true")
    names = model.spec.class_names
    if name not in names:
        raise UserError(f"class={name} is no class of run {trained.name}{suggest(name, names)}")
    return names.index(name)


def _across(model: Model) -> int:
    """Images in a row: where classes come in turn, each has its column."""
    classes = model.spec.num_classes
    return classes if is_conditional(model) and 4 <= classes <= 20 else 16


def _write(path: Path, write: Callable[[Any], None]) -> None:
    """Under another name first, so that there is never half of a file."""
    try:
        with outputs.replacing(path) as temporary, open(temporary, "wb") as file:
            write(file)
    except OSError as error:
        raise UserError(f"output={path} cannot be written ({error.strerror or error})") from None
