"""View of detected boxes: printed, drawn over their images, and as rows of a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from src import plots
from src.spec import DataSpec, ImageSpec
from src.tasks.explained import Explained
from src.tasks.terminal import Table
from src.tasks.view import CLASS_LETTERS, Examples, Maker, RowView, TrainedModel

SURE = 0.3  # score from which on a detection is drawn and printed
LONGEST = 6  # boxes of an image that are printed
SHOWN = 6  # images of a figure


class SurestBox:
    """The class of the surest box, from dense outputs (B, L, 7 + C) as src/tasks/detection/task.py has them."""

    numeric = False

    def __init__(self, num_classes: int) -> None:
        self.num_classes = num_classes

    def choose(self, outputs: Tensor, x: Tensor) -> Tensor:
        """The box's number (B,) among all places and classes."""
        return self._logits(outputs).argmax(1)

    def score(self, outputs: Tensor, chosen: Tensor) -> Tensor:
        """The box's logit (B,)."""
        return self._logits(outputs.float()).gather(1, chosen.unsqueeze(1)).squeeze(1)

    def confidence(self, outputs: Tensor, chosen: Tensor) -> Tensor:
        """The box's probability (B,)."""
        return self.score(outputs, chosen).sigmoid()

    def _logits(self, outputs: Tensor) -> Tensor:
        """Logit of each place and class (B, L * C)."""
        return outputs[..., -self.num_classes :].flatten(1)


class BoxView(RowView):
    """Boxes in an image: predictions are (N, D, 6) and right answers (N, M, 5), as of the task."""

    @property
    def explained(self) -> Explained:
        """The surest box."""
        return SurestBox(self.spec.num_classes)

    def table(self, predictions: Tensor, targets: Tensor | None, width: int) -> Table:
        """A line for each image: the most certain boxes, and the right ones where they are known."""
        rows = []
        for row, boxes in enumerate(predictions):
            cells = [_cell([_line(self.spec, box, f" ({box[4]:.2f})") for box in sure(boxes).tolist()])]
            if targets is not None:
                right = [[*box[:4], 0, box[4]] for box in targets[row].tolist() if box[4] >= 0]
                cells.append(_cell([_line(self.spec, box, "") for box in right]))
            rows.append([str(row), *cells])
        headings = ["row", "found (score): x1 y1 x2 y2", *(["actual"] if targets is not None else [])]
        return Table("detections, in pixels of the input", headings, rows)

    def captions(self, model: TrainedModel, x: Tensor, targets: Tensor | None) -> list[str]:
        """The class of the surest box of each image, and its score."""
        x, names = x.to(model.device), self.spec.class_names
        with torch.inference_mode():
            outputs = model.forward(x)
            chosen = self.explained.choose(outputs, x)
            scores = self.explained.confidence(outputs, chosen).tolist()
        found = [plots.base.short(names[i], CLASS_LETTERS) for i in (chosen % len(names)).tolist()]
        return [f"surest box: {name} ({score:.2f})" for name, score in zip(found, scores, strict=True)]

    def figures(self, examples: Examples) -> dict[str, Maker]:
        """Images with their boxes, the worst examples among them."""
        return {"detections": partial(self._detections, examples)}

    def images(self, model: TrainedModel, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Images of a batch with what the model finds in them, (B, 3, H, W) in [0, 1]."""
        drawn, names = [], self.spec.class_names
        answers = model.predict_step({"input": batch["input"]}, 0).cpu()
        for image, boxes in zip(batch["input"].cpu(), map(sure, answers), strict=True):
            written = [names[int(label)] for label in boxes[:, 5].tolist()]
            drawn.append(self._drawn(image, boxes[:, :4], boxes[:, 5], written))
        return {"detections": torch.stack(drawn).float() / 255}

    def _detections(self, examples: Examples, folder: Path) -> None:
        """The first images of the split and the worst ones, with what was found and what is there."""
        first = range(min(len(examples), SHOWN // 2))
        worst = [row for row, _ in examples.worst]
        rows = list(dict.fromkeys([*first, *worst]))[:SHOWN]
        batch = examples.batch(rows)
        predictions, targets = examples.model.decode_for_display(batch)
        assert targets is not None
        notes = [", large loss" if row in worst and row not in first else "" for row in rows]
        titles = [f"{examples.name} {row}{note}" for row, note in zip(rows, notes, strict=True)]
        figure = self._pairs(batch["input"].cpu(), predictions.cpu(), targets.cpu(), titles)
        plots.base.save(folder / "figures" / "detections.png", figure)

    def _pairs(self, images: Tensor, predictions: Tensor, targets: Tensor, titles: Sequence[str]) -> plots.base.Figure:
        """Images (N, C, H, W) with what was found, and beside each what is there."""
        pictures, headings, names = [], [], self.spec.class_names
        for image, rows, right, title in zip(images, predictions, targets, titles, strict=True):
            here, right = sure(rows), right[right[:, 4] >= 0]
            scores = [f"{names[int(box[5])]} {box[4]:.2f}" for box in here.tolist()]
            classes = [names[int(box[4])] for box in right.tolist()]
            pictures.append(self._drawn(image, here[:, :4], here[:, 5], scores))
            pictures.append(self._drawn(image, right[:, :4], right[:, 4], classes))
            headings += [f"{title}: found {len(here)}", f"there are {len(right)}"]
        return plots.detections.pairs(torch.stack(pictures), headings)

    def _drawn(self, image: Tensor, boxes: Tensor, labels: Tensor, names: Sequence[str]) -> Tensor:
        return plots.detections.draw_boxes(image, boxes, labels.long(), names, self.spec.input_as(ImageSpec).levels)


def sure(rows: Tensor, least: float = SURE) -> Tensor:
    """Detections (K, 6) of one image (D, 6) that have at least this score."""
    return rows[(rows[:, 5] >= 0) & (rows[:, 4] >= least)]


def _line(spec: DataSpec, box: Sequence[float], score: str) -> str:
    return f"{spec.class_names[int(box[5])]}{score}: {' '.join(f'{side:.0f}' for side in box[:4])}"


def _cell(lines: list[str]) -> str:
    rest = len(lines) - LONGEST
    return "\n".join(lines[:LONGEST] + ([f"and {rest} more"] if rest > 0 else [])) or "nothing"


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
    from torchvision.io import write_png  # noqa: PLC0415 - half a second, which only predictions with boxes need

    rows = [row for row in zip(*table.values(), strict=True) if row[0] == name]
    boxes = torch.tensor([row[3:] for row in rows]).view(-1, 4)
    labels = torch.tensor([spec.class_names.index(row[1]) for row in rows])
    path.parent.mkdir(parents=True, exist_ok=True)
    write_png(
        plots.detections.draw_boxes(picture, boxes, labels, [f"{row[1]} {row[2]:.2f}" for row in rows]).contiguous(),
        str(path),
    )
