"""Verification of the pairs of a recipe's unseen classes without learning: by their pixels, and by eigenfaces.

    python benchmarks/verification.py [orl_verification ...] [--folder PLACE]

Each recipe's data module decodes the pictures and holds the classes out; the figures are of all pairs of its test part,
as the recipe's own run has them. Pixels are standardised; eigenfaces (Turk and Pentland 1991) are principal components
of the training pictures. Both are compared by their distance and by their cosine, pixels also less the mean training
picture. The number of components that is marked is the one with the lowest equal error rate on the validation classes.
The net's figures come from the recipe (`experiments/README.md`): this script trains no net.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from _rounds import where
from hydra.utils import instantiate
from rich.console import Console
from rich.table import Table
from sklearn.decomposition import PCA
from torch import Tensor

from src.config import compose
from src.errors import UserError
from src.metrics.verification import VerificationMetrics

COMPONENTS = (10, 20, 50, 100)
SHOWN = ("eer", "tar_at_1_percent", "auroc", "recall_at_1")


def rows(recipe: str, folder: Path) -> dict[str, tuple[Tensor, Tensor]]:
    """(standardised pixels, classes) of each part."""
    config = compose([f"experiment=vision/{recipe}"])
    if config.data.get("path") and (folder / config.data.path).exists():
        config.data.path = str(folder / config.data.path)
    data = instantiate(config.data, _convert_="all")
    data.prepare_data()
    data.setup("fit")
    mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (data.spec.input.mean, data.spec.input.std))
    return {
        name: (((part["input"][torch.arange(len(part["target"]))] - mean) / std).flatten(1), part["target"])
        for name, part in data.splits.items()
    }


def figures(features: Tensor, target: Tensor) -> dict[str, float]:
    metric = VerificationMetrics(temperature=0.1)
    metric.update(features / features.norm(dim=1).mean(), target)
    return {name: float(value) for name, value in metric.compute().items() if name in SHOWN}


def compared(recipe: str, folder: Path, seed: int) -> dict[str, dict[str, float]]:
    """The figures of each way, by its name."""
    parts = rows(recipe, folder)
    train, (pixels, target) = parts["train"][0], parts["test"]
    mean = train.mean(0)
    found = {
        "pixels, distance": figures(pixels, target),
        "pixels, cosine": figures(F.normalize(pixels), target),
        "pixels less the mean picture, cosine": figures(F.normalize(pixels - mean), target),
    }
    for way, scaled in (("distance", lambda features: features), ("cosine", F.normalize)):
        chosen: list[tuple[float, str]] = []
        for count in [count for count in COMPONENTS if count <= min(train.shape)]:
            projection = PCA(count, random_state=seed).fit(train.numpy())
            val, test = (
                scaled(torch.from_numpy(projection.transform(parts[name][0].numpy()).astype(np.float32)))
                for name in ("val", "test")
            )
            name = f"{count} eigenfaces, {way}"
            found[name] = figures(test, target)
            chosen.append((figures(val, parts["val"][1])["eer"], name))
        best = min(chosen)[1]
        found[f"{best} *"] = found.pop(best)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("recipes", nargs="*", default=["orl_verification"])
    parser.add_argument("--folder", type=Path, default=Path(), help="where the pictures' folders lie, unpacked")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    table = Table(caption=f"* the number of components that validation chose; {where()}")
    for heading in ("pairs of", "by", *SHOWN):
        table.add_column(heading)
    for recipe in options.recipes:
        try:
            for name, values in compared(recipe, options.folder, options.seed).items():
                table.add_row(recipe, name, *(f"{values[figure]:.4f}" for figure in SHOWN))
        except UserError as error:
            table.add_row(recipe, str(error))
    Console(width=None if sys.stdout.isatty() else 140).print(table)


if __name__ == "__main__":
    main()
