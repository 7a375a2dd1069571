"""New images drawn by a trained generator, as a picture of them all and as arrays that data=npz reads."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from src.data.core.modality import modality_of
from src.errors import UserError, suggest
from src.inference.answers.base import Request, register_answer
from src.inference.load import Trained
from src.models.base import Model
from src.plots.grid import grid
from src.runtime import output as outputs
from src.tasks.abilities import Samples, is_conditional

SHOWN = 400  # images in the picture


@register_answer(
    "samples", "generation", no_rows="draws new rows and predicts none: num_samples=64 instead of data.path"
)
def draw(trained: Trained, request: Request, *, num_samples: int, class_: str | int | None, seed: int) -> str:
    """Draw new images with a seed, of one class where that is given, into NAME.png and NAME.npz.

    Raises:
        UserError: a run that draws nothing, a class that it does not know, an output that exists. Nothing is written.
    """
    if request.path is not None or request.text is not None:
        raise UserError(f"num_samples={num_samples} takes neither data.path nor text: what is drawn comes from noise")
    picture = Path(request.output or "samples.png").expanduser().absolute()
    if picture.suffix != ".png":
        raise UserError(f"output={request.output}: a name that ends in .png; the arrays lie beside it")
    outputs.check_folder(picture, shown=request.output)
    arrays = picture.with_suffix(".npz")
    for path in (picture, arrays):
        remedy = "give another output, or force=true to write over it"
        outputs.check(path, request.force, shown=str(path), remedy=remedy)
    model = trained.model
    if not isinstance(model, Samples) or not modality_of(model.spec).is_image:
        kind = type(model).__name__
        raise UserError(f"num_samples={num_samples}: run {trained.name} ({kind}) makes no new images")
    options = {} if class_ is None else {"label": _label(trained, str(class_))}
    images = model.draw(num_samples, seed=seed, **options).cpu()
    pixels = (255 * images).round().to(torch.uint8)
    # as files of pictures have them: (N, H, W, 3), or grey (N, H, W)
    content: dict[str, Any] = {"x": (pixels.movedim(1, 3) if pixels.shape[1] == 3 else pixels.squeeze(1)).numpy()}
    names = np.array(model.spec.class_names)
    by_class = model if is_conditional(model) else None
    if by_class is not None:
        content["y"] = names[by_class.classes(num_samples, **options).numpy()]
    _write(picture, lambda file: grid(images[:SHOWN], across=_across(model)).save(file, "png"))
    _write(arrays, lambda file: np.savez(file, **content))
    return f"{num_samples:,} samples of seed {seed} in {picture} and {arrays.name}"


def _label(trained: Trained, name: str) -> int:
    """Number of a class."""
    model, names = trained.model, trained.model.spec.class_names
    if not is_conditional(model):
        raise UserError(f"class={name}: run {trained.name} draws from all classes; train with model.conditional=true")
    if name not in names:
        raise UserError(f"class={name} is no class of run {trained.name}{suggest(name, names)}")
    return names.index(name)


def _across(model: Model) -> int:
    """Images in a row: where classes come in turn, each has its column."""
    classes = model.spec.num_classes
    return classes if is_conditional(model) and 4 <= classes <= 20 else 16


def _write(path: Path, write: Callable[[Any], None]) -> None:
    """Write a file under another name first, so that there is never half of a file."""
    try:
        with outputs.replacing(path) as temporary, open(temporary, "wb") as file:
            write(file)
    except OSError as error:
        raise UserError(f"output={path} cannot be written ({error.strerror or error})") from None
