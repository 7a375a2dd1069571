"""Maps of latent codes in the plane."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from src.plots.base import short

MAPPED = 2_000  # codes


CODES = 10  # whose numbers are walked through


MAP_SIDE = 15  # images each way of a map of two numbers


CLASSES = 10  # told apart by colour


def codes_map(codes: np.ndarray, labels: np.ndarray | None, class_names: Sequence[str]) -> Figure:
    """Codes (N, L) in the plane, of more than two numbers along their two principal components; coloured by class."""
    names = [f"code {place}" for place in range(codes.shape[1])]
    if codes.shape[1] > 2:
        centred = codes - codes.mean(0)
        _, spread, directions = np.linalg.svd(centred, full_matrices=False)
        share = np.square(spread) / max(np.square(spread).sum(), 1e-12)
        codes = centred @ directions[:2].T
        names = [f"principal component {place + 1} ({share[place]:.0%} of the variance)" for place in range(2)]
    elif codes.shape[1] == 1:
        codes, names = np.column_stack([codes, np.zeros(len(codes))]), ["code 0", ""]
    figure = Figure(figsize=(6.0, 4.6), layout="constrained")
    axes = figure.add_subplot()
    groups = [None] if labels is None else sorted(set(labels.tolist()))
    for place, group in enumerate(groups):
        here = slice(None) if group is None else labels == group
        name = None if group is None else short(class_names[int(group)])
        color = f"C{place}" if place < CLASSES else "0.7"
        x, y = codes[here].T
        axes.scatter(x, y, s=8, alpha=0.6, linewidths=0, color=color, label=name if place < CLASSES else None)
    axes.set(xlabel=names[0], ylabel=names[1])
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.3)
    if labels is not None:
        figure.legend(loc="outside right upper", frameon=False, fontsize=8, markerscale=2)
    return figure
