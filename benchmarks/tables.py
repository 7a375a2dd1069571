"""Results of the recipes of tables, beside the majority and scikit-learn's gradient boosting on the same rows.

    LABBOOK_DATA_ROOT=../shared/data python benchmarks/tables.py [titanic ...]

Each recipe's data module splits and encodes the rows; boosting gets the same training rows, codes below 255 as
categories. The validation rows serve neither. Folds are averaged. The nets' own figures come from the recipes
(`experiments/README.md`): this script trains no net. Where a table is not at hand, its row says so.
"""

from __future__ import annotations

import argparse

import numpy as np
from _rounds import where
from hydra.utils import instantiate
from rich.console import Console
from rich.table import Table
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import accuracy_score, roc_auc_score

from src.config import compose
from src.errors import UserError

RECIPES = ("titanic", "german_credit", "credit_default", "adult")


def rows(recipe: str, fold: int) -> tuple[dict[str, tuple[np.ndarray, np.ndarray]], int]:
    """(inputs, targets) of the training and the test part, and how many of the last columns are categories."""
    config = compose([f"experiment=tabular/{recipe}", f"data.fold={fold}"])
    data = instantiate(config.data, _convert_="all")
    data.prepare_data()
    data.setup("fit")
    parts = {name: tuple(data.splits[name][key].numpy() for key in ("input", "target")) for name in ("train", "test")}
    return parts, len(data.spec.input.cardinalities)


def boosted(recipe: str, fold: int, seed: int) -> dict[str, float]:
    """Test accuracy of the majority, and accuracy and AUROC of gradient boosting, on one split."""
    parts, categories = rows(recipe, fold)
    inputs, target = parts["train"]
    columns = inputs.shape[1]
    # it takes codes up to 255
    small = [i for i in range(columns - categories, columns) if inputs[:, i].max() < 255]
    model = HistGradientBoostingClassifier(categorical_features=small, random_state=seed, early_stopping=False)
    model.fit(inputs, target)
    inputs, truth = parts["test"]
    inputs = np.where(np.isin(np.arange(columns), small) & (inputs > 254), 0, inputs)
    probability = model.predict_proba(inputs)[:, 1]
    majority = np.bincount(target).argmax()
    return {
        "majority": float((truth == majority).mean()),
        "accuracy": accuracy_score(truth, probability > 0.5),
        "auroc": roc_auc_score(truth, probability),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("recipes", nargs="*", default=RECIPES)
    parser.add_argument("--seeds", type=int, default=1)
    options = parser.parse_args()
    table = Table(caption=where())
    for heading in ("table", "splits", "majority", "boosting, accuracy", "boosting, AUROC"):
        table.add_column(heading)
    for recipe in options.recipes:
        folds = compose([f"experiment=tabular/{recipe}"]).data.folds or 1
        try:
            found = [boosted(recipe, fold, seed) for seed in range(options.seeds) for fold in range(folds)]
        except UserError as error:
            table.add_row(recipe, str(error))
            continue
        means = {name: np.mean([values[name] for values in found]) for name in found[0]}
        table.add_row(recipe, str(len(found)), *(f"{value:.4f}" for value in means.values()))
    Console().print(table)


if __name__ == "__main__":
    main()
