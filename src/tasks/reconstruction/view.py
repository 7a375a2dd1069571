"""View of rows sent through a code: scores, what comes back, where codes lie, what is drawn new."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from src import plots
from src.runtime.format import number
from src.spec import ImageSpec
from src.tasks.abilities import Encodes, MakesImages, Samples
from src.tasks.terminal import Table
from src.tasks.view import Examples, Maker, RowView

SHOWN = 16  # images
STEPS = 9  # of a code's number, from one end of the prior to the other
QUANTILES = (0.05, 0.95)  # of the prior that a map covers


class ScoreView(RowView):
    """The score of the anomaly a row: predictions are (N,), right answers the class where there are classes."""

    def table(self, predictions: Tensor, targets: Tensor | None, width: int) -> Table:
        """Score of each row, larger where it fits worse, and its class where there are classes."""
        rows = [[str(row), number(score)] for row, score in enumerate(predictions.tolist())]
        if targets is not None:
            rows = [[*cells, self._right(target)] for cells, target in zip(rows, targets, strict=True)]
        headings = ["row", "score", *(["actual"] if targets is not None else [])]
        return Table("scores of the anomaly, the higher the stranger", headings, rows)

    def rows(self, predictions: Tensor, targets: Tensor | None) -> list[dict[str, str]]:
        """The score, and the class where there are classes."""
        found = [{"score": f"{score:.6g}"} for score in predictions.tolist()]
        if targets is None:
            return found
        return [{"true": self._right(target)} | score for target, score in zip(targets, found, strict=True)]

    def figures(self, examples: Examples) -> dict[str, Maker]:
        """Pictures of codes, and the worst examples."""
        codes = {"codes": partial(self._codes, examples)} if isinstance(examples.model, Encodes) else {}
        return codes | super().figures(examples)

    def _codes(self, examples: Examples, folder: Path) -> None:
        """codes_map.png; of images reconstructions.png; of a model that draws images samples.png, traversals.png and,
        where the code has two numbers, decoded_map.png.
        """
        folder, model = folder / "figures", examples.model
        assert isinstance(model, Encodes)
        folder.mkdir(parents=True, exist_ok=True)
        inputs, device, names = examples.split["input"], examples.model.device, self.spec.class_names
        mapped = min(len(inputs), plots.embeddings.MAPPED)
        chosen = torch.linspace(0, len(inputs) - 1, mapped).long()
        pieces: list[Tensor] = chosen.split(256)  # type: ignore[no-untyped-call, unused-ignore]
        codes = torch.cat([model.code(inputs[rows].to(device)).float().cpu() for rows in pieces])
        labels = examples.split["target"][chosen].cpu().numpy() if names else None
        plots.base.save(folder / "codes_map.png", plots.embeddings.codes_map(codes.numpy(), labels, names))
        if not isinstance(self.spec.input, ImageSpec) or not isinstance(model, MakesImages):
            return
        worst = [row for row, _ in examples.worst[: SHOWN // 2]]
        rows = list(dict.fromkeys([*range(min(SHOWN // 2, len(inputs))), *worst]))
        batch = {"input": inputs[torch.tensor(rows)].to(device)}
        grid = plots.grid.grid
        grid(model.sample_images(batch)["reconstructions"]).save(folder / "reconstructions.png")
        if not isinstance(model, Samples):
            return
        grid(model.draw(64, seed=0)).save(folder / "samples.png")
        walks, across = traversals(model, codes, batch["input"][:1])
        grid(walks, across).save(folder / "traversals.png")
        if codes.shape[1] == 2:
            grid(decoded_map(model, device), plots.embeddings.MAP_SIDE).save(folder / "decoded_map.png")


def traversals(model: Encodes, codes: Tensor, start: Tensor) -> tuple[Tensor, int]:
    """Images from the code of one row (1, ...), a line for each of the numbers that vary most among `codes` (N, L),
    which goes through the prior from -3 to 3; and how many there are in a line.
    """
    chosen = codes.var(0, correction=0).topk(min(plots.embeddings.CODES, codes.shape[1])).indices
    walked = model.code(start).float().expand(len(chosen), STEPS, -1).clone()
    for line, place in enumerate(chosen.tolist()):
        walked[line, :, place] = torch.linspace(-3, 3, STEPS, device=walked.device)
    return model.images(model.decode(walked.flatten(0, 1))), STEPS


def decoded_map(model: Encodes, device: torch.device) -> Tensor:
    """Images of codes of two numbers, in even steps of the prior's probability; upwards the second number grows."""
    shares = torch.linspace(*QUANTILES, plots.embeddings.MAP_SIDE)
    steps = torch.distributions.Normal(0, 1).icdf(shares)  # type: ignore[no-untyped-call, unused-ignore]
    codes = torch.cartesian_prod(steps.flip(0), steps).flip(1)
    return model.images(model.decode(codes.to(device)))
