"""Boxes of objects in new images."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from src.data.images import inputs, letterbox
from src.errors import UserError, suggest
from src.inference.answers.base import Columns, Request, register_answer, sibling_folder
from src.inference.load import Trained
from src.tasks.detection import view


@register_answer("detection", json=True)
def detected(trained: Trained, request: Request, *, score_threshold: float) -> Iterator[Columns]:
    """Predict the boxes of each picture in its own pixels, a row each; draw the pictures with them into a folder."""
    model, path = trained.model, request.file
    on_bad = request.options("on_bad").get("on_bad", "error")
    if on_bad not in (known := ("error", "skip")):
        raise UserError(f"data.on_bad={on_bad} is not known{suggest(str(on_bad), known)}")
    source = inputs.Scenes(model.spec, path=path, on_bad=on_bad)
    folder, root = sibling_folder(request, "boxes"), path if path.is_dir() else path.parent
    trained.notes.append(f"the pictures with their boxes are in {folder}")
    height, width = model.spec.input_shape[1:]
    for rows in source.batches(request.batch_size):
        answers = model.predict_step({"input": rows.input.to(model.device)}, 0).cpu()
        files = rows.names["file"]
        sizes = [letterbox.dimensions(root / file) for file in files]
        images = [(file, *size) for file, size in zip(files, sizes, strict=True)]
        factors = letterbox.scales(torch.tensor(sizes), (height, width))
        found = view.columns(model.spec, answers, images, factors, score_threshold)
        for file in files:
            view.save(folder / f"{file}.png", letterbox.picture(root / file), found, file, model.spec)
        yield found
    trained.notes += source.notes
