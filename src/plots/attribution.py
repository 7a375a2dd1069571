"""Attributions drawn: over images, as bars of columns, on words; and how predictions go as cells are removed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from src.plots.base import short
from src.plots.examples import displayed, grid

BARS, COLUMN_BARS = 8, 20  # columns drawn of a row, and of a table
LETTERS, WORDS = 90, 200  # of a line of text, and of a text
FOR, AGAINST = "tab:red", "tab:blue"


def overlays(images: np.ndarray, found: Mapping[str, np.ndarray], titles: Sequence[str]) -> Figure:
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


def bars(
    names: Sequence[str], rows: Sequence[Sequence[str]], values: np.ndarray, titles: Sequence[str], method: str
) -> Figure:
    """Draw the strongest columns of each row, their cells and their attributions (N, F)."""
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


def columns(names: Sequence[str], means: np.ndarray) -> Figure:
    """Mean absolute attributions (F,) of the columns, the largest first."""
    places = np.argsort(-means, kind="stable")[:COLUMN_BARS][::-1].tolist()
    label = 0.3 + 0.085 * min(28, max(map(len, names)))
    figure, axes = grid(1, 1, (3.6, 0.22 * len(places) + 0.1), (0, 0), (label, 0.5, 0.2, 0.15))
    axes[0, 0].barh(range(len(places)), means[places].tolist())
    axes[0, 0].set_yticks(range(len(places)), [short(names[i], 28) for i in places], fontsize=8)
    axes[0, 0].set_xlabel("mean absolute attribution", fontsize=9)
    axes[0, 0].tick_params(axis="x", labelsize=8)
    axes[0, 0].spines[["top", "right"]].set_visible(False)
    return figure


def words(
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


def heat(values: np.ndarray, names: Sequence[str], titles: Sequence[str], method: str) -> Figure:
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


def deletions(
    shares: np.ndarray, curves: Mapping[str, np.ndarray], random: tuple[str, np.ndarray], what: str
) -> Figure:
    """Curves of what is left of predictions as cells are removed: a curve for each method, and that of a random order.

    Args:
        shares: of the cells that were removed (S,), from 0 to 1.
        curves: values (S,), by label.
        random: label and values (S,) of the random order.
        what: the axis of the values.
    """
    figure, axes = grid(1, 1, (4.4, 3.0), (0, 0), (0.7, 0.5, 0.15, 0.2))
    ax = axes[0, 0]
    for label, values in curves.items():
        ax.plot(100 * shares, values, label=label)
    ax.plot(100 * shares, random[1], "--", color="0.5", label=random[0])
    ax.set_xlabel("removed, % of the cells", fontsize=9)
    ax.set_ylabel(what, fontsize=9)
    ax.set_ylim(bottom=0)
    ax.grid(alpha=0.3)
    ax.tick_params(labelsize=8)
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(frameon=False, fontsize=8, title="area under the curve", title_fontsize=8)
    return figure
