"""View of a verification: similarities, the pairs hardest to tell, where the rows lie."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from src import plots
from src.data.core.chunks import spread
from src.metrics.verification import compared
from src.runtime.format import number
from src.tasks.abilities import Embeds
from src.tasks.terminal import Table
from src.tasks.view import Examples, Maker, RowView

EMBEDDED = 2_000  # rows
SHOWN = 8  # pairs of each kind
ASKED = 256  # of the hardest pairs, among which each row is shown once
BATCH = 256
COLUMNS = 8  # rows that the printed ones are compared with


class SimilarityView(RowView):
    """View of similarities: predictions are (N, N), right answers the classes (N,)."""

    def table(self, predictions: Tensor, targets: Tensor | None, width: int) -> Table:
        """Similarity of each row to each of the first rows, and its class where that is known."""
        shown = min(len(predictions), COLUMNS)
        rows = [[str(row), *map(number, values[:shown])] for row, values in enumerate(predictions.tolist())]
        if targets is not None:
            rows = [[*cells, self._right(target)] for cells, target in zip(rows, targets, strict=True)]
        headings = ["row", *map(str, range(shown)), *(["actual"] if targets is not None else [])]
        return Table("how alike the rows are", headings, rows)

    def figures(self, examples: Examples) -> dict[str, Maker]:
        """Pairs and a map of the rows; no row is judged alone, and so none is the worst."""
        return {"pairs": partial(self._pairs, examples)} if isinstance(examples.model, Embeds) else {}

    def _pairs(self, examples: Examples, folder: Path) -> None:
        """most_alike_of_two.png and least_alike_of_one.png, the pairs that are hardest to tell, and embeddings_map.png,
        of up to 2,000 rows spread evenly.
        """
        folder, model, split = folder / "figures", examples.model, examples.split
        assert isinstance(model, Embeds)
        folder.mkdir(parents=True, exist_ok=True)
        rows, device = spread(len(examples), EMBEDDED), examples.model.device
        pieces: list[Tensor] = rows.split(BATCH)  # type: ignore[no-untyped-call, unused-ignore]
        embeddings = torch.cat([model.embed(split["input"][piece].to(device)).float().cpu() for piece in pieces])
        target, names = split["target"][rows].cpu(), self.spec.class_names
        figure = plots.embeddings.codes_map(embeddings.numpy(), target.numpy(), names)
        plots.base.save(folder / "embeddings_map.png", figure)
        for name, same in (("most_alike_of_two", False), ("least_alike_of_one", True)):
            found = worst(embeddings, target, same)
            if found:
                images = [_beside(split["input"][rows[[first, second]]].cpu().numpy()) for first, second, _ in found]
                figure = plots.examples.gallery(np.stack(images), [_title(pair, target, names) for pair in found])
                plots.base.save(folder / f"{name}.png", figure)


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
    who = dict.fromkeys(plots.base.short(names[int(target[row])], 12) for row in (first, second))
    return f"{' / '.join(who)}\n{score:.3f}"
