"""Baselines of autoencoders on the same rows: principal components, and scikit-learn's isolation forest.

    LABBOOK_DATA_ROOT=../shared/data python benchmarks/codes.py

The recipes' data modules split and encode the rows; components and trees are fitted to the same training rows. The
models' own figures come from the recipes (`experiments/README.md`): this script trains none of them. Where a dataset is
not at hand, its row says so.
"""

from __future__ import annotations

import numpy as np
from _rounds import where
from hydra.utils import instantiate
from rich.console import Console
from rich.table import Table
from sklearn.decomposition import PCA
from sklearn.ensemble import IsolationForest
from sklearn.metrics import average_precision_score, roc_auc_score

from src.config import compose
from src.errors import UserError
from src.experiment.build import build_model

SEEDS = (1, 2, 3)
COMPONENTS = ("vision/autoencoder_digits",)
ANOMALIES = ("tabular/anomaly_breast_cancer", "finance/credit_anomaly")


def rows(recipe: str) -> tuple[dict[str, np.ndarray], np.ndarray, int]:
    """Rows that should come back in training and test, mask of anomalies among the test rows, size of the code."""
    config = compose([f"experiment={recipe}"])
    data = instantiate(config.data, _convert_="all")
    data.prepare_data()
    data.setup("fit")
    task = build_model(config, data.spec).task
    parts = {name: data.head(name, len(data.splits[name]["input"])) for name in ("train", "test")}
    targets = {name: task.target(part).numpy() for name, part in parts.items()}
    return targets, task.anomalous(parts["test"]).numpy(), config.model.latent_size


def components(recipe: str) -> list[str]:
    """PSNR of test images that come back from as many principal components as the recipe's code has numbers."""
    parts, _, size = rows(recipe)
    pca = PCA(size).fit(parts["train"])
    back = pca.inverse_transform(pca.transform(parts["test"]))
    error = np.square(back - parts["test"]).mean(1)
    return [f"{size} components", f"psnr {(-10 * np.log10(error)).mean():.4f}, mse {error.mean():.6f}"]


def forest(recipe: str) -> list[str]:
    """AUROC and average precision of the anomalies by an isolation forest's score."""
    parts, truth, _ = rows(recipe)
    found = []
    for seed in SEEDS:
        score = -IsolationForest(random_state=seed).fit(parts["train"]).score_samples(parts["test"])
        found.append((roc_auc_score(truth, score), average_precision_score(truth, score)))
    means, spread = np.mean(found, 0), np.std(found, 0, ddof=1)
    return ["isolation forest", f"auroc {means[0]:.4f} ± {spread[0]:.4f}, average precision {means[1]:.4f}"]


def main() -> None:
    table = Table(caption=where())
    for heading in ("recipe", "beside it", "test figures"):
        table.add_column(heading)
    for measure, recipes in ((components, COMPONENTS), (forest, ANOMALIES)):
        for recipe in recipes:
            try:
                table.add_row(recipe, *measure(recipe))
            except UserError as error:
                table.add_row(recipe, str(error))
    Console().print(table)


if __name__ == "__main__":
    main()
