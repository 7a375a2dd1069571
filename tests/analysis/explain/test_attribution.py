"""Attributions find what a net looks at, the deletion test knows them from random ones, and each command draws them."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from PIL import Image
from torch import nn

from src.analysis.explain import attribution
from src.analysis.explain import figures as attribution_figures
from src.commands.evaluate import evaluate
from src.commands.predict import predict
from src.commands.train import train
from src.config import compose
from src.data.tables.modality import TableModality
from src.errors import UserError
from src.experiment.build import build_model, build_node
from src.models.base import Model
from src.models.bert import BERT
from src.models.cnn import CNN
from src.models.fnn import FNN
from src.models.rnn import RNN
from src.models.vit import ViT
from src.spec import Classes, ColumnSchema, DataSpec, ImageSpec, Number, TableSpec, TextSpec
from src.tasks.registry import make_task

TINY = ["trainer.max_epochs=2", "explain=true"]


def table(task: str = "regression", **changes) -> DataSpec:
    names = ("no", "yes") if task == "binary" else ()
    target = Classes(names, (1, 1)) if names else Number()
    options = {"feature_names": ("a", "b", "c"), "mean": (1.0, 2.0, 3.0), "std": (2.0, 4.0, 0.5)}
    return DataSpec("toy", (task,), {"train": 9}, TableSpec((3,), **(options | changes)), target)


def pictures(**changes) -> DataSpec:
    image = ImageSpec((1, 16, 16), **({"mean": (0.5,), "std": (0.25,)} | changes))
    return DataSpec("toy", ("classification",), {"train": 9}, image, Classes(("no", "yes"), (1, 1)))


def built(family: type[Model], spec: DataSpec, **options) -> Model:
    torch.manual_seed(0)
    return family(spec, make_task(spec, family.tasks), **options).eval()


class Quadrant(Model):
    """Sees the upper left quarter alone, through two convolutions."""

    inputs, tasks = (ImageSpec,), ("classification",)

    def __init__(self, spec, task):
        super().__init__(spec, task)
        self.first = nn.Conv2d(1, 2, 3, padding=1)
        self.last = nn.Conv2d(2, 2, 3, padding=1)
        for layer in (self.first, self.last):
            nn.init.constant_(layer.weight, 0.1)
            nn.init.zeros_(layer.bias)

    def forward(self, x):
        seen = self.last(self.first(self.normalize(x)).relu()).relu()
        total = seen[..., :8, :8].mean((1, 2, 3))
        return torch.stack([-total, total], 1)


def bright(count: int = 8) -> torch.Tensor:
    return 0.6 + 0.4 * torch.rand(count, 1, 16, 16, generator=torch.Generator().manual_seed(0))


def checkpoint(folder: Path, overrides: list[str]) -> Path:
    """An untrained model of a configuration, saved as a trained one is."""
    config = compose([*overrides, "tracking=none"])
    data = build_node(config.data)
    data.prepare_data()
    data.setup("fit")
    model = build_model(config, data.spec)
    model.config = OmegaConf.to_container(config, resolve=True)
    path = folder / "model.ckpt"
    torch.save({"labbook": model.description(), "state_dict": model.state_dict()}, path)
    return path


# what they find -------------------------------------------------------------------------------------------------------


def test_integrated_gradients_of_a_linear_model_are_weights_times_distances() -> None:
    model = built(FNN, table(), depth=0)
    x = torch.tensor([[1.0, 2.0, 3.0], [5.0, -2.0, 3.5], [0.0, 9.0, 1.0]])
    (values,) = attribution.attributions(model, x).values()
    expected = model.head.weight * (x - model.input_mean) * model.input_scale
    torch.testing.assert_close(values, expected.detach(), rtol=1e-4, atol=1e-5)
    assert (values[0] == 0).all()


def test_they_speak_for_the_class_that_was_predicted() -> None:
    model = built(FNN, table("binary"), depth=0)
    x = torch.tensor([[9.0, 2.0, 3.0], [-9.0, 2.0, 3.0]])  # one each way along the first column
    with torch.no_grad():
        model.head.weight.copy_(torch.tensor([[1.0, 0.0, 0.0]]))
        model.head.bias.zero_()
    (values,) = attribution.attributions(model, x).values()
    assert values[:, 0].tolist() == pytest.approx([4, 5], rel=1e-4) and (values[:, 1:] == 0).all()


def test_categories_are_taken_away_whole() -> None:
    spec = table(cardinalities=(5,), mean=(), std=())
    model = built(FNN, spec, depth=1)
    x = torch.tensor([[0.5, -1.0, 3.0], [0.0, 0.0, 1.0]])
    found = attribution.attributions(model, x)
    assert list(found) == ["ablation"]
    for column in range(3):
        without = x.clone()
        without[:, column] = 0
        expected = (model(x) - model(without)).squeeze(1).detach()
        torch.testing.assert_close(found["ablation"][:, column], expected)


def test_every_method_shows_the_quarter_that_a_net_looks_at() -> None:
    found = attribution.attributions(built(Quadrant, pictures()), bright())
    assert list(found) == ["integrated gradients", "Grad-CAM", "occlusion"]
    for method, values in found.items():
        assert values.shape == (8, 16, 16)
        share = values[:, :10, :10].abs().sum() / values.abs().sum()  # what a pixel beyond the edge adds reaches in
        assert share > (0.3 if method == "Grad-CAM" else 0.95), method


def test_grad_cam_is_of_the_last_convolution_of_any_net() -> None:
    from torchvision.models import resnet18

    x = torch.rand(1, 1, 16, 16)
    plain = built(CNN, pictures(), channels=[4, 8])
    assert attribution.last_convolution(plain, x) is list(plain.body.children())[-3]
    residual = built(CNN, pictures(), channels=[4, 8], residual=True)
    assert attribution.last_convolution(residual, x) is list(residual.body.children())[-3]
    assert attribution.last_convolution(built(CNN, pictures(), channels=[4], mirror=True), x) is None
    assert attribution.last_convolution(built(ViT, pictures(), width=8, num_layers=1, num_heads=1), x) is None
    backbone = resnet18().eval()
    assert attribution.last_convolution(backbone, torch.rand(1, 3, 128, 128)) is backbone.layer4


@pytest.mark.parametrize("family", [BERT, RNN])
def test_words_that_decide_are_found_wherever_the_padding_is(family) -> None:
    counts = (1,) * 12
    spec = DataSpec(
        "toy", ("classification",), {"train": 9}, TextSpec((8,), token_counts=counts), Classes(("a", "b"), (1, 1))
    )
    options = {"width": 16, "num_layers": 1, "num_heads": 2} if family is BERT else {"hidden_size": 16}
    model = built(family, spec, **options)
    x = torch.tensor([[2, 7, 8, 9, 3, 0, 0, 0], [2, 7, 7, 7, 10, 11, 8, 3]])
    with torch.inference_mode():  # as reports and predictions are made
        (values,) = attribution.attributions(model, x).values()
    assert values.shape == (2, 8) and (values[x < 6] == 0).all() and (values[x >= 6] != 0).all()
    removed = attribution.baseline(model, x)
    drop = (model(x) - model(removed)).gather(1, model(x).argmax(1, keepdim=True)).squeeze(1)
    torch.testing.assert_close(values.sum(1), drop.detach(), rtol=0.02, atol=1e-4)  # Sundararajan's completeness


def test_the_model_and_the_random_state_are_left_alone() -> None:
    model = built(CNN, pictures(), channels=[4, 8])
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    state = torch.get_rng_state()
    found = attribution.attributions(model, bright())
    for values in found.values():
        attribution.deletion(model, bright(), values)
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    again = attribution.attributions(model, bright())
    assert all(torch.equal(found[name], again[name]) for name in found)


def own_table(path):
    config = compose(["model=fnn", "data=csv", f"data.path={path}", "data.target=target", "tracking=none"])
    data = build_node(config.data)
    data.prepare_data()
    data.setup("fit")
    return data


def test_columns_are_shown_as_their_file_has_them(tmp_path) -> None:
    rows = [f"{i % 50},{('red', 'blue', '')[i % 3]},{i % 2}" for i in range(60)]
    (tmp_path / "a.csv").write_text("age,colour,target\n" + "\n".join(rows) + "\n")
    data = own_table(tmp_path / "a.csv")
    assert data.spec.input.cardinalities and not data.spec.input.mean
    shown = {tuple(TableModality(data.spec).cells(row)) for row in data.splits["train"]["input"].tolist()}
    assert shown <= {(f"{i % 50}", ("red", "blue", "missing")[i % 3]) for i in range(60)} and len(shown) > 30


def test_dates_are_shown_by_their_parts(tmp_path) -> None:
    rows = [f"{2015 + i % 9}-{1 + i % 12:02}-{1 + i % 28:02},{i % 2}" for i in range(60)]
    (tmp_path / "a.csv").write_text("sold,target\n" + "\n".join(rows) + "\n")
    data = own_table(tmp_path / "a.csv")
    shown = {tuple(TableModality(data.spec).cells(row)[:3]) for row in data.splits["train"]["input"].tolist()}
    assert shown <= {(f"{2015 + i % 9}", f"{1 + i % 12}", f"{1 + i % 28}") for i in range(60)} and len(shown) > 30


def test_a_zero_is_shown_as_one_after_its_way_through_float32() -> None:
    column = ColumnSchema("a", "number", mean=(0.3816,), std=(0.8061,))
    spec = table(columns=(column,), mean=(), std=())
    row = torch.tensor([-0.3816 / 0.8061, 1.0, 0.0]).tolist()
    assert TableModality(spec).cells(row) == ["0", "1", "0"]


# whether they mean anything -------------------------------------------------------------------------------------------


def test_deletion_tells_attributions_from_random_ones() -> None:
    model, x = built(Quadrant, pictures()), bright(16)
    with torch.no_grad():
        model.last.weight.mul_(20)  # sure of what it sees
    values = attribution.attributions(model, x)["occlusion"]
    test = attribution.deletion(model, x, values)
    assert test.meaningful and test.ratio > 1.3
    assert f"{test.ratio:.1f} times faster than at random: AUC" in test.line("occlusion")
    noise = torch.rand(values.shape, generator=torch.Generator().manual_seed(9))
    test = attribution.deletion(model, x, noise)
    assert not test.meaningful and test.ratio == pytest.approx(1, abs=0.05)
    assert test.line("noise").startswith("warning: removing by noise loses the probability no faster than at random")


def test_a_number_goes_to_that_of_an_empty_row() -> None:
    model = built(FNN, table(), depth=0)
    with torch.no_grad():
        model.head.weight.copy_(torch.tensor([[4.0, 0.0, -0.5]]))
    x = torch.tensor([[5.0, 7.0, 3.0], [-3.0, 7.0, 4.0]])
    (values,) = attribution.attributions(model, x).values()
    test = attribution.deletion(model, x, values)
    assert test.what == "prediction" and test.ranked[0].mean() == pytest.approx(1) and (test.ranked[-1] < 1e-6).all()
    # the first column goes first, and with it all but the share of the last
    torch.testing.assert_close(test.ranked[1], torch.tensor([0.0, 1.0 / 8.5]), rtol=1e-4, atol=1e-5)


# the commands ---------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_run_of_a_table_its_evaluation_and_its_predictions_are_explained(lab, tmp_path) -> None:
    small = ["model=fnn", "data=iris", *TINY]
    result = lab.train(*small)
    assert result.code == 0 and "than at random: AUC" in result.out, result.out + result.err
    run = lab.runs()[0]
    drawn = {"explained_rows.png", "explained_columns.png", "explained_deletion.png"}
    figures = lab.artifacts(run.info.run_id) / "figures"
    assert drawn <= {path.name for path in figures.iterdir()}
    assert lab.train(*small, "explain=false").code == 0
    plain = lab.runs()[0]
    assert plain.data.tags["labbook.config_hash"] == run.data.tags["labbook.config_hash"]
    assert lab.points(plain.info.run_id) == lab.points(run.info.run_id)

    assert lab.run("evaluate", "run=last", "resamples=0", "explain=true").code == 0
    folder = lab.artifacts(plain.info.run_id) / "evaluations" / "1"
    assert drawn <= {path.name for path in folder.iterdir()}
    assert json.loads((folder / "metrics.json").read_text())["config"]["explain"] is True

    names = ["sepal length (cm)", "sepal width (cm)", "petal length (cm)", "petal width (cm)"]
    (tmp_path / "new.csv").write_text(",".join(names) + "\n5.1,3.5,1.4,0.2\n6.3,3.3,6.0,2.5\n")
    output = tmp_path / "out.csv"
    model = figures.parent / "checkpoints" / "best.ckpt"
    predict(compose([f"run={model}", f"data.path={tmp_path}/new.csv", f"output={output}", "explain=true"], "predict"))
    with open(output, newline="") as file:
        for row in csv.DictReader(file):
            values = {name: float(row[f"why({name})"]) for name in names}
            first = max(names, key=lambda name: abs(values[name]))
            assert row["why"].startswith(f"{first} {values[first]:+.2g}, ") and row["why"].count(",") == 2


def test_pictures_are_explained_beside_their_predictions(tmp_path) -> None:
    path = checkpoint(tmp_path, ["model=cnn", "data=digits"])
    (tmp_path / "new").mkdir()
    for i in range(3):
        Image.fromarray(np.full((8, 8), 80 * i, np.uint8)).save(tmp_path / "new" / f"picture{i}.png")
    options = [f"run={path}", f"data.path={tmp_path}/new", f"output={tmp_path}/answers.csv"]
    asked = compose([*options, "explain=true", "explain_rows=2", "batch_size=1"], name="predict")
    predict(asked)
    folder = tmp_path / "answers_explained"
    assert sorted(path.name for path in folder.iterdir()) == ["001_picture0.png", "002_picture1.png"]
    (tmp_path / "answers.csv").unlink()
    with pytest.raises(UserError, match="answers_explained exists"):
        predict(asked)
    assert not (tmp_path / "answers.csv").exists()


COMMANDS = {
    "train": (train, ["tracking=none"]),
    "predict": (predict, ["run=last", "data.path=x.csv"]),
    "evaluate": (evaluate, ["run=last"]),
}


@pytest.mark.parametrize("command", COMMANDS)
def test_without_captum_one_line_says_what_to_install(command, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "captum", None)
    run, options = COMMANDS[command]
    with pytest.raises(UserError, match="^explain=true needs captum: pip install captum$"):
        run(compose([*options, "explain=true"], name=command))


def test_what_cannot_be_explained_is_said_and_predicted_all_the_same(tmp_path, capsys) -> None:
    path = checkpoint(tmp_path, ["model=gpt", "data=topics", "model.width=8", "model.num_layers=1"])
    options = [f"run={path}", "text=the", "tokens=2", "explain=true"]
    predict(compose(options, name="predict"))
    assert "explain=true: only answers of one class or number a row are explained" in capsys.readouterr().out
    spec = DataSpec("toy", ("causal_lm",), {"train": 9}, TextSpec((8,), token_counts=(1,) * 12))
    model = built(RNN, spec, hidden_size=8)
    (line,) = attribution_figures.save_all(tmp_path / "figures", model, {}, [], "test")
    assert line.startswith("explain=true: attributions are of") and not (tmp_path / "figures").exists()
