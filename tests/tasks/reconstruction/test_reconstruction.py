"""Rows given back: figures by hand, anomalies kept out of training, noise in training only, scores and pictures."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from hydra.utils import instantiate
from PIL import Image
from sklearn import metrics as sk

from src.config import compose
from src.data.core.module import DataModule
from src.errors import UserError
from src.experiment.assemble import assemble
from src.experiment.build import build_model
from src.models.base import Model
from src.runtime.signals import Signals
from tests.commands.test_predict import answers, ask, checkpoint
from tests.data.images.tiny import picture_folder
from tests.tiny import batch_of, build, dataset


def ready(*overrides: str) -> DataModule:
    data = instantiate(compose([*overrides]).data, _convert_="all")
    data.prepare_data()
    data.setup("fit")
    return data


def made(*overrides: str) -> tuple[Model, DataModule]:
    data = ready(*overrides)
    torch.manual_seed(0)
    return build_model(compose([*overrides]), data.spec), data


def of_test(model: Model, data: DataModule) -> dict[str, float]:
    """The test's figures of the weights as they are."""
    model.eval()
    with torch.no_grad():
        model.test_step(data.head("test", data.spec.splits["test"]), 0)
    return model.metrics["test"].compute()


# figures -------------------------------------------------------------------------------------------------------------


def test_psnr_and_mse_are_those_of_numpy() -> None:
    model, data = made("model=autoencoder", "data=digits")
    values = of_test(model, data)
    pixels = data.splits["test"]["input"].numpy().reshape(-1, 64) / 16
    with torch.no_grad():
        back = model(data.splits["test"]["input"])[:, :64].numpy()
    error = np.square(back - pixels).mean(1)
    assert values["mse"] == pytest.approx(error.mean(), rel=1e-5) and values["loss"] == pytest.approx(values["mse"])
    assert values["psnr"] == pytest.approx((10 * np.log10(1 / error)).mean(), rel=1e-5)
    mean = data.splits["train"]["input"].numpy().reshape(-1, 64).mean(0) / 16
    baseline = model.metrics["test"].baseline()
    assert baseline["mse"] == pytest.approx(np.square(mean - pixels).mean(), rel=1e-5)


def test_a_table_comes_back_in_standard_units_with_its_categories_in_places() -> None:
    data = dataset("csv")
    model = build("autoencoder", "csv")
    rows = batch_of("csv", model, 8)["input"]
    target, (count,) = model.task.target({"input": rows}), data.spec.input.cardinalities
    torch.testing.assert_close(target[:, : rows.shape[1] - 1], rows[:, :-1])
    assert torch.equal(target[:, -count:].argmax(1), rows[:, -1].long()) and (target[:, -count:].sum(1) == 1).all()
    whole = model.task.target({"input": data.splits["train"]["input"]})
    torch.testing.assert_close(model.task.average, whole.mean(0), rtol=1e-4, atol=1e-5)
    plain = build("autoencoder", "breast_cancer")
    rows = plain.task.target({"input": dataset("breast_cancer").splits["train"]["input"]})
    torch.testing.assert_close(rows.std(0, correction=0), torch.ones(30), rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(plain.task.average, torch.zeros(30), rtol=0, atol=1e-4)


def test_cross_entropy_is_of_pixels_only() -> None:
    model, data = made("model=autoencoder", "data=digits", "task.loss=bce")
    values = of_test(model, data)
    pixels = data.splits["test"]["input"].flatten(1).double() / 16
    with torch.no_grad():
        p = model(data.splits["test"]["input"])[:, :64].double()
    assert ((p > 0) & (p < 1)).all()
    assert values["loss"] == pytest.approx(-(pixels * p.log() + (1 - pixels) * (1 - p).log()).mean().item(), rel=1e-4)
    with pytest.raises(UserError, match="task.loss=bce is for images"):
        made("model=autoencoder", "data=iris", "task.loss=bce")


# the code ------------------------------------------------------------------------------------------------------------


def test_a_linear_code_comes_near_the_principal_components() -> None:
    """Which no linear autoencoder can beat (Bourlard and Kamp 1988)."""
    model, data = made("model=autoencoder", "data=digits", "model.hidden_sizes=[]")
    rows = data.head("train", 1000)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(400):
        loss = model.training_step(rows, 0)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    x = rows["input"].flatten(1).double() / 16
    left = torch.linalg.svdvals(x - x.mean(0))[8:].square().sum() / x.numel()
    assert left < loss.item() < 1.1 * left


@pytest.mark.parametrize("kind", ["gaussian", "mask"])
def test_noise_is_in_training_only_and_what_should_come_back_has_none(kind: str) -> None:
    model, data = made("model=autoencoder", "data=digits", "model.noise=0.5", f"model.noise_kind={kind}")
    x = data.splits["train"]["input"][:8]
    with torch.no_grad():
        model.train()
        first, second = model(x), model(x)
        torch.manual_seed(3)
        third = model(x)
        torch.manual_seed(3)
        assert torch.equal(third, model(x)) and not torch.equal(first, second)
        assert third[:, -1].allclose((third[:, :64] - x.flatten(1) / 16).square().mean(1))
        model.eval()
        assert torch.equal(model(x), model(x))


def test_a_sparse_code_is_nearer_to_zero() -> None:
    sizes = {}
    for weight in (0.0, 1.0):
        options = [f"model.sparsity={weight}", "trainer=cpu", "trainer.max_epochs=3", "log_images=0"]
        parts = assemble(compose(["model=autoencoder", "data=digits", *options]), Signals())
        parts.trainer.callbacks = [callback for callback in parts.trainer.callbacks if callback is not parts.checkpoint]
        parts.trainer.fit(parts.model, datamodule=parts.data)
        with torch.no_grad():
            sizes[weight] = parts.model.code(parts.data.splits["val"]["input"]).abs().mean()
    assert sizes[1.0] < 0.5 * sizes[0.0]


@pytest.mark.parametrize("model", ["autoencoder", "vae"])
@pytest.mark.parametrize("side", [8, 9, 17, 64])
def test_convolutions_give_any_size_back(model: str, side: int, tmp_path) -> None:
    draw = np.random.default_rng(0)
    pixels = draw.integers(0, 256, (30, side, side + 3, 3), dtype=np.uint8)
    np.savez(tmp_path / "x.npz", x=pixels, y=np.arange(30) % 2)
    net, data = made(f"model={model}", "data=npz", f"data.path={tmp_path}/x.npz", "model.convolutional=true")
    outputs = net.eval()(data.splits["train"]["input"][:4])
    assert outputs.shape == (4, 3 * side * (side + 3) + 3)
    pictures = net.sample_images(data.head("val", 4))
    assert all(images.shape[1:] == (3, side, side + 3) for images in pictures.values())


# anomalies -----------------------------------------------------------------------------------------------------------


def anomalous_table(folder: Path) -> list[str]:
    path = folder / "table.csv"
    rows = [f"{i % 10 + (100 if i % 5 == 0 else 0)},{'odd' if i % 5 == 0 else 'usual'}" for i in range(200)]
    path.write_text("\n".join(["size,kind", *rows]))
    return ["data=csv", f"data.path={path}", "data.target=kind", "data.anomalies=[odd]"]


def labelled(name: str, folder: Path) -> list[str]:
    if name == "csv":
        return anomalous_table(folder)
    if name == "image_folder":
        return ["data=image_folder", f"data.path={picture_folder()}", "data.anomalies=[class1]"]
    if name == "npz":
        np.savez(folder / "x.npz", x=np.random.default_rng(0).normal(size=(60, 4)), y=np.arange(60) % 3)
        return ["data=npz", f"data.path={folder}/x.npz", "data.anomalies=[1]"]
    return [f"data={name}", "data.anomalies=[malignant]" if name == "breast_cancer" else "data.anomalies=[3,7]"]


@pytest.mark.parametrize("name", ["digits", "breast_cancer", "csv", "image_folder", "npz"])
def test_anomalies_are_in_the_test_part_alone(name: str, tmp_path) -> None:
    options = labelled(name, tmp_path)
    data, plain = ready(*options), ready(*options[:-1])
    numbers = torch.tensor([data.class_names.index(wanted) for wanted in data.spec.target.anomalies])
    for part in ("train", "val", "test"):
        target = data.splits[part]["target"]
        assert torch.isin(target, numbers).any() == (part == "test"), part
        usual = plain.splits[part]["target"]
        assert torch.equal(target, usual if part == "test" else usual[~torch.isin(usual, numbers)])
    assert data.spec.tasks == data.inputs[0].unlabelled == plain.spec.tasks[-len(data.spec.tasks) :]
    assert all(data.spec.class_counts[number] == 0 for number in numbers)
    if hasattr(data, "row_name"):
        assert data.row_name("train", 0) != data.row_name("train", 1)


def test_a_table_is_measured_without_its_anomalies(tmp_path) -> None:
    (column,) = ready(*anomalous_table(tmp_path)).spec.input.columns
    assert column.mean == pytest.approx([5], abs=0.5)  # the anomalies are about 105


def test_anomalies_are_told_by_the_error(tmp_path) -> None:
    model, data = made("model=autoencoder", *labelled("breast_cancer", tmp_path))
    values = of_test(model, data)
    with torch.no_grad():
        score = model.task.predict(model(data.splits["test"]["input"]))[:, -1]
    truth = data.splits["test"]["target"] == 0
    assert data.class_names[0] == "malignant"
    assert values["auroc"] == pytest.approx(sk.roc_auc_score(truth, score), abs=1e-6)
    assert values["average_precision"] == pytest.approx(sk.average_precision_score(truth, score), abs=1e-6)
    assert 0.8 < model.metrics["test"].baseline()["auroc"] < 1  # how far a row is from the mean


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ["data=breast_cancer", "data.anomalies=[malignent]"],
            "malignent is no class of data=breast_cancer.*malignant",
        ),
        (["data=iris", "data.anomalies=[setosa,versicolor,virginica]"], "leave no row to train"),
        (["data=digits", "data.anomalies=[3]", "model=cnn"], "models that fit: autoencoder, gan, vae, wgan$"),
        (["data=digits", "model.latent_size=0"], "model.latent_size=0 must be at least 1"),
        (["data=digits", "model.hidden_sizes=[8,0]"], r"model.hidden_sizes=\[8,0\] must each be at least 1"),
        (["data=iris", "model.convolutional=true"], "model.convolutional=true is for images"),
        (["data=digits", "model.noise=1", "model.noise_kind=mask"], "model.noise=1"),
        (["data=digits", "model.sparsity=-1"], "model.sparsity=-1"),
        (["data=iris", "task.monitor=psnr"], "task.monitor=psnr is no metric of reconstruction"),
    ],
)
def test_what_cannot_be_is_said_in_one_line(options: list[str], message: str) -> None:
    model = [] if any(option.startswith("model=") for option in options) else ["model=autoencoder"]
    with pytest.raises(UserError, match=message):
        made(*model, *options)


# prediction ----------------------------------------------------------------------------------------------------------


def test_a_table_gets_a_score_a_row(tmp_path) -> None:
    model = checkpoint(tmp_path, "model=autoencoder", "data=iris")
    path = tmp_path / "new.csv"
    names = "sepal length (cm),sepal width (cm),petal length (cm),petal width (cm)"
    path.write_text(f"{names}\n5.1,3.5,1.4,0.2\n51,35,14,2\n")
    usual, strange = (float(row["score"]) for row in answers(model, f"data.path={path}"))
    assert 0 < usual < strange / 10


def test_pictures_of_any_size_come_back_in_the_model_s_own(tmp_path) -> None:
    model = checkpoint(tmp_path, "model=autoencoder", "data=digits")
    folder = tmp_path / "new"
    (folder / "deep").mkdir(parents=True)
    for name, size in (("small.png", (5, 9)), ("deep/large.png", (40, 30))):
        Image.fromarray(np.random.default_rng(0).integers(0, 256, size, dtype=np.uint8)).save(folder / name)
    output = tmp_path / "answers.csv"
    ask(model, f"data.path={folder}", f"output={output}")
    with open(output, newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["file"] for row in rows] == ["deep/large.png", "small.png"] and float(rows[0]["score"]) > 0
    for row in rows:
        with Image.open(tmp_path / "answers_reconstructed" / f"{row['file']}.png") as picture:
            assert picture.size == (8, 8)
    with pytest.raises(UserError, match="answers_reconstructed exists"):
        ask(model, f"data.path={folder}", f"output={tmp_path}/answers.parquet")
    with pytest.raises(UserError, match=r"num_samples=3: run .* \(Autoencoder\) makes no new images"):
        ask(model, "num_samples=3", f"output={tmp_path}/new.png")
