"""Detected boxes: printed, drawn over their images, and written in the form of COCO."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from src.spec import DataSpec, ImageSpec

SURE = 0.3  # score from which on a detection is drawn and printed


LONGEST = 6  # boxes of an image that are printed


SHOWN = 6  # images of a figure


def print_detections(console: Console, spec: DataSpec, predictions: Tensor, targets: Tensor | None) -> None:
    """A line for each image: the most certain boxes, and the right ones where they are known.

    Args:
        predictions: (B, D, 6), as of the task.
        targets: (B, M, 5).
    """
    table = Table("row", "found (score): x1 y1 x2 y2", *(["actual"] if targets is not None else []))
    for row, rows in enumerate(predictions):
        lines = [_line(spec, box, f" ({box[4]:.2f})") for box in sure(rows).tolist()]
        cells = [_cell(lines)]
        if targets is not None:
            cells.append(
                _cell([_line(spec, [*box[:4], 0, box[4]], "") for box in targets[row].tolist() if box[4] >= 0])
            )
        table.add_row(str(row), *cells)
    console.print("detections, in pixels of the input", style="italic", highlight=False)
    console.print(table)


def sure(rows: Tensor, least: float = SURE) -> Tensor:
    """Detections (K, 6) of one image (D, 6) that have at least this score."""
    return rows[(rows[:, 5] >= 0) & (rows[:, 4] >= least)]


def _line(spec: DataSpec, box: Sequence[float], score: str) -> str:
    return f"{spec.class_names[int(box[5])]}{score}: {' '.join(f'{side:.0f}' for side in box[:4])}"


def _cell(lines: list[str]) -> str:
    rest = len(lines) - LONGEST
    return "\n".join(lines[:LONGEST] + ([f"and {rest} more"] if rest > 0 else [])) or "nothing"


# pictures ------------------------------------------------------------------------------------------------------------


def found(model: Any, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Images of a batch with what the model finds in them, (B, 3, H, W) in [0, 1], by name."""
    from src.plots.detections import draw_boxes  # imports matplotlib

    spec, images = model.spec, []
    answers = model.predict_step({"input": batch["input"]}, 0).cpu()
    for image, boxes in zip(batch["input"].cpu(), map(sure, answers), strict=True):
        names = [spec.class_names[int(label)] for label in boxes[:, 5].tolist()]
        images.append(draw_boxes(image, boxes[:, :4], boxes[:, 5].long(), names, spec.input_as(ImageSpec).levels))
    return {"detections": torch.stack(images).float() / 255}


def figure(spec: DataSpec, images: Tensor, predictions: Tensor, targets: Tensor, titles: Sequence[str]) -> Any:
    """Images (N, C, H, W) with what was found, and beside each what is there."""
    from src.plots import detections  # imports matplotlib

    pictures, headings = [], []
    for image, rows, right, title in zip(images, predictions, targets, titles, strict=True):
        here, right = sure(rows), right[right[:, 4] >= 0]
        scores = [f"{spec.class_names[int(box[5])]} {box[4]:.2f}" for box in here.tolist()]
        classes = [spec.class_names[int(box[4])] for box in right.tolist()]
        for boxes, label, names, what in (
            (here, here[:, 5].long(), scores, f"{title}: found {len(here)}"),
            (right, right[:, 4].long(), classes, f"there are {len(right)}"),
        ):
            pictures.append(detections.draw_boxes(image, boxes[:, :4], label, names, spec.input_as(ImageSpec).levels))
            headings.append(what)
    return detections.pairs(torch.stack(pictures), headings)


# files ---------------------------------------------------------------------------------------------------------------


class Found(dict[str, list[Any]]):
    """Columns of a table with a row for each box; and `(name, height, width)` of all images, also of those without."""

    def __init__(self, columns: dict[str, list[Any]], images: list[tuple[str, int, int]]) -> None:
        super().__init__(columns)
        self.images = images


def columns(
    spec: DataSpec, predictions: Tensor, images: list[tuple[str, int, int]], factors: Tensor, least: float
) -> Found:
    """Detections (B, D, 6) as rows of a table, in pixels of their own images.

    Args:
        images: name, height and width of each.
        factors: what was made of such boxes in the input (B, 4), as src/data/images/letterbox.py gives it.
        least: score.
    """
    table: dict[str, list[Any]] = {name: [] for name in ("file", "class", "score", "x1", "y1", "x2", "y2")}
    for rows, (name, height, width), factor in zip(predictions, images, factors, strict=True):
        for *box, score, label in (sure(rows, least) / torch.cat([factor, factor.new_ones(2)])).tolist():
            ends = [min(max(side, 0.0), float(most)) for side, most in zip(box, (width, height) * 2, strict=True)]
            for column, value in zip(table, (name, spec.class_names[int(label)], score, *ends), strict=True):
                table[column].append(value)
    return Found(table, images)


def save(path: Path, picture: Tensor, table: Found, name: str, spec: DataSpec) -> None:
    """Writes a picture (3, H, W) with those of the boxes that are of the image of this name."""
    from torchvision.io import write_png

    from src.plots.detections import draw_boxes  # imports matplotlib

    rows = [row for row in zip(*table.values(), strict=True) if row[0] == name]
    boxes = torch.tensor([row[3:] for row in rows]).view(-1, 4)
    labels = torch.tensor([spec.class_names.index(row[1]) for row in rows])
    path.parent.mkdir(parents=True, exist_ok=True)
    write_png(draw_boxes(picture, boxes, labels, [f"{row[1]} {row[2]:.2f}" for row in rows]).contiguous(), str(path))
