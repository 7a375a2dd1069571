"""Recommendation: what is read and how it is split, histories, metrics against torchmetrics, learning, bad input."""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torchmetrics.retrieval as tmr

from src.config import compose
from src.data.ratings import reader
from src.data.ratings.datasets import InteractionData
from src.errors import UserError
from src.experiment.assemble import assemble
from src.metrics.ranking import RankMetric
from src.models.load import load_model
from src.runtime.signals import Signals
from src.spec.packed_interactions import Interactions
from src.tasks.recommendation.task import Ranking
from src.tasks.registry import make_task
from tests.commands.test_predict import answers, checkpoint
from tests.conftest import Lab
from tests.data.ratings.tiny import rating_table


def table(folder: Path, rows: list[str], header: str = "userId,movieId,rating,timestamp") -> Path:
    path = folder / "given.csv"
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


def read(path: Path, **options) -> InteractionData:
    data = InteractionData(source="file", path=str(path), **options)
    data.setup("fit")
    return data


def ten(user: str = "u", rating: str = "3") -> list[str]:
    return [f"{user}{i % 3},i{i % 4},{rating},{100 - i}" for i in range(12)]


# reading and splitting -----------------------------------------------------------------------------------------------


def test_the_last_one_of_each_user_is_the_test_and_what_came_before_is_its_history(tmp_path) -> None:
    rows = ["a,x,1,30", "a,y,2,10", "a,z,3,20", "a,w,4,40", "b,x,5,1", "b,y,4,2", "b,z,2,3", "c,x,3,1", "c,w,1,2"]
    data = read(table(tmp_path, rows), split="leave_last_out", history=3)
    spec, parts = data.spec, data.splits
    assert (spec.input.users, spec.input.items) == (("a", "b", "c"), ("w", "x", "y", "z"))
    assert spec.tasks == ("ranking", "rating") and spec.input_shape == (8,)
    inputs = {name: part["input"][torch.arange(len(part["input"]))].tolist() for name, part in parts.items()}
    # user, item, three items before it (the latest first), their ratings
    assert inputs["test"] == [[1, 1, 2, 4, 3, 1, 3, 2], [2, 4, 3, 2, 0, 4, 5, 0]]
    assert inputs["val"] == [[1, 2, 4, 3, 0, 3, 2, 0], [2, 3, 2, 0, 0, 5, 0, 0]]
    assert inputs["train"][0] == [1, 3, 0, 0, 0, 0, 0, 0] and len(inputs["train"]) == 5
    assert parts["test"]["target"].tolist() == [4, 2]
    known = Interactions.of(spec.input)
    assert known.users.tolist() == [1, 1, 2, 3, 3] and known.items.tolist() == [3, 4, 2, 2, 1]


def test_at_random_no_row_sees_itself_or_what_is_held_out() -> None:
    data = InteractionData(history=40)
    data.setup("fit")
    train_pairs = set(zip(*(column.tolist() for column in Interactions.of(data.spec.input)[:2]), strict=True))
    for name, part in data.splits.items():
        x = part["input"][torch.arange(len(part["input"]))].long()
        for user, item, *history in x[:, :42].tolist():
            past = [code for code in history if code]
            assert item not in past
            assert {(user, code) for code in past} == {pair for pair in train_pairs if pair[0] == user} - {(user, item)}
            if name != "train" and item:
                assert (user, item) not in train_pairs
    assert data.spec.tasks == ("rating", "ranking")


def test_columns_are_found_by_name_or_told_and_a_column_of_ratings_can_be_left_out(tmp_path) -> None:
    rows = [f"{i % 4};{i % 5};2024-01-{1 + i:02d}T10:00:00;{i % 3},5" for i in range(20)]
    path = table(tmp_path, rows, "User ID;product_id;Date;liked")
    data = read(path, rating="liked")
    assert data.spec.input.rating_range == (0.5, 2.5)
    assert read(path).spec.tasks == ("ranking",) and "target" not in read(path).splits["train"]
    few = read(path, rating="liked", implicit_from=1.5)
    assert few.spec.tasks == ("ranking",) and sum(few.spec.splits.values()) == 13
    with pytest.raises(UserError, match=r"data.rating: .* has no column likes \(did you mean liked\?\)"):
        read(path, rating="likes")


def test_the_last_of_doubled_pairs_counts_and_unknown_ones_are_counted(tmp_path, capsys) -> None:
    rows = [f"u{i % 3},i{i % 4},{1 + i % 5},{100 - i}" for i in range(12)]
    rows += ["u0,i0,5,500", "u0,i0,1,400", "u1,new,4,900"]
    data = read(table(tmp_path, rows), split="leave_last_out")
    told = capsys.readouterr().err
    assert "2 pairs of a user and an item stood there before: the last one counts" in told
    assert "test has 1 of items that training did not have, out of 3" in told
    test = data.splits["test"]
    assert test["target"].tolist() == [5, 4, 3]
    assert test["input"][torch.tensor([1])][0, 1] == 0


def test_the_archive_of_movielens_is_read_and_another_one_refused(tmp_path, monkeypatch) -> None:
    files = {
        "ratings.csv": "userId,movieId,rating,timestamp\r\n"
        + "".join(f"{u},{u + m},{1 + m},{m}\r\n" for u in range(1, 4) for m in range(4)),
        "movies.csv": 'movieId,title,genres\r\n3,"Third, The (1999)",Drama\r\n',
    }
    root = tmp_path / "movielens"
    root.mkdir()
    with zipfile.ZipFile(root / "ml-latest-small.zip", "w") as archive:
        for name, text in files.items():
            archive.writestr(f"ml-latest-small/{name}", text)
    data = InteractionData(source="movielens", root=str(tmp_path), split="leave_last_out")
    with pytest.raises(UserError, match="ratings.csv is not the published one, delete the archive"):
        data.setup("fit")
    sums = {name: hashlib.md5(text.encode()).hexdigest() for name, text in files.items()}
    monkeypatch.setattr(reader, "_CONTENT", sums)
    data.setup("fit")
    assert data.spec.splits == {"train": 6, "val": 3, "test": 3}
    assert "Third, The (1999)" in data.spec.input.item_names
    (root / "ml-latest-small.zip").write_bytes(b"no archive")
    with pytest.raises(UserError, match="is not the archive ml-latest-small.zip"):
        InteractionData(source="movielens", root=str(tmp_path)).setup("fit")


def test_movielens_itself(data_folder) -> None:
    if not (data_folder / "movielens").is_dir():
        pytest.skip("no copy of MovieLens here")
    data = InteractionData(source="movielens", root=str(data_folder), split="leave_last_out")
    data.setup("fit")
    assert data.spec.splits == {"train": 99_616, "val": 610, "test": 610}
    assert len(data.spec.input.users) == 610 and data.spec.input.item_names[0] == "Toy Story (1995)"


BAD = {
    "negative": ([*ten(), "u0,i9,-1,5"], {}, r"row 13, column rating: -1 is negative: ratings are 0 or more"),
    "no rating": ([*ten(), "u0,i9,,5"], {}, r"row 13, column rating has no rating: leave the row out"),
    "no number": ([*ten(), "u0,i9,good,5"], {}, r"row 13, column rating: good is no finite number"),
    "no user": ([*ten(), ",i9,3,5"], {}, r"row 13, column userId is empty: an id is needed"),
    "no time": ([*ten(), "u0,i9,3,soon"], {}, r"row 13, column timestamp: 'soon': a number or a date"),
    "one user": ([f"u,i{i},{i % 5},{i}" for i in range(12)], {}, r"interactions of one user only"),
    "one item": ([f"u{i},i,{i % 5},{i}" for i in range(12)], {}, r"interactions of one item only"),
    "no rows": ([], {}, r"has a header and no rows"),
    "few rows": (ten()[:2], {}, r"2 rows, too few for train, val, test"),
    "two each": (ten()[:6], {"split": "leave_last_out"}, r"no user has 3 interactions or more: data.split=random"),
    "threshold": (ten(), {"implicit_from": 9}, r"data.implicit_from=9 leaves nothing: the highest rating is 3"),
    "unknown split": (ten(), {"split": "by_user"}, r"data.split=by_user: one of random, leave_last_out"),
    "history": (ten(), {"history": 0}, r"data.history=0 must be at least 1"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_told_in_one_line(case: str, tmp_path) -> None:
    rows, options, message = BAD[case]
    header = "userId,movieId,rating,timestamp"
    with pytest.raises(UserError, match=message) as error:
        read(table(tmp_path, rows, header), **options)
    assert "\n" not in str(error.value)


def test_a_missing_column_and_an_empty_file_are_told(tmp_path) -> None:
    path = table(tmp_path, ["a,1,3"], "userId,thing,rating")
    with pytest.raises(UserError, match=r"no column of a known name for the item: data.item=COLUMN \(columns: userId"):
        read(path)
    path.write_text("")
    with pytest.raises(UserError, match="given.csv is empty"):
        read(path)


def test_one_rating_for_all_is_feedback_without_ratings(tmp_path, capsys) -> None:
    data = read(table(tmp_path, ten()))
    assert data.spec.tasks == ("ranking",)
    assert "12 interactions, all of one rating, which says nothing" in capsys.readouterr().err
    with pytest.raises(UserError, match="task=rating does not fit data=ratings"):
        make_task(data.spec, ("rating", "ranking"), name="rating")


# tasks ---------------------------------------------------------------------------------------------------------------


def test_metrics_are_those_of_torchmetrics() -> None:
    """On lists of 40 items, of which each of 30 users takes one to six."""
    random = torch.Generator().manual_seed(0)
    scores = torch.rand(30, 40, generator=random)  # above 0, as torchmetrics wants them
    taken = [torch.randperm(40, generator=random)[: 1 + user % 6] for user in range(30)]
    user = torch.cat([torch.full((len(items),), u) for u, items in enumerate(taken)])
    item = torch.cat(taken)
    relevant = torch.zeros(30, 40, dtype=torch.bool)
    relevant[user, item] = True
    before = (scores[user] > scores[user, item].unsqueeze(1)).sum(1, keepdim=True).float()
    index = torch.arange(30).repeat_interleave(40)
    for kind, expected in {
        "ndcg": tmr.RetrievalNormalizedDCG(top_k=10),
        "hit_rate": tmr.RetrievalHitRate(top_k=10),
        "recall": tmr.RetrievalRecall(top_k=10),
        "mrr": tmr.RetrievalMRR(),
    }.items():
        metric = RankMetric(kind)
        for part in torch.randperm(len(user), generator=random).split(17):
            metric.update(before[part], user[part])
        value = expected(scores.flatten(), relevant.flatten(), indexes=index)
        assert metric.compute().item() == pytest.approx(value.item(), rel=1e-5), kind


def test_biases_solve_their_regularised_least_squares() -> None:
    random = torch.Generator().manual_seed(0)
    users, items = (torch.randint(1, 8, (200,), generator=random) for _ in range(2))
    ratings = torch.rand(200, generator=random) * 5
    mean, user, item = Interactions(users, items, ratings).biases(7, 7)
    user, item = user.double().requires_grad_(), item.double().requires_grad_()
    error = ratings - mean - user[users] - item[items]
    (error.square().sum() + 4 * (user.square().sum() + item.square().sum())).backward()
    assert max(user.grad.abs().max(), item.grad.abs().max()) < 1e-2
    packed = Interactions.of(SimpleNamespace(packed=Interactions(users, items, ratings).pack()))
    assert all(torch.equal(a, b) for a, b in zip(packed, (users, items, ratings), strict=True))


@pytest.mark.parametrize("loss", Ranking.losses)
def test_negatives_are_none_of_the_user_s_own_and_the_same_for_a_seed(loss: str) -> None:
    data = InteractionData(split="leave_last_out")
    data.setup("fit")
    task = make_task(data.spec, ("ranking",), loss=loss, negatives=20)
    batch = data.head("train", 64)
    torch.manual_seed(3)
    drawn = task.prepare(batch, training=True)["candidates"]
    torch.manual_seed(3)
    assert torch.equal(task.prepare(batch, training=True)["candidates"], drawn)
    assert "candidates" not in task.prepare(batch)
    known = Interactions.of(data.spec.input)
    own = set(zip(known.users.tolist(), known.items.tolist(), strict=True))
    for user, (taken, *others) in zip(batch["input"][:, 0].long().tolist(), drawn.tolist(), strict=True):
        assert (user, taken) in own and any(others)
        assert not own & {(user, item) for item in others if item}
    scores = torch.zeros(64, 21)
    left_out = task.loss(scores.masked_fill(drawn == 0, 50.0), task.prepare(batch) | {"candidates": drawn})
    torch.testing.assert_close(left_out, task.loss(scores, {**batch, "candidates": drawn}))
    better = scores.clone()
    better[:, 0] = 1
    assert task.loss(better, {**batch, "candidates": drawn}) < left_out


def test_what_the_user_took_is_left_out_of_the_list() -> None:
    data = InteractionData(split="leave_last_out", history=2)
    data.setup("fit")
    task = make_task(data.spec, ("ranking",)).eval()
    batch = data.head("test", 8)
    left_out = task.left_out(batch["input"])
    known = Interactions.of(data.spec.input)
    for row, x in enumerate(batch["input"].long()):
        expected = set(known.items[known.users == x[0]].tolist()) | (set(x[2:4].tolist()) - {0})
        assert set((left_out[row].nonzero()[:, 0] + 1).tolist()) == expected
        assert x[2].item() in expected  # the validation's item is the latest of the history
    scores = torch.where(left_out, 10.0, 0.0)  # would stand first
    scores.scatter_(1, batch["input"][:, 1:2].long() - 1, 5.0)
    assert task.evaluate_batch(scores, batch).outputs.flatten().tolist() == [0.0] * 8


# learning ------------------------------------------------------------------------------------------------------------


def trained(folder: Path, *overrides: str):
    torch.set_num_threads(1)
    given = ["model=recommender", "trainer=cpu", "optimizer=adam", "optimizer.lr=0.01", "scheduler=cosine"]
    parts = assemble(compose([*given, *overrides]), Signals())
    parts.checkpoint.directory = parts.texts.folder = parts.pictures.folder = folder
    parts.trainer.fit(parts.model, datamodule=parts.data)
    parts.model.load_state_dict(parts.checkpoint.best_weights(parts.model))
    parts.trainer.test(parts.model, datamodule=parts.data, verbose=False)
    tested = parts.model.metrics["test"]
    return parts, tested.compute(), tested.baseline()


@pytest.mark.parametrize(
    ("kind", "decay"), [("mf", "3e-3"), ("ncf", "1e-3"), ("two_tower", "1e-4")], ids=["mf", "ncf", "two_tower"]
)
def test_low_rank_ratings_are_learnt_beyond_their_biases(kind: str, decay: str, tmp_path) -> None:
    given = [f"model.kind={kind}", f"optimizer.weight_decay={decay}", "trainer.max_epochs=15"]
    _, values, baseline = trained(tmp_path, *given)
    assert values["rmse"] < 0.95 * baseline["rmse"]


@pytest.mark.parametrize("loss", [["task.loss=cross_entropy"], ["task.loss=bpr", "task.negatives=4"]], ids=str)
def test_lists_are_better_than_popularity(loss: list[str], tmp_path) -> None:
    """Users of two kinds, of which each takes items of its own kind, all items equally often."""
    rows = [f"{u},{i}" for u in range(40) for i in range(40) if (u + i) % 2 == 0 and (3 * u + i // 2) % 5]
    path = table(tmp_path, rows, "user,item")
    given = ["data=ratings", f"data.path={path}", "data.batch_size=32", "trainer.max_epochs=8", *loss]
    _, values, baseline = trained(tmp_path, *given)
    assert values["ndcg_10"] > 1.3 * baseline["ndcg_10"]


# prediction ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def lists(tmp_path) -> Path:
    return checkpoint(tmp_path, "model=recommender", "data=ratings", f"data.path={rating_table()}", "task=ranking")


def test_lists_for_users_hold_nothing_that_they_took(lists, tmp_path, capsys) -> None:
    users = table(tmp_path, ["3", "nobody", "4"], "userId")
    rows = answers(lists, f"data.path={users}", "top_n=4")
    assert [row["userId"] for row in rows] == [name for name in ("3", "nobody", "4") for _ in range(4)]
    assert [row["rank"] for row in rows[:4]] == ["1", "2", "3", "4"]
    spec = load_model(lists).spec
    known = Interactions.of(spec.input)
    for row in rows:
        code = 1 + spec.input.users.index(row["userId"]) if row["userId"] != "nobody" else 0
        assert 1 + spec.input.items.index(row["item"]) not in known.items[known.users == code]
    scores = [float(row["score"]) for row in rows]
    assert scores[:4] == sorted(scores[:4], reverse=True)
    assert "users of whom nothing is known, who get what is liked in general: 1" in capsys.readouterr().out


def test_items_beside_a_new_user_are_its_history(lists, tmp_path) -> None:
    users = table(tmp_path, ["new,3", "new,6", "other,3"], "userId,itemId")
    rows = answers(lists, f"data.path={users}", "top_n=3")
    lists_of = {name: [row["itemId"] for row in rows if row["userId"] == name] for name in ("new", "other")}
    assert not {"3", "6"} & set(lists_of["new"]) and "3" not in lists_of["other"]
    with pytest.raises(UserError, match=r"top_n=99: from 1 to \d+, the items that the model knows"):
        answers(lists, f"data.path={users}", "top_n=99")


def test_ratings_of_pairs_and_of_unknown_ones_by_the_biases(tmp_path, capsys) -> None:
    model = checkpoint(tmp_path, "model=recommender", "data=ratings", f"data.path={rating_table()}")
    pairs = table(tmp_path, ["3,6", "nobody,6", "3,nothing", "nobody,nothing"], "userId,itemId")
    rows = answers(model, f"data.path={pairs}", "batch_size=3")
    assert [row["userId"] for row in rows] == ["3", "nobody", "3", "nobody"]
    task, spec = load_model(model).task, load_model(model).spec
    item, user = (torch.tensor(1 + ids.index(name)) for ids, name in ((spec.input.items, "6"), (spec.input.users, "3")))
    nobody = torch.tensor(0)
    expected = [task.estimate(*pair).item() for pair in ((nobody, item), (user, nobody), (nobody, nobody))]
    np.testing.assert_allclose([float(row["predicted"]) for row in rows[1:]], expected, rtol=1e-4)
    told = capsys.readouterr().out
    assert "rows with a user that training did not have, whose bias is unknown: 2" in told
    with pytest.raises(UserError, match="no column of a known name for the item"):
        answers(model, f"data.path={table(tmp_path, ['3'], 'userId')}")


@pytest.mark.parametrize("task", [pytest.param("rating", marks=pytest.mark.slow), "ranking"])
def test_a_run_is_judged_again_to_the_last_bit_and_on_other_ratings(lab: Lab, task: str) -> None:
    given = ["model=recommender", "data=ratings", f"data.path={rating_table()}", f"task={task}", "show_predictions=2"]
    result = lab.train(*given, "trainer.max_epochs=2", "tracking.system_metrics=false")
    assert result.code == 0, result.err
    result = lab.run("evaluate", "run=last", "resamples=10")
    assert result.code == 0, result.err
    assert "these figures equal those that the run logged, to the last bit" in result.out
    other = table(lab.folder, ["3,6,4,1", "3,7,2,2", "nobody,6,4,3"])
    result = lab.run("evaluate", "run=last", f"data.path={other}", "resamples=10")
    assert result.code == 0, result.err
    assert "test has 1 of users that training did not have, out of 3" in result.err


def test_bad_ratings_end_a_command_with_one_line(lab: Lab) -> None:
    path = table(lab.folder, BAD["negative"][0])
    result = lab.train("model=recommender", "data=ratings", f"data.path={path}")
    assert result.code == 2 and "row 13, column rating: -1 is negative" in result.err
    assert "Traceback" not in result.err
