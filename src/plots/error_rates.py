"""Error rates of verification over all thresholds."""

from __future__ import annotations

from statistics import NormalDist

from matplotlib.figure import Figure

TICKS = (0.001, 0.01, 0.05, 0.2, 0.5, 0.8, 0.95)


def error_rates(threshold: list[float], accepted: list[float], false: list[float], eer: float) -> Figure:
    """ROC with the false accepts on a logarithmic scale, and DET on normal scales (Martin et al. 1997, "The DET curve
    in assessment of detection task performance"), both with the equal error rate marked.

    Args:
        threshold: from the strictest on.
        accepted, false: of pairs of one class, of two, the shares that are at least that much alike.
        eer: the equal error rate.
    """
    figure = Figure(figsize=(8.6, 4.0), layout="constrained")
    roc, det = figure.subplots(1, 2)
    least = min([share for share in false if share > 0], default=1e-3)
    roc.step([max(share, least / 2) for share in false], accepted, where="post")
    roc.plot([eer], [1 - eer], "o", color="tab:red", label=f"equal error rate {eer:.4f}")
    roc.axvline(0.01, color="0.6", linestyle="--", linewidth=1, label="1 % false accepts")
    roc.set(xscale="log", xlabel="false accept rate", ylabel="true accept rate", ylim=(-0.01, 1.01))
    roc.legend(frameon=False, fontsize=8, loc="lower right")
    low, high = min(least / 2, 0.005), 0.98
    points = [
        (_normal(share, low, high), _normal(1 - kept, low, high)) for share, kept in zip(false, accepted, strict=True)
    ]
    det.plot(*zip(*points, strict=True))
    ends = _normal(low, low, high), _normal(high, low, high)
    det.plot(ends, ends, color="0.6", linestyle="--", linewidth=1)
    det.plot([_normal(eer, low, high)], [_normal(eer, low, high)], "o", color="tab:red")
    ticks = [tick for tick in TICKS if low <= tick <= high]
    places, names = [_normal(tick, low, high) for tick in ticks], [f"{100 * tick:g} %" for tick in ticks]
    det.set_xticks(places, names, fontsize=8)
    det.set_yticks(places, names, fontsize=8)
    det.set(xlabel="false accept rate", ylabel="false reject rate", xlim=ends, ylim=ends)
    for axes in (roc, det):
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.3)
    return figure


def _normal(share: float, low: float, high: float) -> float:
    return NormalDist().inv_cdf(min(max(share, low), high))
