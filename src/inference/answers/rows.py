"""Answers of one class, number, score or text for each new row, as columns of a table."""

from __future__ import annotations

from collections.abc import Iterator

from torchvision.transforms.functional import to_pil_image

from src.data.core.modality import modality_of
from src.inference.answers.base import (
    Columns,
    Request,
    explained_columns,
    reconstructed_folder,
    register_answer,
    row_names,
    source_of,
)
from src.inference.load import Trained
from src.tasks.abilities import Encodes


@register_answer("rows")
def labelled(trained: Trained, request: Request) -> Iterator[Columns]:
    """Answer once a row: a class, a number, a score, the text that an encoder-decoder writes."""
    model = trained.model
    source = source_of(trained, request)
    encoder = model if isinstance(model, Encodes) and modality_of(model.spec).is_image else None
    folder = reconstructed_folder(trained, request) if encoder is not None else None
    explained = explained_columns(trained, request) if request.explain else None
    for rows in source.batches(request.batch_size):
        answers = model.predict_step({"input": rows.input.to(model.device)}, 0)
        columns = rows.names | model.task.columns(answers.cpu())
        if folder is not None and encoder is not None:
            for place, image in zip(row_names(rows), encoder.images(answers[:, :-1]), strict=True):
                file = folder / f"{place}.png"
                file.parent.mkdir(parents=True, exist_ok=True)
                to_pil_image(image.cpu()).save(file)
        yield columns | (explained(rows) if explained else {})
    trained.notes += source.notes
