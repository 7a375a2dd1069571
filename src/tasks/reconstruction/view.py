"""Pictures of what a model does that sends rows through a code: what comes back, where codes lie, what is drawn new."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from src.plots.base import save
from src.plots.embeddings import CODES, MAP_SIDE, MAPPED, codes_map
from src.plots.grid import grid
from src.spec import ImageSpec
from src.tasks.abilities import Samples

SHOWN = 16  # images


STEPS = 9  # of a code's number, from one end of the prior to the other


QUANTILES = (0.05, 0.95)  # of the prior that a map covers


def save_all(folder: Path, model: Any, split: Mapping[str, Any], worst: Sequence[tuple[int, float]]) -> None:
    """Into `folder`: codes_map.png; of images reconstructions.png; of a model that draws images samples.png,
    traversals.png and, where the code has two numbers, decoded_map.png.

    Args:
        model: a AutoencoderBase in evaluation mode.
        part: columns whose rows are shown.
        hardest: (row, loss) of the part.
    """
    folder.mkdir(parents=True, exist_ok=True)
    inputs = split["input"]
    chosen = torch.linspace(0, len(inputs) - 1, min(len(inputs), MAPPED)).long()
    codes = torch.cat([model.code(inputs[rows].to(model.device)).float().cpu() for rows in chosen.split(256)])
    labels = split["target"][chosen].cpu().numpy() if model.spec.class_names else None
    save(folder / "codes_map.png", codes_map(codes.numpy(), labels, model.spec.class_names))
    if not isinstance(model.spec.input, ImageSpec):
        return
    rows = list(dict.fromkeys([*range(min(SHOWN // 2, len(inputs))), *(row for row, _ in worst[: SHOWN // 2])]))
    batch = {"input": inputs[torch.tensor(rows)].to(model.device)}
    grid(model.sample_images(batch)["reconstructions"]).save(folder / "reconstructions.png")
    if not isinstance(model, Samples):
        return
    grid(model.draw(64, seed=0)).save(folder / "samples.png")
    walks, across = traversals(model, codes, batch["input"][:1])
    grid(walks, across).save(folder / "traversals.png")
    if codes.shape[1] == 2:
        grid(decoded_map(model), MAP_SIDE).save(folder / "decoded_map.png")


def traversals(model: Any, codes: Tensor, start: Tensor) -> tuple[Tensor, int]:
    """Images from the code of one row (1, ...), a line for each of the numbers that vary most among `codes` (N, L),
    which goes through the prior from -3 to 3; and how many there are in a line.
    """
    chosen = codes.var(0, correction=0).topk(min(CODES, codes.shape[1])).indices
    walked = model.code(start).float().expand(len(chosen), STEPS, -1).clone()
    for line, place in enumerate(chosen.tolist()):
        walked[line, :, place] = torch.linspace(-3, 3, STEPS, device=walked.device)
    return model.images(model.decode(walked.flatten(0, 1))), STEPS


def decoded_map(model: Any) -> Tensor:
    """Images of codes of two numbers, in even steps of the prior's probability; upwards the second number grows."""
    steps = torch.distributions.Normal(0, 1).icdf(torch.linspace(*QUANTILES, MAP_SIDE))
    codes = torch.cartesian_prod(steps.flip(0), steps).flip(1)
    return model.images(model.decode(codes.to(model.device)))
