"""Texts that a model writes while it is trained: always the same, once each also after a resume, bits unchanged."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
from omegaconf import OmegaConf

from src.config import compose
from src.data.text.corpus import Corpus
from src.models.gpt import GPT
from src.models.rnn import RNN
from src.tasks.registry import make_task
from src.tracking import config_hash
from src.training.callbacks.log_texts import Texts
from tests.conftest import Lab
from tests.experiment.test_artifacts import read

RUN = [
    *("model=gpt", "data=topics", "data.context=24", "data.batch_size=16", "model.width=16", "model.num_layers=1"),
    *("model.num_heads=2", "model.dropout=0.2", "trainer.max_epochs=2", "trainer.limit_train_batches=6", "test=false"),
    *("trainer.limit_val_batches=1", "checkpoint.every_n_steps=4", "tracking.system_metrics=false"),
]


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Corpus:
    path: Path = tmp_path_factory.mktemp("text") / "text.txt"
    path.write_text("the cat sat on the mat. " * 200)
    data = Corpus(source="file", path=str(path), context=24, batch_size=16)
    data.setup()
    return data


def build(data: Corpus, kind: type = GPT, **options):
    torch.manual_seed(0)
    sizes = {"width": 16, "num_layers": 1, "num_heads": 2} if kind is GPT else {"hidden_size": 16}
    return kind(data.spec, make_task(data.spec, kind.tasks, name="causal_lm"), **(sizes | options))


def fit(model, data: Corpus, texts: Texts, **options) -> None:
    limits = {"max_epochs": 3, "limit_train_batches": 2, "limit_val_batches": 1}
    trainer = pl.Trainer(
        enable_progress_bar=False, enable_model_summary=False, accelerator="cpu", enable_checkpointing=False,
        logger=False, callbacks=[texts], **(limits | options),
    )  # fmt: skip
    trainer.fit(model, datamodule=data)


@pytest.mark.parametrize("kind", [GPT, RNN])
def test_each_validation_adds_its_rows(data, tmp_path, kind) -> None:
    texts = Texts(rows=2)
    texts.folder = tmp_path
    fit(build(data, kind), data, texts)
    table = read(tmp_path / "texts.csv")
    assert [(row["epoch"], row["step"], row["row"]) for row in table] == [
        (str(epoch), str(2 * epoch), str(row)) for epoch in (1, 2, 3) for row in (0, 1)
    ]
    beginnings = [data.tokenizer.decode(ids) for ids in data.head("val", 2)["input"].tolist()]
    for row in table:
        assert row["prompt"] and beginnings[int(row["row"])].startswith(row["prompt"])
        assert len(row["prompt"]) + len(row["text"]) <= 24  # fewer where [EOS] was drawn
    assert max(len(row["text"]) for row in table) > 10


def test_what_is_written_depends_on_the_weights_alone(data) -> None:
    model, batch = build(data, dropout=0.5).eval(), data.head("val", 3)
    state = torch.get_rng_state()
    prompt, text = model.generate_texts(batch)
    assert torch.equal(torch.get_rng_state(), state)
    torch.rand(5)
    assert torch.equal(model.generate_texts(batch)[1], text)
    assert torch.equal(prompt, batch["input"][:, : prompt.shape[1]])
    model.head.weight.data.mul_(-1)
    assert not torch.equal(model.generate_texts(batch)[1], text)


def test_a_long_training_has_a_short_table(data, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("src.training.callbacks.log_texts.MOST", 10)
    texts = Texts(rows=1)
    texts.folder = tmp_path
    epochs = 25
    fit(build(data), data, texts, max_epochs=epochs, limit_train_batches=1)
    # every fourth, the first of all among them
    assert [int(row["epoch"]) for row in read(tmp_path / "texts.csv")] == list(range(1, epochs + 1, 4))


def test_a_model_that_cannot_write_is_trained_all_the_same(data, tmp_path, monkeypatch) -> None:
    texts = Texts()
    texts.folder = tmp_path
    monkeypatch.setattr(GPT, "generate_texts", lambda self, batch: 1 / 0)
    model = build(data)
    fit(model, data, texts)
    assert texts.notes == ["texts.csv: stopped, ZeroDivisionError: division by zero"]
    assert len(model.history["val/loss"]) == 3 and not (tmp_path / "texts.csv").exists()


def test_training_never_notices(data, tmp_path) -> None:
    models = {}
    for rows in (0, 3):
        texts = Texts(rows=rows)
        texts.folder = tmp_path
        models[rows] = build(data, dropout=0.2)
        torch.manual_seed(1)  # of dropout, which no callback seeds anew here
        fit(models[rows], data, texts)
        assert (tmp_path / "texts.csv").exists() == (rows > 0)
    for name, tensor in models[0].state_dict().items():
        assert torch.equal(models[3].state_dict()[name], tensor), name
    assert models[0].history == models[3].history
    hashes = {config_hash(OmegaConf.to_container(compose([f"log_texts={rows}"]), resolve=True)) for rows in (0, 3)}
    assert len(hashes) == 1  # it is the same experiment


def test_a_killed_and_resumed_run_has_each_text_once(tmp_path) -> None:
    whole, cut = (Lab(tmp_path / name) for name in ("whole", "cut"))
    for lab in (whole, cut):
        lab.folder.mkdir()
    assert whole.train(*RUN).code == 0
    (run,) = whole.runs()
    assert "texts.csv" in [file.path for file in whole.client.list_artifacts(run.info.run_id)]
    expected = read(whole.artifacts(run.info.run_id) / "texts.csv")
    assert [row["epoch"] for row in expected] == ["1"] * 3 + ["2"] * 3

    # after the second epoch's texts are written, before a checkpoint knows of them
    assert cut.train(*RUN, kill=("validation", 2)).code == -signal.SIGKILL
    (killed,) = cut.runs()
    place = cut.artifacts(killed.info.run_id) / "texts.csv"
    assert read(place) == expected
    result = cut.train(f"resume={killed.info.run_id}")
    assert result.code == 0, result.err
    assert read(place) == expected
