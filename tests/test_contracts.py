"""What every model promises on every dataset. New models and datasets are found in conf/ by themselves."""

from __future__ import annotations

import atexit
import io
import itertools
import json
import shutil
import tempfile
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from PIL import Image
from rich.console import Console

from src.config import compose
from src.config.sources import CONF
from src.data.base import DataModule
from src.data.images import Torchvision
from src.data.pairs import Lines
from src.data.series import Series
from src.data.squad import Squad
from src.data.text import Corpus, LabelledText
from src.errors import UserError
from src.experiment import _build, build_model, fitting_models
from src.models.base import Model
from src.models.load import load_model
from src.reports import summary
from src.text import PAD
from src.training.checkpoint import save_atomically

MODELS = sorted(path.stem for path in (CONF / "model").glob("*.yaml"))
DATASETS = sorted(path.stem for path in (CONF / "data").glob("*.yaml"))
# differ from another dataset in their rows alone, or from lstm in the cell
TWINS = {
    *("fashion_mnist", "svhn", "cifar100", "wine", "tiny_shakespeare", "text_file", "sst2", "text_csv", "xquad"),
    *("multi30k", "lines", "ett", "airline", "sp500"),
}
PAIRS = [
    (model, data)
    for model, data in itertools.product(MODELS, DATASETS)
    if data not in TWINS and (model not in ("rnn", "gru") or data == "digits")
]


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
    needed = {
        "image_folder": picture_folder,
        "text_file": text_file,
        "text_csv": text_table,
        "series": time_table,
        "squad": questions,
    }
    if name == "lines":
        return [f"data={name}", *(f"data.{side}_path={path}" for side, path in zip(SIDES, two_files(), strict=True))]
    return [f"data={name}", *([f"data.path={needed[name]()}"] if name in needed else [])]


SIDES = ("source", "target")


@cache
def scratch() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="labbook-contracts-"))
    atexit.register(shutil.rmtree, folder)
    return folder


def sentences(count: int) -> list[str]:
    """Of many lengths, each with words that tell its class, which is its number modulo 3."""
    words = (("red", "rose", "ruby"), ("green", "leaf", "grass"), ("blue", "sea", "sky"))
    return [" ".join(words[i % 3][(i + j) % 3] for j in range(1 + i % 5)) for i in range(count)]


def text_file() -> str:
    path = scratch() / "text.txt"
    path.write_text("\n".join(sentences(300)))
    return str(path)


def text_table() -> str:
    path = scratch() / "table.csv"
    rows = [f"{sentence},class{i % 3}" for i, sentence in enumerate(sentences(90))]
    path.write_text("\n".join(["text,label", *rows]))
    return str(path)


def two_files() -> tuple[Path, Path]:
    """Sentences, and the same backwards."""
    paths = scratch() / "forwards.txt", scratch() / "backwards.txt"
    paths[0].write_text("\n".join(sentences(90)))
    paths[1].write_text("\n".join(" ".join(reversed(sentence.split())) for sentence in sentences(90)))
    return paths


def time_table(time: str = "date", columns: tuple[str, ...] = ("load", "heat"), rows: int = 300) -> str:
    """Hourly waves of a day and a week."""
    path = scratch() / f"{time}-{'-'.join(columns)}-{rows}.csv"
    hours = np.arange(rows)
    times = np.datetime64("2020-01-01T00:00:00") + hours.astype("timedelta64[h]")
    waves = [5 + i + np.sin(hours * np.pi / 12 + i) + np.sin(hours * np.pi / 84) for i in range(len(columns))]
    lines = [f"{t},{','.join(f'{v:.4f}' for v in values)}" for t, *values in zip(times, *waves, strict=True)]
    path.write_text("\n".join([",".join([time, *columns]), *lines]))
    return str(path)


def questions() -> str:
    """Six articles; each question asks for one word of its context."""
    path = scratch() / "questions.json"
    articles = []
    for i in range(6):
        words = [f"{sentence.split()[0]}{i}{j}" for j, sentence in enumerate(sentences(6))]
        context = " ".join(words)
        asked = [
            {"id": f"{i}-{j}", "question": f"where {w}", "answers": [{"text": w, "answer_start": context.index(w)}]}
            for j, w in enumerate(words)
        ]
        articles.append({"title": str(i), "paragraphs": [{"context": context, "qas": asked}]})
    path.write_text(json.dumps({"version": "1.1", "data": articles}))
    return str(path)


def picture_folder() -> str:
    """Three classes of small grey pictures, which differ in brightness."""
    folder = scratch() / "pictures"
    draw = np.random.default_rng(0)
    for label, row in itertools.product(range(3), range(20)):
        (folder / f"class{label}").mkdir(parents=True, exist_ok=True)
        pixels = draw.integers(60 * label, 60 * label + 40, (12, 12), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"class{label}" / f"{row}.png")
    return str(folder)


@cache
def dataset(name: str) -> DataModule:
    data = _build(compose(options(name)).data)
    if isinstance(data, Torchvision):
        data.load = lambda: generated(data)
    elif isinstance(data, Corpus) and data.name == "tiny_shakespeare":
        data.prepare_data = lambda: setattr(data, "path", Path(text_file()))
    elif isinstance(data, LabelledText) and data.name != "file":
        rows = [(sentence, str(i % 2)) for i, sentence in enumerate(sentences(60))]
        data._rows_of_parts = lambda: {"train": rows[:30], "val": rows[30:45], "test": rows[45:]}
    elif isinstance(data, Series) and data.name != "series":
        columns = ("close",) if name == "sp500" else ("a", "b")
        path = time_table(data.time, columns, 14_400 if name == "ett" else 300)
        data.prepare_data = lambda: setattr(data, "path", Path(path))
    elif isinstance(data, Squad) and data.name != "squad":
        data.prepare_data = lambda: setattr(data, "path", Path(questions()))
    elif isinstance(data, Lines) and name != "lines":
        data.paths = dict.fromkeys(("train", "val", "test"), two_files())
        data.prepare_data = lambda: None
    else:
        data.prepare_data()
    data.setup("fit")
    return data


def build(model: str, data: str) -> Model:
    torch.manual_seed(0)
    return build_model(compose([f"model={model}", *options(data)]), dataset(data).spec)


def fits(model: str, data: str) -> bool:
    return model in fitting_models(dataset(data).spec)


def batch_of(data: str, model: Model, rows: int) -> dict[str, torch.Tensor]:
    """The first training rows, as the model's task prepares them for evaluation."""
    batch = dataset(data).head("train", rows)
    return dict(model.task.prepare({name: tensor.clone() for name, tensor in batch.items()}))


class Outputs(torch.nn.Module):
    """A model as a function of a prepared batch, for torch.func."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        return self.model.outputs(batch)


@pytest.fixture(params=[pair for pair in PAIRS], ids="-".join)
def pair(request) -> tuple[str, str]:
    model, data = request.param
    if not fits(model, data):
        with pytest.raises(UserError, match=r"models that fit: \w"):
            build(model, data)
        pytest.skip("refused before training, with the models that fit")
    return model, data


def test_overfits_eight_examples(pair) -> None:
    model = build(*pair)
    batch = dataset(pair[1]).head("train", 8)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.002)
    losses = []
    for _ in range(100):
        loss = model.training_step(batch, 0)
        optimizer.zero_grad()
        loss.backward()
        assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in model.parameters())
        optimizer.step()
        losses.append(loss.item())
    # hidden tokens are others in each step; what to add, and where an answer lies, is found late
    late = model.task.name in ("masked_lm", "question_answering") or pair[1] == "adding"
    assert losses[-1] < (0.9 if late else 0.5) * losses[0]


def test_an_example_is_judged_alone(pair) -> None:
    model = build(*pair).eval()
    batch = batch_of(pair[1], model, 8)
    with torch.no_grad():
        together = model.outputs(batch)
        alone = torch.cat([model.outputs({k: v[i : i + 1] for k, v in batch.items()}) for i in range(8)])
    # the order of additions differs with the batch's size, so not bit for bit
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)


def test_padding_changes_nothing(pair) -> None:
    model = build(*pair).eval()
    if model.spec.kind not in ("tokens", "pairs"):
        pytest.skip("nothing is padded")
    batch = batch_of(pair[1], model, 8)
    longer = {k: torch.nn.functional.pad(v, (0, 3)) if k == "input" else v for k, v in batch.items()}
    for row in range(8):
        real = int((batch["input"][row] != PAD).sum())
        shorter = {k: v[row : row + 1] for k, v in batch.items()} | {"input": batch["input"][row : row + 1, :real]}
        with torch.no_grad():
            expected = model.outputs(shorter)
            fits = batch["input"].shape[1] + 3 <= getattr(model, "max_length", 0)
            padded = model.outputs(longer if fits else batch)[row : row + 1]
        padded = padded[:, : expected.shape[1]] if model.task.per_token else padded
        torch.testing.assert_close(padded, expected, rtol=1e-4, atol=1e-5)


def test_outputs_and_predictions_have_the_task_s_shape(pair) -> None:
    model = build(*pair).eval()
    batch, task = batch_of(pair[1], model, 8), model.task.eval()
    with torch.no_grad():
        outputs = model.outputs(batch)
        judged = task.judge(outputs, batch)
        prediction = task.prediction(judged.outputs)
    positions = outputs.shape[1:-1]
    assert outputs.shape == (8, *positions, task.num_outputs)
    assert outputs.dtype == torch.float32
    assert len(prediction) == len(judged.target) == 8
    assert len(task.predict(outputs)) == 8
    if task.name in ("classification", "causal_lm", "masked_lm"):
        torch.testing.assert_close(task.predict(outputs).sum(-1), torch.ones(8, *positions))
    values = task.metrics()(prediction, judged.target)
    assert values.keys() | {"loss"} == set(task.directions)
    baseline = task.baseline(judged.target, judged.reference)
    assert task.metrics()(baseline, judged.target).keys() == values.keys()


def test_predictions_can_be_read(pair) -> None:
    model, out = build(*pair).eval(), io.StringIO()
    with torch.no_grad():
        predictions, targets = model.shown(dataset(pair[1]).head("test", 3))
    show = summary.print_predictions if predictions.is_floating_point() else summary.print_texts
    show(Console(file=out, width=200), model.spec, predictions.tolist(), targets.tolist())
    assert all(f"\n│ {row} " in out.getvalue() for row in range(3)) and "actual" in out.getvalue()


def test_same_seed_same_weights(pair) -> None:
    first, second = build(*pair).state_dict(), build(*pair).state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_checkpoint_rebuilds_the_model(pair, tmp_path) -> None:
    model = build(*pair).eval()
    batch = batch_of(pair[1], model, 8)
    config = compose([f"model={pair[0]}", *options(pair[1])])
    model.config = OmegaConf.to_container(config, resolve=True)
    path = tmp_path / "model.ckpt"
    save_atomically({"state_dict": model.state_dict(), "labbook": model.description()}, path)
    again = load_model(path)
    assert again.spec == model.spec
    with torch.no_grad():
        assert torch.equal(again.outputs(batch), model.outputs(batch))


def test_a_step_is_a_function(pair) -> None:
    """Loss and gradients come out of torch.func as they do out of the module itself."""
    model = Outputs(build(*pair).eval())
    task, batch = model.model.task, batch_of(pair[1], model.model, 8)
    parameters = {name: p.detach() for name, p in model.named_parameters()}

    def loss(values):
        return task.loss(torch.func.functional_call(model, values, (batch,)), batch)

    gradients = torch.func.grad(loss)(parameters)
    task.loss(model(batch), batch).backward()
    for name, p in model.named_parameters():
        torch.testing.assert_close(gradients[name], p.grad)


def test_every_dataset_has_a_model_that_fits() -> None:
    for name in DATASETS:
        assert any(fits(model, name) for model in MODELS), name
