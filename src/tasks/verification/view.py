"""Pictures of a verification: error rates over all thresholds, the pairs hardest to tell, where the rows lie."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from src.data.core.chunks import spread
from src.metrics.verification import compared
from src.plots.base import save, short
from src.plots.embeddings import codes_map
from src.plots.examples import gallery

EMBEDDED = 2_000  # rows


SHOWN = 8  # pairs of each kind


ASKED = 256  # of the hardest pairs, among which each row is shown once


BATCH = 256


def save_all(folder: Path, model: Any, split: Mapping[str, Any]) -> None:
    """Into `folder`: most_alike_of_two.png and least_alike_of_one.png, the pairs that are hardest to tell, and
    embeddings_map.png.

    Args:
        model: an Embedder in evaluation mode.
        part: columns whose rows are compared, up to 2,000 of them spread evenly.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rows = spread(len(split["input"]), EMBEDDED)
    pieces = rows.split(BATCH)
    embeddings = torch.cat([model.embed(split["input"][piece].to(model.device)).float().cpu() for piece in pieces])
    target = split["target"][rows].cpu()
    names = model.spec.class_names
    save(folder / "embeddings_map.png", codes_map(embeddings.numpy(), target.numpy(), names))
    for name, same in (("most_alike_of_two", False), ("least_alike_of_one", True)):
        found = worst(embeddings, target, same)
        if found:
            images = [_beside(split["input"][rows[[first, second]]].cpu().numpy()) for first, second, _ in found]
            save(folder / f"{name}.png", gallery(np.stack(images), [_title(pair, target, names) for pair in found]))


def worst(embeddings: Tensor, target: Tensor, same: bool) -> list[tuple[int, int, float]]:
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
