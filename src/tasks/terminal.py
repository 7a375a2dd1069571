"""Predictions of a few rows on the terminal."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from torch import Tensor

from src.runtime.format import number
from src.spec import DataSpec, Horizon, TokenizedSpec
from src.tasks.detection.view import print_detections
from src.tasks.view import item_names

STEPS_SHOWN = 10


SIMILAR_SHOWN = 8


SCORED = ("reconstruction", "density")  # tasks that answer with a score


def print_shown(console: Console, spec: DataSpec, task: str, predictions: Tensor, targets: Tensor | None) -> None:
    """Predictions of some rows, and what would be right where that is known, as `Task.shown` gives them."""
    if task == "detection":
        print_detections(console, spec, predictions.cpu(), None if targets is None else targets.cpu())
        return
    show: Callable[..., None] = print_predictions if predictions.is_floating_point() else print_texts
    if task in SCORED:
        show = print_scores
    elif task == "verification":
        show = print_similarities
    elif task == "ranking":
        show = print_lists
    show(console, spec, predictions.tolist(), None if targets is None else targets.tolist())


def print_scores(console: Console, spec: DataSpec, scores: Sequence[float], targets: Sequence[int] | None) -> None:
    """One line a row: how badly it fits, and its class where there are classes."""
    table = Table("row", "score", *(["actual"] if targets is not None else []))
    for row, score in enumerate(scores):
        table.add_row(str(row), number(score), *([spec.class_names[targets[row]]] if targets is not None else []))
    console.print("scores of the anomaly, the higher the stranger", style="italic", highlight=False)
    console.print(table)


def print_similarities(
    console: Console, spec: DataSpec, alike: Sequence[Sequence[float]], targets: Sequence[int] | None
) -> None:
    """One line a row: how alike it is to each of the first rows, and its class where that is known."""
    shown = min(len(alike), SIMILAR_SHOWN)
    table = Table("row", *map(str, range(shown)), *(["actual"] if targets is not None else []))
    for row, values in enumerate(alike):
        cells = [number(value) for value in values[:shown]]
        table.add_row(str(row), *cells, *([spec.class_names[targets[row]]] if targets is not None else []))
    console.print("how alike the rows are", style="italic", highlight=False)
    console.print(table)


def print_texts(
    console: Console, spec: DataSpec, written: Sequence[Sequence[int]], targets: Sequence[Sequence[int]] | None
) -> None:
    """One line a row: the text of the predicted ids, and that of the right ones where they are known."""
    from src.spec.tokenizer import Tokenizer

    tokenizer = Tokenizer(spec.input_as(TokenizedSpec).tokenizer)
    table = Table("row", "predicted", *(["actual"] if targets is not None else []))
    for row, ids in enumerate(written):
        cells = [tokenizer.decode(ids)] + ([tokenizer.decode(targets[row])] if targets is not None else [])
        table.add_row(str(row), *map(escape, cells))
    console.print("predictions", style="italic", highlight=False)
    console.print(table)


def print_lists(
    console: Console, spec: DataSpec, lists: Sequence[Sequence[int]], targets: Sequence[int] | None
) -> None:
    """One line a row: the first items of the list, and the one taken."""
    table = Table("row", "recommended", *(["actual"] if targets is not None else []))
    for row, codes in enumerate(lists):
        taken = [] if targets is None else item_names(spec, [targets[row]])
        table.add_row(str(row), *map(escape, [", ".join(item_names(spec, codes)), *taken]))
    console.print("recommendations", style="italic", highlight=False)
    console.print(table)


def print_predictions(
    console: Console, spec: DataSpec, predictions: Sequence[Any], targets: Sequence[Any] | None
) -> None:
    """One line a row: a probability for each class (one for class 1 in a binary task), or the value.

    Where the terminal is too narrow for all classes, the most probable one instead. Of forecasts, up to ten steps each.
    """
    if isinstance(spec.target, Horizon):
        assert targets is not None
        _print_forecasts(console, spec, predictions, targets)
        return
    table = Table("row")
    many = isinstance(predictions[0], Sequence)
    fits = sum(max(6, len(name) + 3) + 3 for name in spec.class_names) + 24 <= console.width
    if many:
        headings = [f"P({name})" for name in spec.class_names] if fits else ["predicted", "probability"]
    else:
        headings = [f"P({spec.class_names[1]})" if spec.num_classes == 2 else "predicted"]
    for heading in headings + (["actual"] if targets is not None else []):
        table.add_column(heading, justify="right")
    for row, prediction in enumerate(predictions):
        if many and not fits:
            value, index = max((value, index) for index, value in enumerate(prediction))
            cells = [spec.class_names[index], f"{value:.4f}"]
        else:
            values = prediction if many else [prediction]
            cells = [f"{value:.4f}" if spec.class_names else number(value) for value in values]
        if targets is not None:
            target = targets[row]
            cells.append(spec.class_names[int(target)] if spec.class_names else f"{target:.4g}")
        table.add_row(str(row), *cells)
    console.print("predictions", style="italic", highlight=False)
    console.print(table)


def _print_forecasts(console: Console, spec: DataSpec, predictions: Sequence[Any], targets: Sequence[Any]) -> None:
    """Predicted and, in brackets, actual values of (N, H, F), a line for each step."""
    table = Table("row", "step")
    horizon = spec.target_as(Horizon)
    for name in spec.input.feature_names[: len(horizon.naive_errors)]:
        table.add_column(f"{name} (actual)", justify="right")
    lines = min(horizon.steps, STEPS_SHOWN)
    for row, (forecast, actual) in enumerate(zip(predictions, targets, strict=True)):
        for line in range(lines):
            step = line * (horizon.steps - 1) // max(1, lines - 1)
            pairs = zip(forecast[step], actual[step], strict=True)
            table.add_row(str(row), str(step + 1), *(f"{number(value)} ({target:.4g})" for value, target in pairs))
    console.print("forecasts", style="italic", highlight=False)
    console.print(table)
