"""A picture of some rows before anything is trained on them: images, histograms of columns, channels of a series."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from src.plots.base import short
from src.plots.examples import gallery

ACROSS = 4  # in a row
COLUMNS = 12  # drawn of a table
GROUPS = 8  # that are told apart by colour
BINS = 30
CHANNELS = 6  # drawn of a series
STEPS = 5_000  # of a line
SHADES = {"train": "tab:blue", "val": "tab:orange", "test": "tab:green"}


def images(plain: np.ndarray, augmented: np.ndarray | None, names: Sequence[str], note: str = "") -> Figure:
    """Images (N, C, H, W) under their names, and where they are augmented, below each row of them what became of it."""
    if augmented is None:
        return gallery(plain, [short(name) for name in names], note)
    drawn, titles = [], []
    for start in range(0, len(plain), ACROSS):
        here = slice(start, start + ACROSS)
        drawn += [*plain[here], *augmented[here]]
        titles += [*(short(name) for name in names[here]), *["augmented"] * len(plain[here])]
    return gallery(np.stack(drawn), titles, note)


def histograms(
    columns: Mapping[str, np.ndarray],
    groups: np.ndarray,
    group_names: Sequence[str],
    categories: Mapping[str, Sequence[str]],
) -> Figure:
    """Histograms of up to 12 columns, coloured by group.

    Args:
        columns: values (N,) of each; of categories their codes.
        groups: number of the group that each row belongs to (N,).
        group_names: all of them.
        categories: of the columns that hold codes, the name of each code.
    """
    shown = dict(list(columns.items())[:COLUMNS])
    down = -(-len(shown) // ACROSS)
    across = min(ACROSS, len(shown))
    figure = Figure(figsize=(2.6 * across + 0.4, 2.1 * down + 0.5), layout="constrained")
    axes = figure.subplots(down, across, squeeze=False)
    for ax in list(axes.flat)[len(shown) :]:
        ax.set_axis_off()
    for ax, (name, values) in zip(axes.flat, shown.items(), strict=False):
        codes = len(categories.get(name, ()))
        bins = np.arange(codes + 1) - 0.5 if codes else np.histogram_bin_edges(values, BINS)
        split = [values[groups == group] for group in range(len(group_names))]
        ax.hist(split, bins, stacked=True, label=[short(group) for group in group_names])
        ax.set_title(short(name), fontsize=9)
        ax.tick_params(labelsize=7)
        ax.spines[["top", "right"]].set_visible(False)
        if 0 < codes <= GROUPS:
            ax.set_xticks(range(codes), [short(code, 10) for code in categories[name]], rotation=30, ha="right")
    if len(group_names) > 1:
        handles, labels = axes.flat[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper center", ncols=4, frameon=False, fontsize=8)
    return figure


def channels(values: np.ndarray, bounds: Mapping[str, tuple[int, int]], names: Sequence[str]) -> Figure:
    """Up to six channels of a series (T, F), the parts shaded: `bounds` has the first step of each, and that after."""
    count = min(values.shape[1], CHANNELS)
    figure = Figure(figsize=(9.0, 1.6 * count + 0.7), layout="constrained")
    axes = figure.subplots(count, 1, squeeze=False, sharex=True)[:, 0]
    steps = np.unique(np.linspace(0, len(values) - 1, min(len(values), STEPS)).astype(int))
    for channel, ax in enumerate(axes):
        for split, (begin, end) in bounds.items():
            ax.axvspan(begin, end, color=SHADES.get(split, "0.5"), alpha=0.12, linewidth=0, label=split)
        ax.plot(steps, values[steps, channel], color="black", linewidth=0.8)
        ax.set_ylabel(short(names[channel]), fontsize=9)
        ax.tick_params(labelsize=8)
        ax.spines[["top", "right"]].set_visible(False)
    axes[-1].set_xlabel("step", fontsize=9)
    handles, labels = axes[0].get_legend_handles_labels()
    if handles:
        figure.legend(handles, labels, loc="outside upper center", ncols=3, frameon=False, fontsize=9)
    return figure
