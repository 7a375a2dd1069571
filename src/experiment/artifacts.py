"""Artifacts of a finished run: pictures and tables among its files, the results on the terminal."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import Tensor

from src import plots
from src.data.core.modality import modality_of
from src.experiment import terminal
from src.models.base import Model
from src.runtime import output
from src.tasks.abilities import Attended, AttendedPatches, Attends, MadeOfFiles
from src.tasks.terminal import print_table
from src.tasks.view import Examples

FILES = "files"  # folder of those that a model is made of
Split = Mapping[str, Any]  # columns that an index (B,) takes rows from
Worst = Sequence[tuple[int, float]]  # (row, loss), the largest loss first


def report(
    console: Console,
    model: Model,
    baseline: Mapping[str, float],
    epoch: int,
    to_predict: Mapping[str, Tensor] | None = None,
) -> None:
    """Print the table of results and, for a few raw rows, predictions.

    Args:
        epoch: whose weights were chosen.
    """
    best = {name: model.best(name) for name in model.history if name.startswith("val/") and model.mode_of(name)}
    terminal.print_results(console, model.history, best, baseline, epoch)
    if to_predict is None:
        return
    model.eval()
    with torch.inference_mode():
        batch = {name: tensor.to(model.device) for name, tensor in to_predict.items()}
        predictions, targets = model.decode_for_display(batch)
    targets = None if targets is None else targets.cpu()
    print_table(console, model.task.view.table(predictions.cpu(), targets, console.width))


def save(folder: Path, model: Model, split: Split, curves: Mapping[str, Any], worst: Worst, name: str) -> list[str]:
    """Draw and write what there is to be seen of a trained model; what cannot be made spoils nothing else.

    Args:
        folder: the run's own.
        split: whose examples are shown, the test split or else that of validation.
        curves: of the test, as `save_figures` takes them.
        worst: rows of the split with the largest losses; empty without a test.
        name: the split's.

    Returns:
        A line for each thing that could not be made, and one that says where the others are; before them what the
        attributions, where the config asks for them, are worth.
    """
    model.eval()
    examples, said = Examples(model, split, name, worst), []
    problems = [] if model.worst_examples.problem is None else [f"worst examples: none, {model.worst_examples.problem}"]
    making: dict[str, Callable[[], object]] = {
        "curves": lambda: plots.curves.save_figures(folder / "figures", model.history, curves, model.spec.class_names),
        "attention": partial(_attention, folder, examples),
    }
    try:
        making |= {what: partial(make, folder) for what, make in model.task.view.figures(examples).items()}
    except Exception as error:  # noqa: BLE001 - a view of the user's own; the run is done
        problems.append(_problem("figures", error))
    if model.config.get("explain"):
        making["attributions"] = lambda: said.extend(_explained(folder, model, examples))
    for what, make in making.items():
        try:
            with torch.inference_mode():
                make()
        except Exception as error:  # noqa: BLE001 - the run is done, whatever a picture of a strange dataset comes to
            problems.append(_problem(what, error))
    written = [path.name for pattern in ("*.csv", "figures") for path in sorted(folder.glob(pattern))]
    return said + problems + ([f"{', '.join(written)} in {folder}"] if written else [])


def keep_files(folder: Path, model: Model) -> None:
    """Copy the files that a model is made of into the run's folder; see `saved_config` in src/experiment/resume.py."""
    if not isinstance(model, MadeOfFiles):
        return
    for path in model.files():
        copy = folder / FILES / path.name
        if not copy.exists():
            copy.parent.mkdir(exist_ok=True)
            with output.replacing(copy, suffix="") as new:
                shutil.copyfile(path, new)


def _problem(what: str, error: Exception) -> str:
    return f"{what}: none, {type(error).__name__}: {error}".splitlines()[0]


def _explained(folder: Path, model: Model, examples: Examples) -> list[str]:
    from src.analysis.explain import figures  # noqa: PLC0415 - imports matplotlib, which runs without figures do not need

    return figures.save_all(folder / "figures", model, examples.split, examples.worst, examples.name)


def _attention(folder: Path, examples: Examples) -> None:
    """Save a figure for each kind of attention, of the split's first row."""
    model = examples.model
    if not isinstance(model, Attends):
        return
    batch = examples.batch([0])
    title = f"row 0 of {examples.name}"
    for kind, attended in model.attention(batch).items():
        if isinstance(attended, Attended):
            weights = attended.weights[:, 0].float().cpu().numpy()  # (layers, heads, T, S)
            names = modality_of(model.spec).cell_names
            (queries,), (keys,) = (names(ids[:1]) for ids in (attended.queries, attended.keys))
            figure = plots.examples.attention(weights, queries, keys, title)
        else:
            figure = _of_patches(attended, batch["input"][0].cpu(), title)
        plots.base.save(folder / "figures" / f"{kind}.png", figure)


def _of_patches(attended: AttendedPatches, row: Tensor, title: str) -> plots.base.Figure:
    """Over an image (C, H, W), or from patch to patch of a series (T, F)."""
    weights, grid, size = attended.weights[:, 0].float().cpu(), attended.grid, attended.patch_size
    if len(grid) == 1:
        patches = [f"{start}" for start in range(0, grid[0] * size, size)]
        patches = ["[first]"] * (weights.shape[-1] - len(patches)) + patches
        return plots.examples.attention(weights.numpy(), patches, patches, title)
    # to each patch: from the additional one, which the head sees, or on average from all
    additional = weights.shape[-1] - grid[0] * grid[1]
    seen = weights[..., 0, additional:] if additional else weights.mean(-2)
    return plots.examples.attention_on_image(row.numpy(), seen.unflatten(-1, grid).numpy(), size, title)
