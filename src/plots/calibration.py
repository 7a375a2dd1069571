"""Calibration of a classifier's probabilities."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure


def calibration(confidence: Sequence[float], accuracy: Sequence[float], counts: Sequence[float], title: str) -> Figure:
    """Share that was right against the probability that the model gave, above how many rows are in each of K bins.

    Args:
        confidence: mean probability of the predicted class in each bin (K,).
        accuracy: share of right answers (K,).
        counts: rows (K,).
    """
    figure = Figure(figsize=(4.4, 5.2), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    upper.plot([0, 1], [0, 1], color="0.6", linestyle="--", linewidth=1)
    upper.plot(confidence, accuracy, marker="o")
    upper.set(ylabel="share that was right", xlim=(-0.01, 1.01), ylim=(-0.01, 1.01))
    upper.set_title(title, fontsize=10)
    lower.bar(confidence, counts, width=0.06)
    lower.set(xlabel="probability of the predicted class", ylabel="rows")
    for axes in (upper, lower):
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.3)
    return figure
