"""Results of the recipes of recommendation, beside classical baselines on the same splits.

    LABBOOK_DATA_ROOT=../shared/data python benchmarks/recommend.py [rating] [ranking] [--ease]

For ratings: the mean, plain means of users and items, their regularised biases, and item-kNN on what the biases leave
(similarity of items over their common users, shrunk). For lists: popularity, item-kNN with the cosine (Deshpande and
Karypis 2004) over all of a user's items or the last ones, and EASE (Steck 2019, arXiv:1905.03375), a ridge regression
of each item on all others. As for the nets, a user's training items and what came before are left out of the list, and
for the test the validation's item counts as known. Choose by validation. The nets' own figures come from the recipes
(`experiments/README.md`): this script trains no net.
"""

from __future__ import annotations

import argparse

import numpy as np
import torch
from _rounds import where
from hydra.utils import instantiate
from rich.console import Console
from rich.table import Table

from src.config import compose
from src.data.core.module import DataModule
from src.metrics.ranking import RankMetric
from src.spec.packed_interactions import Interactions
from src.tasks.recommendation.task import Ranking

NEIGHBOURS, LAST, RIDGE = (20, 50, 200), (5, 10, 20), (100.0, 300.0, 1000.0)
SHRINK = 10.0  # common users that a similarity is shrunk by


def loaded(recipe: str) -> DataModule:
    data = instantiate(compose([f"experiment=recommendation/{recipe}"]).data, _convert_="all")
    data.prepare_data()
    data.setup("fit")
    return data


def matrix(data: DataModule, values: np.ndarray) -> np.ndarray:
    """One value for each training interaction as (users + 1, items + 1)."""
    known = Interactions.of(data.spec)
    whole = np.zeros((len(data.spec.input.users) + 1, len(data.spec.input.items) + 1), dtype=np.float32)
    whole[known.users.numpy(), known.items.numpy()] = values
    return whole


def rating(table: Table) -> None:
    """RMSE of the validation and the test part."""
    data = loaded("movielens_rating")
    spec, known = data.spec, Interactions.of(data.spec)
    user, item, rated = known.users.numpy(), known.items.numpy(), known.ratings.double().numpy()
    mean, of_user, of_item = known.biases(len(spec.input.users), len(spec.input.items))
    of_user, of_item = of_user.double().numpy(), of_item.double().numpy()

    def means(codes: np.ndarray, size: int) -> np.ndarray:
        count = np.bincount(codes, minlength=size + 1)
        return np.bincount(codes, rated - mean, minlength=size + 1) / count.clip(min=1)

    plain_user, plain_item = means(user, len(spec.input.users)), means(item, len(spec.input.items))
    left = matrix(data, rated - mean - of_user[user] - of_item[item])
    there = matrix(data, np.ones(len(rated)))
    common = there.T @ there
    length = np.sqrt((left**2).sum(0))
    similar = left.T @ left / (np.outer(length, length) + 1e-9) * common / (common + SHRINK)
    np.fill_diagonal(similar, 0)
    similar = similar.clip(min=0)
    neighbours = (left @ similar) / (there @ similar + 1)
    answers = {
        "mean": lambda u, i: np.full(len(u), mean),
        "user + item means": lambda u, i: mean + plain_user[u] + plain_item[i],
        "user + item biases, regularised": lambda u, i: mean + of_user[u] + of_item[i],
        "item-kNN on the rest": lambda u, i: mean + of_user[u] + of_item[i] + neighbours[u, i],
    }
    for name, answer in answers.items():
        figures = []
        for part in ("val", "test"):
            column, target = data.splits[part]["input"], data.splits[part]["target"].numpy()
            guess = answer(column.users.numpy(), column.items.numpy()).clip(*spec.input.rating_range)
            figures.append(f"{np.sqrt(((guess - target) ** 2).mean()):.4f}")
        table.add_row("rating, RMSE", name, *figures)


def ranking(table: Table, ease: bool) -> None:
    """NDCG@10 and hit rate@10 of the validation and the test part."""
    data = loaded("movielens_ranking")
    task = Ranking(data.spec, None)
    there = matrix(data, np.ones(len(Interactions.of(data.spec).users)))
    count = there.T @ there
    length = np.sqrt(np.diag(count)) + 1e-9
    cosine = count / np.outer(length, length)
    np.fill_diagonal(cosine, 0)
    table.add_row("ranking, NDCG / hits", "popularity", *figures(data, task, there, None, None))
    for k in NEIGHBOURS:
        least = -np.partition(-cosine, k - 1, axis=0)[k - 1]  # of the neighbours that each item keeps
        kept = np.where(cosine >= least, cosine, 0)
        table.add_row("ranking, NDCG / hits", f"item-kNN, {k} neighbours", *figures(data, task, there, kept, None))
    for last in LAST:
        name = f"item-kNN, the last {last} items"
        table.add_row("ranking, NDCG / hits", name, *figures(data, task, there, cosine, last))
    for ridge in RIDGE if ease else ():
        inverse = np.linalg.inv(count + ridge * np.eye(len(count), dtype=np.float32))
        weight = -inverse / np.diag(inverse)
        np.fill_diagonal(weight, 0)
        table.add_row("ranking, NDCG / hits", f"EASE, {ridge:g}", *figures(data, task, there, weight, None))


def figures(
    data: DataModule, task: Ranking, there: np.ndarray, weight: np.ndarray | None, last: int | None
) -> list[str]:
    """Figures of a user's items (the `last` ones, or all) times the weights as scores; without weights, popularity."""
    shown = []
    for part in ("val", "test"):
        rows = data.splits[part]
        inputs = rows["input"][torch.arange(len(rows["input"]))]
        user, taken = inputs[:, 0].long(), inputs[:, 1].long()
        past = inputs[:, 2 : 2 + data.length].long().numpy()
        history = there[user.numpy()] if last is None else np.zeros((len(user), there.shape[1]), dtype=np.float32)
        recent = past[:, : 1 if last is None else last]  # the latest is not in the training part when it is the test
        np.put_along_axis(history, recent, 1, 1)
        history[:, 0] = 0
        scores = np.tile(there.sum(0), (len(user), 1)) if weight is None else history @ weight
        before = task.before(torch.from_numpy(scores[:, 1:]), taken, task.left_out(inputs))
        values = []
        for kind in ("ndcg", "hit_rate"):
            metric = RankMetric(kind)
            metric.update(before, rows["group"])
            values.append(f"{metric.compute().item():.4f}")
        shown.append(" / ".join(values))
    return shown


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("tasks", nargs="*", default=("rating", "ranking"))
    parser.add_argument("--ease", action="store_true", help="a minute more for each ridge")
    options = parser.parse_args()
    table = Table(caption=where())
    for heading in ("task", "baseline", "validation", "test"):
        table.add_column(heading)
    if "rating" in options.tasks:
        rating(table)
    if "ranking" in options.tasks:
        ranking(table, options.ease)
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
