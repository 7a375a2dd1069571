"""Pictures of attributions: over images, as bars of columns, on words; and how predictions go as cells are removed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from src.analysis.explain import attribution, targets
from src.analysis.explain.attribution import Deletion, token_names
from src.plots.base import save, short
from src.plots.examples import displayed, grid
from src.plots.spectrograms import upright
from src.spec import ImageSpec, InteractionsSpec, SeriesSpec, TableSpec, TextSpec
from src.spec.interactions import HISTORY
from src.tasks import view

FIRST, HARDEST = 4, 4  # rows drawn: the first ones, of different classes, and those with the largest losses
TESTED = 64  # rows of a deletion
COLUMN_ROWS = 500  # rows of a table over which its columns are compared
LARGEST = 2**18  # numbers in all rows of a deletion
BARS, COLUMN_BARS = 8, 20  # columns drawn of a row, and of a table
LETTERS, WORDS = 90, 200  # of a line of text, and of a text
FOR, AGAINST = "tab:red", "tab:blue"


def save_all(
    folder: Path, model: Any, split: Mapping[str, Any], worst: Sequence[tuple[int, float]], name: str
) -> list[str]:
    """Draws attributions of some rows, those of a table's columns over many rows, and the deletion test.

    Args:
        folder: where `explained_rows.png`, `explained_deletion.png` and `explained_columns.png` go.
        model: in evaluation mode.
        part: columns that an index (B,) takes rows from.
        hardest: rows of the part with the largest losses, the largest first.
        name: the part's.

    Returns:
        For each method a line that says whether its attributions mean anything; or why there are none.
    """
    problem = targets.incompatibility(model)
    if problem is not None:
        return [problem]
    rows = _examples(model.spec, split, worst)
    x, target = (split[column][torch.tensor(rows)] if column in split else None for column in ("input", "target"))
    found = attribution.attributions(model, x)
    titles = [f"{title}\nrow {row} of {name}" for title, row in zip(_titles(model, x, target), rows, strict=True)]
    save(folder / "explained_rows.png", drawn(model.spec, x.cpu(), found, titles))
    count = COLUMN_ROWS if isinstance(model.spec.input, TableSpec) else min(TESTED, max(8, LARGEST // x[0].numel()))
    x = split["input"][torch.arange(min(count, len(split["input"])))]
    found = attribution.attributions(model, x)
    if isinstance(model.spec.input, TableSpec):
        (values,) = found.values()
        save(folder / "explained_columns.png", _columns(attribution.column_names(model.spec), values.abs().mean(0)))
    tests = {method: attribution.deletion(model, x, values) for method, values in found.items()}
    save(folder / "explained_deletion.png", _deletions(tests))
    return [test.line(method) for method, test in tests.items()]


def save_pictures(folder: Path, model: Any, x: Tensor, names: Sequence[str], first: int) -> None:
    """A file for each image (B, C, H, W): itself and its attributions.

    Args:
        names: of the images; the file's own is the number of the image, from `first` on, and the name's last part.
    """
    found = attribution.attributions(model, x)
    for i, title in enumerate(_titles(model, x, None)):
        values = {method: value[i : i + 1] for method, value in found.items()}
        figure = drawn(model.spec, x[i : i + 1].cpu(), values, [f"{short(Path(names[i]).name, 20)}\n{title}"])
        save(folder / f"{first + i:03d}_{Path(names[i]).stem}.png", figure)


def _examples(spec: Any, split: Mapping[str, Any], worst: Sequence[tuple[int, float]]) -> list[int]:
    rows = list(range(min(FIRST, len(split["input"]))))
    if spec.class_names and "target" in split:
        classes = split["target"][torch.arange(min(1000, len(split["input"])))].tolist()
        rows = sorted({label: row for row, label in reversed(list(enumerate(classes)))}.values())[:FIRST]
    return list(dict.fromkeys([*rows, *(row for row, _ in worst[:HARDEST])]))


def _titles(model: Any, x: Tensor, target: Tensor | None) -> list[str]:
    """For each raw row what is true, where that is known, and what was predicted."""
    if model.task.name == "forecasting":
        return ["mean of the forecast"] * len(x)
    if model.task.name in ("detection", "ranking"):
        return _found(model, x.to(model.device))
    with torch.inference_mode():
        predictions = model.predict_step({"input": x.to(model.device)}, 0).cpu()
    known = target is not None
    judged = view.judged(model.spec, predictions, target.cpu() if known else torch.zeros(len(x)))
    return [
        (f"true {short(row['true'], 16)}, " if known else "")
        + f"predicted {short(row['predicted'], 16)}"
        + (f" ({float(row['probability']):.2f})" if "probability" in row else "")
        for row in judged
    ]


def _found(model: Any, x: Tensor) -> list[str]:
    """The class of the surest box of each image, or the first item of each user's list."""
    with torch.inference_mode():
        chosen = targets.predicted(model, x)
        sure = targets.kept(model, x, chosen).tolist()
    if model.task.name == "ranking":
        return [f"recommended: {name}" for name in view.item_names(model.spec, (chosen + 1).tolist())]
    names = [model.spec.class_names[i] for i in (chosen % model.spec.num_classes).tolist()]
    return [f"surest box: {short(name, 16)} ({score:.2f})" for name, score in zip(names, sure, strict=True)]


# rows ----------------------------------------------------------------------------------------------------------------


def drawn(spec: Any, x: Tensor, found: Mapping[str, Tensor], titles: Sequence[str]) -> Figure:
    """Rows (N, ...) and what their predictions rest on: red speaks for a prediction, blue against it.

    Args:
        found: attributions by method, as `attribution.attributions` gives them.
        titles: of the N rows.
    """
    if isinstance(spec.input, ImageSpec):
        over = {method: upright(spec, values.numpy()) for method, values in found.items()}
        return _overlays(upright(spec, x.numpy()), over, titles)
    ((method, values),) = found.items()
    if isinstance(spec.input, TextSpec):
        names = [token_names(spec.input.tokenizer, ids) for ids in x.tolist()]
        return _words(names, values.tolist(), titles, method)
    if isinstance(spec.input, InteractionsSpec):
        names = [view.item_names(spec, filter(None, row)) for row in x[:, HISTORY : HISTORY + values.shape[1]].tolist()]
        return _words(names, values.tolist(), titles, method)
    if isinstance(spec.input, SeriesSpec):
        return _heat(values.numpy(), attribution.column_names(spec), titles, method)
    cells = [view.cells(spec, row) for row in x.tolist()]
    return _bars(attribution.column_names(spec), cells, values.numpy(), titles, method)


def _overlays(images: np.ndarray, found: Mapping[str, np.ndarray], titles: Sequence[str]) -> Figure:
    """A line for each image: itself, and over it each method's attributions, the stronger the less transparent."""
    height, width = images.shape[2:]
    side = 1.5 / max(height, width)
    size = max(1.2, side * width), side * height
    figure, axes = grid(len(images), 1 + len(found), size, (0.75, 0.55), (0.5, 0.1, 0.5, 0.6))
    for i, (line, title) in enumerate(zip(axes, titles, strict=True)):
        shown = displayed(images[i])
        line[0].imshow(shown, cmap="gray", interpolation="nearest")
        line[0].set_title(title, fontsize=7)
        grey = shown if shown.ndim == 2 else shown.mean(2)
        for ax, (method, values) in zip(line[1:], found.items(), strict=True):
            ax.imshow(grey, cmap="gray", interpolation="nearest", alpha=0.4)  # pale, on white
            ax.imshow(_colours(values[i]), interpolation="nearest")
            ax.set_title(method, fontsize=8)
    for ax in axes.flat:
        ax.set_axis_off()
    return figure


def _colours(values: np.ndarray) -> np.ndarray:
    """Attributions (...) as red or blue (..., 4), with the strongest of them almost opaque."""
    strength = np.abs(values) / max(np.abs(values).max(), 1e-12)
    colours = np.zeros((*values.shape, 4))
    colours[values > 0, 0], colours[values < 0, 2] = 0.9, 1
    colours[values < 0, 1] = 0.3
    colours[..., 3] = 0.8 * strength
    return colours


def _bars(
    names: Sequence[str], rows: Sequence[Sequence[str]], values: np.ndarray, titles: Sequence[str], method: str
) -> Figure:
    """For each row its strongest columns, their cells and their attributions (N, F)."""
    count, across = min(BARS, len(names)), min(2, len(rows))
    label = 0.075 * (min(20, max(map(len, names))) + 10)
    size = (2.2, 0.2 * count + 0.1)
    figure, axes = grid(math.ceil(len(rows) / across), across, size, (label + 0.3, 0.7), (label, 0.5, 0.2, 0.5))
    for ax in axes.flat[len(rows) :]:
        ax.set_axis_off()
    for ax, row, value, title in zip(axes.flat, rows, values, titles, strict=False):
        places = np.argsort(-np.abs(value), kind="stable")[:count][::-1]
        ax.barh(range(count), value[places], color=[FOR if value[i] > 0 else AGAINST for i in places])
        ax.set_yticks(range(count), [f"{short(names[i], 20)} = {short(row[i], 12)}" for i in places], fontsize=7)
        ax.axvline(0, color="black", linewidth=0.6)
        ax.set_title(title, fontsize=8)
        ax.tick_params(axis="x", labelsize=7)
        ax.spines[["top", "right"]].set_visible(False)
    figure.supxlabel(f"{method}: for (red) and against (blue) the prediction", fontsize=8)
    return figure


def _columns(names: Sequence[str], means: Tensor) -> Figure:
    """Mean absolute attributions (F,) of the columns, the largest first."""
    places = means.argsort(descending=True, stable=True)[:COLUMN_BARS].flip(0).tolist()
    label = 0.3 + 0.085 * min(28, max(map(len, names)))
    figure, axes = grid(1, 1, (3.6, 0.22 * len(places) + 0.1), (0, 0), (label, 0.5, 0.2, 0.15))
    axes[0, 0].barh(range(len(places)), means[places].tolist())
    axes[0, 0].set_yticks(range(len(places)), [short(names[i], 28) for i in places], fontsize=8)
    axes[0, 0].set_xlabel("mean absolute attribution", fontsize=9)
    axes[0, 0].tick_params(axis="x", labelsize=8)
    axes[0, 0].spines[["top", "right"]].set_visible(False)
    return figure


def _words(
    names: Sequence[Sequence[str]], values: Sequence[Sequence[float]], titles: Sequence[str], method: str
) -> Figure:
    """Texts on lines of letters of one width, each token on its colour; the first 200 tokens of a text."""
    lines: list[list[tuple[int, str, float]]] = []  # of (place, token, strength)
    heads: dict[int, str] = {}
    for tokens, row, title in zip(names, values, titles, strict=True):
        heads[len(lines)] = title.replace("\n", ", ")
        lines += [[], []]
        most, place = max(map(abs, row), default=0) or 1.0, 0
        for token, value in zip(tokens[:WORDS], row, strict=False):
            token = short(token, LETTERS)
            if place + len(token) > LETTERS:
                lines.append([])
                place = 0
            lines[-1].append((place, token, value / most))
            place += len(token) + 1
        lines.append([])
    figure, axes = grid(1, 1, (8.4, 0.2 * len(lines)), (0, 0), (0.1, 0.3, 0.1, 0.1))
    ax = axes[0, 0]
    ax.set(xlim=(0, LETTERS), ylim=(len(lines), 0))
    ax.set_axis_off()
    for number, line in enumerate(lines):
        if number in heads:
            ax.text(0, number + 0.5, heads[number], fontsize=8, weight="bold", va="center")
        for place, token, strength in line:
            box = {"facecolor": FOR if strength > 0 else AGAINST, "alpha": 0.7 * abs(strength), "pad": 1, "lw": 0}
            ax.text(place, number + 0.5, token, fontsize=8, family="monospace", va="center", bbox=box)
    figure.supxlabel(f"{method}: for (red) and against (blue) the prediction", fontsize=8)
    return figure


def _heat(values: np.ndarray, names: Sequence[str], titles: Sequence[str], method: str) -> Figure:
    """Windows (N, T, F) of a series as maps, a line for each channel."""
    label = 0.3 + 0.075 * min(20, max(map(len, names)))
    size = (5.5, max(0.5, min(3.0, 0.22 * len(names))))
    figure, axes = grid(len(values), 1, size, (0, 0.7), (label, 0.6, 0.2, 0.5))
    for ax, value, title in zip(axes[:, 0], values, titles, strict=True):
        most = max(np.abs(value).max(), 1e-12)
        ax.imshow(value.T, cmap="RdBu_r", vmin=-most, vmax=most, aspect="auto", interpolation="nearest")
        ax.set_yticks(range(len(names)), [short(name, 20) for name in names], fontsize=7)
        ax.set_title(title, fontsize=8)
        ax.tick_params(axis="x", labelsize=7)
    figure.supxlabel(f"step of the window; {method}: raises (red) or lowers (blue) the output", fontsize=8)
    return figure


# the test ------------------------------------------------------------------------------------------------------------


def _deletions(tests: Mapping[str, Deletion]) -> Figure:
    """A curve for each method, and that of a random order."""
    figure, axes = grid(1, 1, (4.4, 3.0), (0, 0), (0.7, 0.5, 0.15, 0.2))
    ax = axes[0, 0]
    for method, test in tests.items():
        ax.plot(100 * test.shares, test.ranked.mean(1), label=f"{method}: {test.areas[0]:.2f}")
    test = next(iter(tests.values()))
    ax.plot(100 * test.shares, test.random.mean(1), "--", color="0.5", label=f"at random: {test.areas[1]:.2f}")
    what = "probability of the predicted class" if test.what == "probability" else "share left of the prediction"
    ax.set_xlabel("removed, % of the cells", fontsize=9)
    ax.set_ylabel(what, fontsize=9)
    ax.set_ylim(bottom=0)
    ax.grid(alpha=0.3)
    ax.tick_params(labelsize=8)
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(frameon=False, fontsize=8, title="area under the curve", title_fontsize=8)
    return figure
