"""TaskView: how general code shows what a task came to, without knowing which task it is.

A task names its view, `Task.view`. The default, `RowView`, serves one answer a row; a task that differs has a `view.py`
in its folder. Beside it the tables of a run as csv files, which the MLflow UI shows as tables.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor

from src import plots
from src.data.core.modality import modality_of
from src.runtime import output
from src.runtime.format import number
from src.spec import DataSpec
from src.tasks.abilities import MakesImages
from src.tasks.explained import Explained
from src.tasks.terminal import Table

if TYPE_CHECKING:
    from src.tasks.base import Task

CLASS_LETTERS = 16  # of a class's name above a picture


class TrainedModel(Protocol):
    """Model in evaluation mode, as far as a view asks of it."""

    spec: DataSpec

    @property
    def device(self) -> torch.device:
        """Device of its weights."""
        ...

    def forward(self, x: Tensor) -> Tensor:
        """Outputs (B, ...) for raw rows."""
        ...

    def outputs(self, batch: Mapping[str, Tensor]) -> Tensor:
        """Outputs (B, ...) that the task evaluates, for a batch that it prepared."""
        ...

    def predict_step(self, batch: Mapping[str, Tensor], batch_idx: int) -> Tensor:
        """Predictions for raw rows, as of `Task.predict`."""
        ...

    def decode_for_display(self, batch: Mapping[str, Tensor]) -> tuple[Tensor, Tensor | None]:
        """Predictions for raw rows, and what would be right, as of `Task.decode_for_display`."""
        ...


@dataclass(frozen=True)
class Examples:
    """A trained model, and rows that it can be shown by.

    Attributes:
        model: in evaluation mode.
        split: columns that an index (B,) takes rows from.
        name: the split's.
        worst: (row, loss) of the rows with the largest losses, the largest first; empty without a test.
    """

    model: TrainedModel
    split: Mapping[str, Any]
    name: str
    worst: Sequence[tuple[int, float]] = ()

    def __len__(self) -> int:
        return len(self.split["input"])

    def batch(self, rows: Sequence[int]) -> dict[str, Tensor]:
        """Batch of these rows on the model's device, with their `index`."""
        index = torch.tensor(rows)
        device = self.model.device
        return {name: column[index].to(device) for name, column in self.split.items()} | {"index": index.to(device)}


Maker = Callable[[Path], object]  # writes into the folder of a run, its pictures into `figures/`


class TaskView(Protocol):
    """View of a task for general code. Predictions and right answers are those of `Task.decode_for_display`."""

    def __init__(self, task: Task) -> None: ...

    @property
    def explained(self) -> Explained | None:
        """Target of attributions; None: predictions are not explained."""
        ...

    def table(self, predictions: Tensor, targets: Tensor | None, width: int) -> Table:
        """Table for a terminal of so many letters: predictions of some rows, and what is right where it is known."""
        ...

    def rows(self, predictions: Tensor, targets: Tensor | None) -> list[dict[str, str]]:
        """Cells of each row by column of a csv file: what is true and what was predicted."""
        ...

    def captions(self, model: TrainedModel, x: Tensor, targets: Tensor | None) -> list[str]:
        """A line for each raw row (B, ...) above the picture that explains its prediction."""
        ...

    def figures(self, examples: Examples) -> dict[str, Maker]:
        """Makers of what a finished run leaves behind, by the name that is said where one fails."""
        ...

    def images(self, model: TrainedModel, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Images (N, C, H, W) in [0, 1] by name, of the rows of a batch, after a validation; empty: none."""
        ...


class RowView:
    """One answer a row: probabilities of classes, a class, or a number."""

    task: Task

    def __init__(self, task: Task) -> None:
        self.task = task

    @property
    def spec(self) -> DataSpec:
        """Description of the task's data."""
        return self.task.spec

    @property
    def explained(self) -> Explained | None:
        """None, unless a task says what is attributed."""
        return None

    def table(self, predictions: Tensor, targets: Tensor | None, width: int) -> Table:
        """A probability for each class (one for class 1 where there are two), or the value.

        Where the terminal is too narrow for all classes, the most probable one instead.
        """
        names, many = self.spec.class_names, predictions.ndim > 1
        fits = sum(max(6, len(name) + 3) + 3 for name in names) + 24 <= width
        if many:
            headings = [f"P({name})" for name in names] if fits else ["predicted", "probability"]
        else:
            headings = [f"P({names[1]})" if len(names) == 2 and predictions.is_floating_point() else "predicted"]
        rows = []
        for row, values in enumerate(predictions.tolist()):
            if many and not fits:
                value, index = max((value, index) for index, value in enumerate(values))
                cells = [names[index], f"{value:.4f}"]
            else:
                cells = [self._value(value) for value in (values if many else [values])]
            if targets is not None:
                cells.append(self._right(targets[row]))
            rows.append([str(row), *cells])
        headings = ["row", *headings, *(["actual"] if targets is not None else [])]
        return Table("predictions", headings, rows, flush_left=1)

    def _value(self, value: float) -> str:
        names = self.spec.class_names
        if isinstance(value, int):
            return names[value] if names else str(value)
        return f"{value:.4f}" if names else number(value)

    def _right(self, target: Tensor) -> str:
        return self.spec.class_names[int(target)] if self.spec.class_names else f"{target.item():.4g}"

    def rows(self, predictions: Tensor, targets: Tensor | None) -> list[dict[str, str]]:
        """Columns `true` and `predicted` of each row; of classes also the probability."""
        assert targets is not None
        return predicted_rows(self.spec, predictions, targets)

    def captions(self, model: TrainedModel, x: Tensor, targets: Tensor | None) -> list[str]:
        """Line for each row: the right answer, where it is known, and the prediction."""
        short = partial(plots.base.short, longest=CLASS_LETTERS)
        with torch.inference_mode():
            predictions = model.predict_step({"input": x.to(model.device)}, 0).cpu()
        found = self.rows(predictions, torch.zeros(len(x)) if targets is None else targets.cpu())
        return [
            ("" if targets is None else f"true {short(row['true'])}, ")
            + f"predicted {short(row['predicted'])}"
            + (f" ({float(row['probability']):.2f})" if "probability" in row else "")
            for row in found
        ]

    def figures(self, examples: Examples) -> dict[str, Maker]:
        """The worst examples: a table, and a picture of those that are images."""
        return {"worst examples": partial(self._worst_examples, examples)} if examples.worst else {}

    def images(self, model: TrainedModel, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Images of a model that makes some; else none."""
        return model.sample_images(batch) if isinstance(model, MakesImages) else {}

    def content(self, inputs: Tensor) -> list[dict[str, str]]:
        """Content of each raw row (N, ...), by column of a csv file."""
        return modality_of(self.spec).content(inputs)

    def _worst_examples(self, examples: Examples, folder: Path) -> None:
        batch = examples.batch([row for row, _ in examples.worst])
        predictions, targets = examples.model.decode_for_display(batch)
        found = self.rows(predictions.cpu(), None if targets is None else targets.cpu())
        contents = self.content(batch["input"].cpu())
        rows = [
            [row, f"{loss:.6g}", *answer.values(), *example.values()]
            for (row, loss), answer, example in zip(examples.worst, found, contents, strict=True)
        ]
        # lists, since a table of the user's own may have a column of the same name
        write(folder / "worst_examples.csv", ["row", "loss", *found[0], *contents[0]], rows)
        modality = modality_of(self.spec)
        if modality.is_image:
            images = modality.upright(batch["input"].cpu().numpy())
            titles = [_title(answer) for answer in found]
            figure = plots.examples.gallery(images, titles, modality.axes)
            plots.base.save(folder / "figures" / "worst_examples.png", figure)


def _title(answer: Mapping[str, str]) -> str:
    """Lines above a picture, of a row that `TaskView.rows` gave."""
    probability = f" ({float(answer['probability']):.2f})" if "probability" in answer else ""
    lines = (
        f"{name} {plots.base.short(value, 14 if name == 'predicted' else 20)}"
        for name, value in answer.items()
        if name != "probability"
    )
    return "\n".join(lines) + probability


def write(path: Path, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> Path:
    """Writes a table under a temporary name, then renames it over the previous one; returns its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with output.replacing(path) as temporary, open(temporary, "w", encoding="utf-8", newline="") as file:
        table = csv.writer(file)
        table.writerow(header)
        table.writerows(rows)
    return path


def predicted_rows(spec: DataSpec, predictions: Tensor, targets: Tensor) -> list[dict[str, str]]:
    """Columns `true` and `predicted` of each row, as a person reads them; of classes also the probability.

    Args:
        predictions, targets: as of `Task.decode_for_display`: probabilities (N, C)
            or (N,), classes (N,), or values (N,).
    """
    names = spec.class_names
    if not names:
        pairs = zip(targets.tolist(), predictions.tolist(), strict=True)
        return [{"true": f"{right:.6g}", "predicted": f"{value:.6g}"} for right, value in pairs]
    if not predictions.is_floating_point():
        pairs = zip(targets.tolist(), predictions.tolist(), strict=True)
        return [{"true": names[int(right)], "predicted": names[guess]} for right, guess in pairs]
    if predictions.ndim == 1:
        predictions = predictions.new_tensor([1, 0]) + predictions.unsqueeze(1) * predictions.new_tensor([-1, 1])
    probability, chosen = predictions.max(1)
    return [
        {"true": names[int(right)], "predicted": names[guess], "probability": f"{p:.4f}"}
        for right, guess, p in zip(targets.tolist(), chosen.tolist(), probability.tolist(), strict=True)
    ]
