"""Pictures of attributions: over images, as bars of columns, on words; and how predictions go as cells are removed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from src.analysis.explain import attribution, targets
from src.analysis.explain.attribution import Deletion
from src.data.core.modality import modality_of
from src.models.base import Model
from src.plots import attribution as plots
from src.plots.base import Figure, save, short
from src.spec import DataSpec

FIRST, WORST = 4, 4  # rows drawn: the first ones, of different classes, and those with the largest losses
TESTED = 64  # rows of a deletion
COLUMN_ROWS = 500  # rows of a table over which its columns are compared
LARGEST = 2**18  # numbers in all rows of a deletion


def save_all(
    folder: Path, model: Model, split: Mapping[str, Any], worst: Sequence[tuple[int, float]], name: str
) -> list[str]:
    """Draw attributions of some rows, those of a table's columns over many rows, and the deletion test.

    Args:
        folder: where `explained_rows.png`, `explained_deletion.png` and `explained_columns.png` go.
        model: in evaluation mode.
        split: columns that an index (B,) takes rows from.
        worst: rows of the split with the largest losses, the largest first.
        name: the split's.

    Returns:
        For each method a line that says whether its attributions mean anything; or why there are none.
    """
    problem = targets.incompatibility(model)
    if problem is not None:
        return [problem]
    rows = _examples(model.spec, split, worst)
    index = torch.tensor(rows)
    x, target = split["input"][index], split["target"][index] if "target" in split else None
    found = attribution.attributions(model, x)
    titles = [f"{title}\nrow {row} of {name}" for title, row in zip(_titles(model, x, target), rows, strict=True)]
    modality = modality_of(model.spec)
    save(folder / "explained_rows.png", modality.draw_attributions(x.cpu(), found, titles))
    count = COLUMN_ROWS if modality.has_columns else min(TESTED, max(8, LARGEST // x[0].numel()))
    x = split["input"][torch.arange(min(count, len(split["input"])))]
    found = attribution.attributions(model, x)
    if modality.has_columns:
        (values,) = found.values()
        (names,) = modality.cell_names(x[:1])
        save(folder / "explained_columns.png", plots.columns(names, values.abs().mean(0).numpy()))
    tests = {method: attribution.deletion(model, x, values) for method, values in found.items()}
    save(folder / "explained_deletion.png", _deletions(tests))
    return [test.line(method) for method, test in tests.items()]


def save_pictures(folder: Path, model: Model, x: Tensor, names: Sequence[str], first: int) -> None:
    """Save a file for each image (B, C, H, W): itself and its attributions.

    Args:
        names: of the images; the file's own is the number of the image, from `first` on, and the name's last part.
    """
    found = attribution.attributions(model, x)
    for i, title in enumerate(_titles(model, x, None)):
        values = {method: value[i : i + 1] for method, value in found.items()}
        titles = [f"{short(Path(names[i]).name, 20)}\n{title}"]
        figure = modality_of(model.spec).draw_attributions(x[i : i + 1].cpu(), values, titles)
        save(folder / f"{first + i:03d}_{Path(names[i]).stem}.png", figure)


def _examples(spec: DataSpec, split: Mapping[str, Any], worst: Sequence[tuple[int, float]]) -> list[int]:
    rows = list(range(min(FIRST, len(split["input"]))))
    if spec.class_names and "target" in split:
        classes = split["target"][torch.arange(min(1000, len(split["input"])))].tolist()
        rows = sorted({label: row for row, label in reversed(list(enumerate(classes)))}.values())[:FIRST]
    return list(dict.fromkeys([*rows, *(row for row, _ in worst[:WORST])]))


def _titles(model: Model, x: Tensor, target: Tensor | None) -> list[str]:
    """Titles of raw rows: what is true, where that is known, and what was predicted."""
    return model.task.view.captions(model, x, target)


def _deletions(tests: Mapping[str, Deletion]) -> Figure:
    """Figure with a curve for each method, and that of a random order."""
    curves = {f"{method}: {test.areas[0]:.2f}": test.ranked.mean(1).numpy() for method, test in tests.items()}
    test = next(iter(tests.values()))
    random = f"at random: {test.areas[1]:.2f}", test.random.mean(1).numpy()
    what = "probability of the predicted class" if test.what == "probability" else "share left of the prediction"
    return plots.deletions(test.shares.numpy(), curves, random, what)
