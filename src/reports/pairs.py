"""Pictures of a verification: error rates over all thresholds, the pairs hardest to tell, where the rows lie."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from src.reports.codes import codes_map
from src.reports.examples import gallery
from src.reports.figures import save, short
from src.reports.rows import spread
from src.tasks.pairs import compared

EMBEDDED = 2_000  # rows
SHOWN = 8  # pairs of each kind
ASKED = 256  # of the hardest pairs, among which each row is shown once
BATCH = 256
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


def save_all(folder: Path, model: Any, part: Mapping[str, Any]) -> None:
    """Into `folder`: most_alike_of_two.png and least_alike_of_one.png, the pairs that are hardest to tell, and
    embeddings_map.png.

    Args:
        model: an Embedder in evaluation mode.
        part: columns whose rows are compared, up to 2,000 of them spread evenly.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rows = spread(len(part["input"]), EMBEDDED)
    pieces = rows.split(BATCH)
    embeddings = torch.cat([model.embed(part["input"][piece].to(model.device)).float().cpu() for piece in pieces])
    target = part["target"][rows].cpu()
    names = model.spec.class_names
    save(folder / "embeddings_map.png", codes_map(embeddings.numpy(), target.numpy(), names))
    for name, same in (("most_alike_of_two", False), ("least_alike_of_one", True)):
        found = hardest(embeddings, target, same)
        if found:
            images = [_beside(part["input"][rows[[first, second]]].cpu().numpy()) for first, second, _ in found]
            save(folder / f"{name}.png", gallery(np.stack(images), [_title(pair, target, names) for pair in found]))


def hardest(embeddings: Tensor, target: Tensor, same: bool) -> list[tuple[int, int, float]]:
    """(row, row, similarity): of two classes the most alike pairs, of one the least alike; each row at most once.

    Args:
        embeddings: of unit length (N, E).
        target: their classes (N,).
    """
    scores, pairs = torch.empty(0), torch.empty(0, 2, dtype=torch.int64)
    start = 0
    for some in compared(embeddings, target):
        places = (some.first & (some.same == same)).nonzero()
        scores = torch.cat([scores, some.scores[tuple(places.T)]])
        pairs = torch.cat([pairs, places + torch.tensor([start, 0])])
        kept = scores.topk(min(ASKED, len(scores)), largest=not same).indices
        scores, pairs, start = scores[kept], pairs[kept], start + len(some.scores)
    found: list[tuple[int, int, float]] = []
    seen: set[int] = set()
    for (first, second), score in zip(pairs.tolist(), scores.tolist(), strict=True):
        if not {first, second} & seen and len(found) < SHOWN:
            found.append((first, second, score))
            seen |= {first, second}
    return found


def _beside(images: np.ndarray) -> np.ndarray:
    """Two images (2, C, H, W) as one, a narrow gap between them."""
    gap = np.full((*images.shape[1:3], max(1, images.shape[3] // 16)), images.max(), dtype=images.dtype)
    return np.concatenate([images[0], gap, images[1]], axis=2)


def _title(pair: tuple[int, int, float], target: Tensor, names: Sequence[str]) -> str:
    first, second, score = pair
    who = dict.fromkeys(short(names[int(target[row])], 12) for row in (first, second))
    return f"{' / '.join(who)}\n{score:.3f}"
