"""An episode of a policy as curves."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from src.plots.examples import grid

SEEN = 8  # numbers of an observation that are drawn


def steps(observations: np.ndarray, actions: Sequence[int], rewards: Sequence[float], title: str) -> Figure:
    """Observations (T, S), actions (T,) and the return so far over the T steps of an episode.

    Args:
        rewards: of each step (T,).
    """
    seen = observations[:, :SEEN]
    figure, axes = grid(3, 1, (7.0, 1.6), (0, 0.25), (0.7, 0.5, 0.1, 0.4))
    numbers = np.arange(1, len(seen) + 1)
    axes[0, 0].plot(numbers, seen, linewidth=1, label=[str(i) for i in range(seen.shape[1])])
    axes[0, 0].legend(frameon=False, fontsize=7, ncols=seen.shape[1], loc="upper left")
    axes[1, 0].plot(numbers, actions, ".", markersize=2)
    axes[2, 0].plot(numbers, np.cumsum(rewards))
    for ax, name in zip(axes[:, 0], ("observation", "action", "return so far"), strict=True):
        ax.set_ylabel(name, fontsize=9)
        ax.spines[["top", "right"]].set_visible(False)
        ax.grid(alpha=0.3)
        ax.tick_params(labelsize=8)
    axes[2, 0].set_xlabel("step", fontsize=9)
    figure.suptitle(title, fontsize=10)
    return figure
