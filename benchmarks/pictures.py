"""Results of the recipes of pictures, beside the majority, the nearest neighbour and boosting on the same rows.

    LABBOOK_DATA_ROOT=../shared/data python benchmarks/pictures.py [sign_digits ...] [--folder PLACE]

Each recipe's data module decodes and splits the pictures; the others get the same training rows, and the validation
rows serve neither. The neighbour is the training picture with the nearest pixels. Boosting is scikit-learn's
HistGradientBoosting, untuned, on the pixels where there are at most a thousand, else on 50 principal components of the
training pictures. The nets' own figures come from the recipes (`experiments/README.md`): this script trains no net.
Where pictures are not at hand, their row says so.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
from _rounds import where
from hydra.utils import instantiate
from rich.console import Console
from rich.table import Table
from sklearn.decomposition import PCA
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import accuracy_score, roc_auc_score
from sklearn.neighbors import KNeighborsClassifier

from src.config import compose
from src.errors import UserError

RECIPES = ("sign_digits", "orl_faces", "cifar_subset", "pneumonia")
PIXELS = 1_000
COMPONENTS = 50


def rows(recipe: str, folder: Path) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """(pixels, targets) of the training and the test part."""
    config = compose([f"experiment=vision/{recipe}"])
    place = folder / config.data.path
    if place.exists():
        config.data.path = str(place)
    data = instantiate(config.data, _convert_="all")
    data.prepare_data()
    data.setup("fit")
    return {
        name: (data.splits[name]["input"].flatten(1).numpy().astype(np.float32), data.splits[name]["target"].numpy())
        for name in ("train", "test")
    }


def compared(recipe: str, folder: Path, seed: int) -> dict[str, str]:
    """The columns of a recipe's row: figures of the test part."""
    parts = rows(recipe, folder)
    (inputs, target), (unseen, truth) = parts["train"], parts["test"]
    majority = float((truth == np.bincount(target).argmax()).mean())
    neighbour = KNeighborsClassifier(1, algorithm="brute").fit(inputs, target)
    nearest = accuracy_score(truth, neighbour.predict(unseen))
    features = f"{inputs.shape[1]} pixels"
    if inputs.shape[1] > PIXELS:
        projection = PCA(COMPONENTS, random_state=seed).fit(inputs)
        inputs, unseen = projection.transform(inputs), projection.transform(unseen)
        features = f"{COMPONENTS} components"
    model = HistGradientBoostingClassifier(random_state=seed, early_stopping=False).fit(inputs, target)
    accuracy = accuracy_score(truth, model.predict(unseen))
    auroc = f"{roc_auc_score(truth, model.predict_proba(unseen)[:, 1]):.4f}" if len(model.classes_) == 2 else "-"
    return {
        "rows": f"{len(target)} / {len(truth)}",
        "majority": f"{majority:.4f}",
        "neighbour": f"{nearest:.4f}",
        "boosting on": features,
        "accuracy": f"{accuracy:.4f}",
        "AUROC": auroc,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("recipes", nargs="*", default=RECIPES)
    parser.add_argument("--folder", type=Path, default=Path(), help="where the pictures' folders lie, unpacked")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    table = Table(caption=where())
    for heading in ("pictures", "train / test", "majority", "neighbour", "boosting on", "accuracy", "AUROC"):
        table.add_column(heading)
    for recipe in options.recipes:
        try:
            table.add_row(recipe, *compared(recipe, options.folder, options.seed).values())
        except UserError as error:
            table.add_row(recipe, str(error))
    Console(width=None if sys.stdout.isatty() else 140).print(table)


if __name__ == "__main__":
    main()
