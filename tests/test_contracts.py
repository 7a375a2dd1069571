"""What every model promises on every dataset. New models and datasets are found in conf/ by themselves."""

from __future__ import annotations

import atexit
import itertools
import shutil
import tempfile
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from src.config import compose
from src.config.sources import CONF
from src.data.base import DataModule
from src.data.images import Torchvision
from src.errors import UserError
from src.experiment import _build, build_model, fitting_models
from src.models.base import Model
from src.models.load import load_model
from src.training.checkpoint import save_atomically

MODELS = sorted(path.stem for path in (CONF / "model").glob("*.yaml"))
DATASETS = sorted(path.stem for path in (CONF / "data").glob("*.yaml"))
PAIRS = list(itertools.product(MODELS, DATASETS))


def generated(data: Torchvision) -> dict:
    """Rows of a download's own shape; that the download itself is read rightly is tested with the real files."""
    shape = (1, 28, 28) if "mnist" in data.name else (3, 32, 32)
    classes = 100 if data.name == "cifar100" else 10
    data.class_names = tuple(map(str, range(classes)))
    draw = torch.Generator().manual_seed(0)

    def part(rows: int) -> dict:
        target = torch.arange(rows) % classes
        inputs = torch.randint(0, 64, (rows, *shape), dtype=torch.uint8, generator=draw)
        inputs[:, :, 0, :2] = (target * 191 // classes).to(torch.uint8)[:, None, None]
        return {"input": inputs, "target": target}

    return {"train": part(10 * classes), "test": part(2 * classes)}


@cache
def options(name: str) -> list[str]:
    """The choice of a dataset, and what it needs beside its name."""
    needed = {"image_folder": picture_folder}
    return [f"data={name}", *([f"data.path={needed[name]()}"] if name in needed else [])]


def picture_folder() -> str:
    """Three classes of small grey pictures, which differ in brightness."""
    folder = Path(tempfile.mkdtemp(prefix="labbook-pictures-"))
    atexit.register(shutil.rmtree, folder)
    draw = np.random.default_rng(0)
    for label, row in itertools.product(range(3), range(20)):
        (folder / f"class{label}").mkdir(exist_ok=True)
        pixels = draw.integers(60 * label, 60 * label + 40, (12, 12), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"class{label}" / f"{row}.png")
    return str(folder)


@cache
def dataset(name: str) -> DataModule:
    data = _build(compose(options(name)).data)
    if isinstance(data, Torchvision):
        data.load = lambda: generated(data)
    else:
        data.prepare_data()
    data.setup("fit")
    return data


def build(model: str, data: str) -> Model:
    torch.manual_seed(0)
    return build_model(compose([f"model={model}", *options(data)]), dataset(data).spec)


def fits(model: str, data: str) -> bool:
    return model in fitting_models(dataset(data).spec)


def batch_of(data: str, rows: int) -> dict[str, torch.Tensor]:
    part = dataset(data).parts["train"]
    return {name: tensor[:rows].clone() for name, tensor in part.items()}


@pytest.fixture(params=[pair for pair in PAIRS], ids="-".join)
def pair(request) -> tuple[str, str]:
    model, data = request.param
    if not fits(model, data):
        with pytest.raises(UserError, match="models that fit: .*fnn"):
            build(model, data)
        pytest.skip("refused before training, with the models that fit")
    return model, data


def test_learns_one_batch(pair) -> None:
    model, batch = build(*pair), batch_of(pair[1], 32)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    losses = []
    for _ in range(30):
        loss = model.training_step(batch, 0)
        optimizer.zero_grad()
        loss.backward()
        assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in model.parameters())
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]


def test_an_example_is_judged_alone(pair) -> None:
    model, batch = build(*pair).eval(), batch_of(pair[1], 8)
    with torch.no_grad():
        together = model(batch["input"])
        alone = torch.cat([model(batch["input"][i : i + 1]) for i in range(8)])
    # the order of additions differs with the batch's size, so not bit for bit
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)


def test_outputs_and_predictions_have_the_task_s_shape(pair) -> None:
    model, batch = build(*pair).eval(), batch_of(pair[1], 8)
    with torch.no_grad():
        outputs = model(batch["input"])
        prediction = model.task.predict(outputs)
    assert outputs.shape == (8, model.task.num_outputs)
    assert outputs.dtype == torch.float32
    assert len(prediction) == 8
    if model.task.name == "classification":
        torch.testing.assert_close(prediction.sum(-1), torch.ones(8))
    values = model.task.metrics()(prediction, batch["target"])
    assert values.keys() | {"loss"} == set(model.task.directions)


def test_same_seed_same_weights(pair) -> None:
    first, second = build(*pair).state_dict(), build(*pair).state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_checkpoint_rebuilds_the_model(pair, tmp_path) -> None:
    model, batch = build(*pair).eval(), batch_of(pair[1], 8)
    from omegaconf import OmegaConf

    model.config = OmegaConf.to_container(compose([f"model={pair[0]}", *options(pair[1])]), resolve=True)
    path = tmp_path / "model.ckpt"
    save_atomically({"state_dict": model.state_dict(), "labbook": model.description()}, path)
    again = load_model(path)
    assert again.spec == model.spec
    with torch.no_grad():
        assert torch.equal(again(batch["input"]), model(batch["input"]))


def test_a_step_is_a_function(pair) -> None:
    """Loss and gradients come out of torch.func as they do out of the module itself."""
    model, batch = build(*pair).eval(), batch_of(pair[1], 8)
    parameters = {name: p.detach() for name, p in model.named_parameters()}

    def loss(values):
        return model.task.loss(torch.func.functional_call(model, values, (batch["input"],)), batch)

    gradients = torch.func.grad(loss)(parameters)
    model.task.loss(model(batch["input"]), batch).backward()
    for name, p in model.named_parameters():
        torch.testing.assert_close(gradients[name], p.grad)


def test_every_dataset_has_a_model_that_fits() -> None:
    for name in DATASETS:
        assert any(fits(model, name) for model in MODELS), name
