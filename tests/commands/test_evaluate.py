"""Evaluation of a trained run: the logged figures to the last bit, intervals that cover, classes, other data."""

from __future__ import annotations

import csv
import json

import pytest
import torch

from src.analysis.bootstrap import Rows, intervals
from src.analysis.per_class import Classes
from src.config import compose
from src.errors import UserError
from src.spec import Classes as ClassTarget
from src.spec import DataSpec, Number, TableSpec, TargetSpec, TextSpec
from src.tasks.registry import make_task
from tests import tiny


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("digits", ["model=cnn"]),
        ("breast_cancer", ["model=fnn", "trainer.precision=bf16-mixed", "weight_averaging.kind=ema"]),
        pytest.param("diabetes", ["model=fnn"], marks=pytest.mark.slow),
        ("topics", ["model=gpt", "model.width=16", "model.num_layers=1", "trainer.limit_train_batches=10"]),
        ("dates", ["model=t5", "data.rows=300", "model.width=16", "model.num_layers=1", "model.beam_size=2"]),
        ("csv", ["model=fnn", "model.num_frequencies=4", "data.numbers=quantile"]),
        pytest.param(
            "image_folder",
            ["model=torchvision", "model.name=resnet18", "data.size=16", "data.on_bad=skip"],
            marks=pytest.mark.slow,
        ),
        pytest.param("npz", ["model=fnn"], marks=pytest.mark.slow),
        ("breast_cancer", ["model=autoencoder", "data.anomalies=[malignant]"]),
        ("digits", ["model=vae", "model.samples=3", "model.binarize=true", "data.anomalies=[8]"]),
    ],
)
def test_the_logged_figures_come_out_again_to_the_last_bit(lab, name, options) -> None:
    small = ["trainer.max_epochs=2", "tracking.system_metrics=false"]
    result = lab.train(*tiny.options(name), *options, *small)
    assert result.code == 0, result.err
    run = lab.runs()[0]
    logged = {key: value for key, value in run.data.metrics.items() if key.startswith("test/")}
    result = lab.run("evaluate", "run=last", "resamples=20")
    assert result.code == 0, result.err
    assert "these figures equal those that the run logged, to the last bit" in result.out
    kept = json.loads((lab.artifacts(run.info.run_id) / "evaluations" / "1" / "metrics.json").read_text())
    assert kept["metrics"] == logged and len(logged) > 1
    assert set(kept["intervals"]) == {key.removeprefix("test/") for key in logged} - {
        "loss" if name != "topics" else ""
    }


def test_an_evaluation_leaves_tables_and_pictures_and_does_not_touch_the_last_one(lab) -> None:
    small = ["model=fnn", "data=iris", "trainer.max_epochs=3", "tracking.system_metrics=false"]
    assert lab.train(*small).code == 0
    folder = lab.artifacts(lab.runs()[0].info.run_id) / "evaluations"
    for number, part in enumerate(("test", "val"), start=1):
        result = lab.run("evaluate", "run=last", f"split={part}", "resamples=10")
        assert result.code == 0, result.err
        with open(folder / str(number) / "classes.csv", newline="") as file:
            rows = list(csv.DictReader(file))
        assert [row["class"] for row in rows] == ["setosa", "versicolor", "virginica"]
        assert sum(int(row["rows"]) for row in rows) == 30
        for picture in ("calibration", "confusion_matrix"):
            assert (folder / str(number) / f"{picture}.png").read_bytes().startswith(b"\x89PNG")
    assert ("logged" in lab.run("evaluate", "run=last", "resamples=0").out) and "equal" not in result.out
    for arguments, message in (
        (["run=last", "split=tset"], "split: tset is not known (did you mean test?)"),
        (["run=last", "level=1.5"], "level=1.5: between 0 and 1"),
        (["run=last", "data.path=a.csv"], "data.path: SklearnTable has no such option"),
        (["run=last", "data.batch_size=8"], "data=iris is one dataset"),
        (["run=nothing"], "run 'nothing' is not in"),
    ):
        result = lab.run("evaluate", *arguments)
        assert (result.code, result.err.count("\n")) == (2, 1) and message in result.err
    assert sorted(entry.name for entry in folder.iterdir()) == ["1", "2", "3"]


def test_changed_data_is_noticed(lab, tmp_path) -> None:
    path = tmp_path / "reviews.csv"
    rows = [f"{word} film {i},{word}" for i in range(30) for word in ("good", "bad")]
    path.write_text("\n".join(["text,label", *rows]) + "\n")
    small = ["model=gru", "data=text_csv", f"data.path={path}", "trainer.max_epochs=1", "tracking.system_metrics=false"]
    assert lab.train(*small).code == 0
    assert "has changed" not in lab.run("evaluate", "run=last", "resamples=0").out
    path.write_text("\n".join(["text,label", *reversed(rows)]) + "\n")
    result = lab.run("evaluate", "run=last", "resamples=0")
    assert result.code == 0 and "the data is not what the run was trained on" in result.out.replace("\n", " ")
    # all rows of another file, with the classes of the training
    other = tmp_path / "other.csv"
    other.write_text("text,label\nbad film 7,bad\n")
    assert lab.run("evaluate", "run=last", f"data.path={other}", "resamples=5").code == 0
    run = lab.runs()[0].info.run_id
    kept = json.loads((lab.artifacts(run) / "evaluations" / "3" / "metrics.json").read_text())
    assert kept["metrics"]["test/accuracy"] in (0.0, 1.0)
    other.write_text("text,label\nbad film 7,ugly\n")
    result = lab.run("evaluate", "run=last", f"data.path={other}")
    assert result.code == 2 and "ugly is no class of the model" in result.err


# other data, whole ---------------------------------------------------------------------------------------------------


def other(name: str, trained: list[str], changed: list[str]) -> dict[str, torch.Tensor]:
    """The rows of a changed dataset as a model of the trained one would be tested on."""
    from hydra.utils import instantiate

    spec = None
    for options in (trained, changed):
        data = instantiate(compose(["model=fnn", f"data={name}", *options, "tracking=none"]).data, _convert_="all")
        if spec is None:
            data.setup("fit")
            spec = data.spec
    data.reuse(spec)
    assert data.spec is spec
    return next(iter(data.test_dataloader()))


def test_every_row_of_another_picture_folder_counts(tmp_path) -> None:
    import numpy as np
    from PIL import Image

    for folder, classes, count, side in (("first", "abc", 6, 8), ("second", "bc", 2, 12)):
        for number, label in enumerate(classes):
            (tmp_path / folder / label).mkdir(parents=True)
            for i in range(count):
                grey = np.full((side, side), 40 * (number + "bc".startswith(classes[0])), np.uint8)
                Image.fromarray(grey).save(tmp_path / folder / label / f"{i}.png")
    batch = other("image_folder", [f"data.path={tmp_path}/first"], [f"data.path={tmp_path}/second"])
    assert batch["input"].shape == (4, 1, 8, 8)  # of the size that was trained on
    assert batch["target"].tolist() == [1, 1, 2, 2]  # and its numbers of the classes
    (tmp_path / "second" / "d").mkdir()
    with pytest.raises(UserError, match="d is no class of the training split"):
        other("image_folder", [f"data.path={tmp_path}/first"], [f"data.path={tmp_path}/second"])


def test_every_row_of_another_table_counts(tmp_path) -> None:
    rows = [f"{i % 9},{('red', 'green')[i % 2]},{('no', 'yes')[i % 2]}" for i in range(60)]
    (tmp_path / "first.csv").write_text("\n".join(["size,colour,bought", *rows]) + "\n")
    (tmp_path / "second.csv").write_text("bought,size,colour\nyes,3,red\nno,?,violet\nyes,4,green\n")
    paths = [f"data.path={tmp_path}/{name}.csv" for name in ("first", "second")]
    batch = other("csv", [paths[0], "data.target=bought"], [paths[1], "data.target=bought"])
    assert batch["target"].tolist() == [1, 0, 1]
    same = other("csv", [paths[0], "data.target=bought"], [paths[0], "data.target=bought"])
    assert batch["input"][0].tolist() == next(
        x.tolist() for x, row in zip(same["input"], rows, strict=True) if row.startswith("3,red")
    )
    (tmp_path / "second.csv").write_text("bought,size,colour\nmaybe,3,red\n")
    with pytest.raises(UserError, match="maybe"):
        other("csv", [paths[0], "data.target=bought"], [paths[1], "data.target=bought"])


def test_every_window_of_another_series_counts(tmp_path) -> None:
    for name, rows, columns in (("first", 60, "a,b"), ("second", 20, "b,a")):
        lines = [f"{i},{i},{i + 0.5}" for i in range(rows)]
        (tmp_path / f"{name}.csv").write_text("\n".join([f"date,{columns}", *lines]) + "\n")
    options = ["data.context=4", "data.horizon=2"]
    paths = [f"data.path={tmp_path}/{name}.csv" for name in ("first", "second")]
    batch = other("series", [*options, paths[0]], [*options, paths[1]])
    assert batch["input"].shape == (15, 4, 2) and batch["target"].shape == (15, 2, 2)
    assert batch["input"][0, 0].tolist() == [0.5, 0.0]  # in the order of the columns of the training


def test_another_text_and_other_lines_are_read_with_the_training_s_vocabulary(tmp_path) -> None:
    (tmp_path / "first.txt").write_text("abcd" * 100)
    (tmp_path / "second.txt").write_text("dcbax" * 4)
    options = ["data.context=8"]
    paths = [f"data.path={tmp_path}/{name}.txt" for name in ("first", "second")]
    batch = other("text_file", [*options, paths[0]], [*options, paths[1]])
    assert batch["input"][0, :6].tolist() == [9, 8, 7, 6, 1, 9]  # x is unknown
    for name, lines in (("first", 20), ("second", 3)):
        for side in ("source", "target"):
            (tmp_path / f"{name}.{side}").write_text("ab\n" * lines)
    files = [
        [f"data.{side}_path={tmp_path}/{name}.{side}" for side in ("source", "target")] for name in ("first", "second")
    ]
    assert len(other("lines", *files)["target"]) == 3


# statistics ----------------------------------------------------------------------------------------------------------


def spec(target: TargetSpec) -> DataSpec:
    return DataSpec("x", ("binary", "regression"), {}, TableSpec((1,)), target)


@pytest.mark.slow
def test_intervals_cover_the_truth_as_often_as_they_say() -> None:
    """Of 200 samples with an accuracy of 0.8, nine in ten 90 % intervals hold 0.8; by chance 160 to 200 of them."""
    task = make_task(spec(ClassTarget(("no", "yes"), (50, 50))), ("binary",))
    generator = torch.Generator().manual_seed(1)
    held = 0
    for seed in range(200):
        target = torch.randint(2, (100,), generator=generator)
        right = torch.rand(100, generator=generator) < 0.8
        outputs = torch.where(right, target, 1 - target).float().mul(2).sub(1).unsqueeze(1)
        found = intervals(task, Rows(outputs, target, None), resamples=100, level=0.9, seed=seed)
        held += found["accuracy"].low <= 0.8 <= found["accuracy"].high
    assert 160 <= held <= 198


def test_the_difference_to_the_baseline_is_a_paired_one() -> None:
    """A model that is the baseline but for an offset of one has a difference without any spread."""
    task = make_task(spec(Number(5.0, 2.0)), ("regression",))
    target = torch.randn(300, generator=torch.Generator().manual_seed(0)) + 30
    outputs = torch.full((300, 1), 0.5)  # 6 in the target's unit, where the baseline says 5
    found = intervals(task, Rows(outputs, target, None), resamples=50, level=0.95, seed=0)["mae"]
    assert found.high - found.low > 0.1
    assert found.difference_low == pytest.approx(-1, abs=1e-4) == found.difference_high


def test_neighbours_are_drawn_together() -> None:
    """Of a series whose error drifts slowly, intervals of single rows are far too narrow."""
    task = make_task(spec(Number()), ("regression",))
    drift = torch.randn(40, generator=torch.Generator().manual_seed(0)).repeat_interleave(50)
    rows = Rows(torch.zeros(2000, 1), drift, None)
    width = {}
    for block in (1, 50):
        found = intervals(task, rows, resamples=200, level=0.95, seed=0, block=block)["rmse"]
        width[block] = found.high - found.low
    assert width[50] > 3 * width[1]


def test_windows_of_one_question_are_drawn_together() -> None:
    spec = DataSpec("t", ("question_answering",), {}, TextSpec((8,)))
    task = make_task(spec, ("question_answering",))
    # three windows of each of 40 questions: the best scored one is right in every second
    question = torch.arange(40).repeat_interleave(3)
    score = torch.tensor([1.0, 3.0, 2.0]).repeat(40)
    right = torch.stack([question, torch.full_like(question, 2), torch.full_like(question, 4)], 1)
    hit = torch.tensor([False, True, False]).repeat(40) & (question % 2 == 0)
    outputs = torch.stack([score, torch.where(hit, 2.0, 5.0), torch.where(hit, 4.0, 6.0)], 1)
    order = torch.randperm(120, generator=torch.Generator().manual_seed(0))
    rows = Rows(outputs[order], right[order], outputs[order])
    found = intervals(task, rows, resamples=300, level=0.95, seed=0)["exact_match"]

    shares = torch.randint(40, (300, 40), generator=torch.Generator().manual_seed(1)).remainder(2).double().mean(1)
    low, high = shares.quantile(torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
    assert found.low == pytest.approx(low, abs=0.04) and found.high == pytest.approx(high, abs=0.04)
    assert found.difference_low == found.difference_high == 0  # the baseline gives the same answers


def test_classes_and_calibration_by_hand() -> None:
    """Four rows at 0.9 of which three are right, and two at 0.6 of which one is: (4 * 0.15 + 2 * 0.1) / 6."""
    task = make_task(spec(ClassTarget(("no", "yes"), (50, 50))), ("binary",))
    p = torch.tensor([0.9, 0.9, 0.1, 0.9, 0.6, 0.4])
    target = torch.tensor([1, 1, 0, 0, 1, 1])
    classes = Classes.of(task, Rows(torch.logit(p).unsqueeze(1), target, None))
    assert classes.error == pytest.approx((4 * 0.15 + 2 * 0.1) / 6, abs=1e-5)
    assert classes.table()[1] == ("yes", pytest.approx(0.75), pytest.approx(0.75), pytest.approx(0.75), 4)
    assert classes.bins[:, 2].tolist() == [2, 4]
    assert Classes.of(make_task(spec(Number()), ("regression",)), Rows(p.unsqueeze(1), p, None)) is None
