"""What a run leaves behind: the hardest rows, pictures and tables; odd inputs or a picture that fails spoil nothing."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image

from src.config import compose
from src.data.core.module import DataModule
from src.data.text import modality
from src.experiment import artifacts
from src.experiment.build import build_model, build_node
from src.models.base import Model
from src.plots import examples
from src.plots.base import save
from src.spec import Classes, DataSpec, TableSpec, TextPairSpec
from src.spec.tokenizer import SEP
from src.tasks import view
from src.tasks.base import Task
from src.tasks.registry import make_task
from src.tasks.supervised.task import Classification
from src.tasks.worst import WorstExamples

SPEC = DataSpec("toy", ("classification",), {"train": 12}, TableSpec((4,)), Classes(("a", "b", "c"), (6, 4, 2)))


def rows(count: int = 100) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Logits of a classifier, and their batch."""
    draw = torch.Generator().manual_seed(0)
    target = torch.randint(0, 3, (count,), generator=draw)
    return torch.randn(count, 3, generator=draw), {"target": target, "index": torch.arange(count)}


# the hardest rows -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [{}, {"class_weights": "balanced"}, {"loss": "focal"}, {"label_smoothing": 0.2}],
    ids=lambda options: next(iter(options), "plain"),
)
def test_the_largest_losses_are_those_of_all_rows_whatever_the_batches(options) -> None:
    task = make_task(SPEC, ("classification",), **options).eval()
    outputs, batch = rows()
    alone = [task.loss(outputs[i : i + 1], {"target": batch["target"][i : i + 1]}).item() for i in range(100)]
    expected = sorted(range(100), key=lambda i: -alone[i])[:7]
    for size in (100, 33, 3):
        worst = WorstExamples(task, size=7)
        for part in torch.arange(100).split(size):
            worst.append(outputs[part], {name: column[part] for name, column in batch.items()})
        assert [row for row, _ in worst.compute()] == expected
        assert [loss for _, loss in worst.compute()] == pytest.approx([alone[row] for row in expected], rel=1e-5)
        worst.reset()
        assert worst.compute() == []


class Stubborn(Classification):
    """A user's own task, whose loss cannot be had row by row."""

    def loss(self, outputs, batch):
        return super().loss(outputs, batch) * (1 if batch["target"].sum().item() else 0)


def test_a_task_that_cannot_be_asked_row_by_row_says_so() -> None:
    task: Task = Stubborn(SPEC, torch.nn.functional.cross_entropy)
    worst = WorstExamples(task)
    worst.append(*rows())
    assert worst.compute() == [] and "item()" in worst.problem


# what lies in the folder ----------------------------------------------------------------------------------------------

SMALL = ["model.width=16", "model.num_layers=3", "model.num_heads=2"]
RUNS = {
    "images": (["model=vit", "data=digits", *SMALL], {"attention.png", "worst_examples.png"}),
    "first patch": (["model=vit", "model.pooling=first", "data=digits", *SMALL], {"attention.png"}),
    "patches of a series": (["model=vit", "data=adding", "data.rows=30", *SMALL], {"attention.png"}),
    "next tokens": (["model=gpt", "data=topics", "data.context=24", *SMALL], {"attention.png"}),
    "hidden tokens": (["model=bert", "data=topics", "data.context=24", *SMALL], {"attention.png"}),
    "pairs": (
        ["model=t5", "data=dates", "data.rows=200", *SMALL],
        {"attention_encoder.png", "attention_decoder.png", "attention_cross.png"},
    ),
    "columns": (["model=fnn", "data=breast_cancer"], set()),
    "values": (["model=fnn", "data=diabetes"], set()),
}


def after_test(overrides: list[str]) -> tuple[Model, DataModule]:
    """An untrained model that has seen 50 rows of its test split."""
    config = compose(overrides)
    data = build_node(config.data)
    data.prepare_data()
    data.setup("fit")
    torch.manual_seed(0)
    model = build_model(config, data.spec).eval()
    with torch.inference_mode():
        batch = data.head("test", 50)
        decoded = {"decoded": model.generate(batch["input"])} if isinstance(data.spec.input, TextPairSpec) else {}
        batch = model.task.prepare({**batch, **decoded})
        model.worst_examples.append(model.outputs(batch), batch)
    return model, data


def read(path: Path) -> list[dict[str, str]]:
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize(("overrides", "expected"), RUNS.values(), ids=RUNS)
def test_pictures_and_tables_of_every_kind(tmp_path, overrides, expected) -> None:
    model, data = after_test(overrides)
    worst = model.worst_examples.compute()
    state = torch.get_rng_state()
    (line,) = artifacts.save(tmp_path, model, data.splits["test"], {}, worst, "test")
    assert line == f"worst_examples.csv{', figures' if expected else ''} in {tmp_path}"
    assert torch.equal(torch.get_rng_state(), state)
    made = {path.name for path in (tmp_path / "figures").glob("*.png")}
    assert expected <= made
    for path in (tmp_path / "figures").glob("*.png"):
        with Image.open(path) as image:
            assert all(200 <= side <= 2000 for side in image.size), (path.name, image.size)
    table = read(tmp_path / "worst_examples.csv")
    assert [int(row["row"]) for row in table] == [row for row, _ in worst] and len(table) == 16
    losses = [float(row["loss"]) for row in table]
    assert losses == sorted(losses, reverse=True)
    target = data.splits["test"].get("target")
    for row in table:
        if data.spec.class_names:
            assert row["true"] == data.spec.class_names[int(target[int(row["row"])])]
            assert 1 / data.spec.num_classes <= float(row["probability"]) <= 1
        elif isinstance(target, torch.Tensor):
            assert float(row["true"]) == pytest.approx(float(target[int(row["row"])]), rel=1e-5)


def test_a_table_s_own_columns_and_a_text_stand_beside_the_answer(tmp_path) -> None:
    model, data = after_test(RUNS["values"][0])
    artifacts.save(tmp_path, model, data.splits["test"], {}, model.worst_examples.compute(), "test")
    first = read(tmp_path / "worst_examples.csv")[0]
    values = data.splits["test"]["input"][int(first["row"])]
    assert [float(first[name]) for name in data.spec.input.feature_names] == pytest.approx(values.tolist(), rel=1e-4)
    model, data = after_test(RUNS["pairs"][0])
    artifacts.save(tmp_path, model, data.splits["test"], {}, model.worst_examples.compute(), "test")
    first = read(tmp_path / "worst_examples.csv")[0]
    (source,) = data.splits["test"]["input"][torch.tensor([int(first["row"])])].tolist()
    assert first["text"] == data.tokenizer.decode(source)
    assert len(first["true"]) == len("2000-01-01")


def test_the_probability_of_two_classes_is_that_of_the_predicted_one() -> None:
    spec = DataSpec("toy", ("binary",), {"train": 12}, TableSpec((4,)), Classes(("no", "yes"), (6, 6)))
    assert view.predicted_rows(spec, torch.tensor([0.875, 0.25]), torch.tensor([0, 0])) == [
        {"true": "no", "predicted": "yes", "probability": "0.8750"},
        {"true": "no", "predicted": "no", "probability": "0.7500"},
    ]


def test_question_and_context_have_a_line_each() -> None:
    class Letters:
        def decode(self, ids):
            return "".join(chr(96 + i) for i in ids if i != SEP)

    assert modality._text(Letters(), [1, 2, SEP, 3]) == "ab\nc"


def test_a_picture_that_fails_is_named_and_spoils_no_other(tmp_path, monkeypatch) -> None:
    model, data = after_test(RUNS["images"][0])
    monkeypatch.setattr(type(model), "attention", lambda self, batch: {"attention": 1 / 0})
    problem, line = artifacts.save(tmp_path, model, data.splits["test"], {}, model.worst_examples.compute(), "test")
    assert problem == "attention: none, ZeroDivisionError: division by zero"
    assert line.startswith("worst_examples.csv")
    assert [path.name for path in (tmp_path / "figures").iterdir()] == ["worst_examples.png"]


def test_without_a_test_there_is_no_table(tmp_path) -> None:
    model, data = after_test(RUNS["images"][0])
    assert artifacts.save(tmp_path, model, data.splits["val"], {}, [], "val") == [f"figures in {tmp_path}"]
    assert [path.name for path in (tmp_path / "figures").iterdir()] == ["attention.png"]


# forecasts ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def forecaster(tmp_path):
    """Builds a forecaster of two waves with a given horizon, that has seen its test split."""

    def build(horizon: int) -> tuple[Model, DataModule]:
        steps = np.arange(200)
        lines = [f"{i},{np.sin(i / 3) + (i == 190):.4f},{np.cos(i / 5):.4f}" for i in steps]
        (tmp_path / "waves.csv").write_text("\n".join(["t,sine,cosine", *lines]))
        options = ["data=series", f"data.path={tmp_path / 'waves.csv'}", "data.time=t", f"data.horizon={horizon}"]
        return after_test(["model=dlinear", *options])

    return build


@pytest.mark.parametrize("horizon", [1, 6])
def test_forecasts_are_drawn_beside_truth_and_naive_forecast(tmp_path, forecaster, monkeypatch, horizon: int) -> None:
    model, data = forecaster(horizon)
    drawn: list[Figure] = []
    monkeypatch.setattr("src.plots.base.save", lambda path, figure: drawn.append(figure))
    worst = model.worst_examples.compute()
    artifacts.save(tmp_path, model, data.splits["test"], {}, worst, "test")
    (figure,) = drawn
    part, task = data.splits["test"], model.task
    if horizon == 1:
        first, lines = figure.axes[0], {line.get_label(): line.get_ydata() for line in figure.axes[0].lines}
        batch = data.head("test", len(part["input"]))
        expected = {name: values[:, 0, 0] for name, values in _series(model, task, batch).items()}
        assert len(figure.axes) == 2 and first.get_ylabel() == "sine"
    else:
        middle, worst = len(part["input"]) // 2, worst[0][0]
        assert len({0, middle, worst}) == 3
        titles = [ax.get_title() for ax in figure.axes[:3]]
        assert titles == ["row 0 of test", f"row {middle} of test", f"row {worst} of test, largest loss"]
        lines = {line.get_label(): line.get_ydata() for line in figure.axes[3 + 1].lines}  # cosine of the middle one
        index = torch.tensor([middle])
        batch = {name: column[index] for name, column in part.items()}
        expected = {name: values[0, :, 1] for name, values in _series(model, task, batch).items()}
        np.testing.assert_allclose(lines["context"], batch["input"][0, -24:, 1])
    for name, values in expected.items():
        np.testing.assert_allclose(lines[name], values, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def _series(model: Model, task: Task, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {
        "truth": batch["target"],
        "forecast": task.predict(model.outputs(batch)),
        "naive": task.naive(batch["input"]),
    }


# odd sizes ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("length", "heads", "layers"), [(1, 1, 1), (100, 12, 24), (3, 3, 2)])
def test_attention_of_any_size(tmp_path, length: int, heads: int, layers: int) -> None:
    weights = np.full((layers, heads, length, length + 2), 1 / (length + 2))
    names = [r"$\frac$", "\u6f22", "a word of a length that nobody would read"] * 40
    figure = examples.attention(weights, names[:length], names[: length + 2], "row 0")
    assert len(figure.axes) == min(layers, 2) * min(heads, 4) + 1
    with Image.open(save(tmp_path / "attention.png", figure)) as image:
        assert all(200 <= side <= 2000 for side in image.size)


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 20, 60), (2, 60, 20), (3, 224, 224)], ids=str)
@pytest.mark.parametrize("kind", [np.uint8, np.float32])
def test_images_of_any_shape(tmp_path, shape, kind) -> None:
    images = (np.random.default_rng(0).random((5, *shape)) * (255 if kind is np.uint8 else 1)).astype(kind)
    patches = [-(-side // 7) for side in shape[1:]]
    on_image = examples.attention_on_image(images[0], np.random.default_rng(0).random((2, 2, *patches)), 7, "row 0")
    for figure in (examples.gallery(images, ["true\npredicted"] * 5), on_image):
        with Image.open(save(tmp_path / "images.png", figure)) as image:
            assert all(100 <= side <= 2000 for side in image.size), image.size
