"""init_from: weights and tokenizer of a trained model, and what is refused."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf
from pytorch_lightning.utilities import rank_zero_only

from src.config import compose, compose_saved
from src.errors import UserError
from src.experiment.assemble import assemble
from src.experiment.resume import STARTS_FROM, find_start
from src.models.base import Model
from src.models.load import load_model
from src.runtime.signals import Signals
from src.training.callbacks.checkpoint import save_atomically
from tests.conftest import ROOT

SMALL = ["model=bert", "model.width=16", "model.num_layers=1", "model.num_heads=2", "threads=1"]
QUICK = [*SMALL, "trainer.max_epochs=1", "data.batch_size=16", "trainer.log_every_n_steps=1000"]


def texts(folder: Path) -> str:
    """A table of texts in two classes, which differ in their words."""
    path = folder / "films.csv"
    words = {"good": ("lovely", "bright", "warm"), "bad": ("dull", "cold", "empty")}
    rows = [
        f"a {words[label][i % 3]} film with {words[label][(i + 1) % 3]} scenes number {i},{label}"
        for i in range(30)
        for label in words
    ]
    path.write_text("text,label\n" + "\n".join(rows) + "\n")
    return str(path)


@pytest.fixture(scope="module")
def table(tmp_path_factory) -> str:
    return texts(tmp_path_factory.mktemp("texts"))


def on(table: str, *options: str) -> list[str]:
    return [*QUICK, "data=text_csv", f"data.path={table}", *options]


@pytest.fixture(scope="module")
def pretrained(table, tmp_path_factory) -> Path:
    """A checkpoint of a net for hidden tokens, untrained."""
    parts = assemble(compose(on(table, "task=masked_lm", "seed=5")), Signals())
    path = tmp_path_factory.mktemp("pretrained") / "best.ckpt"
    save_atomically({"state_dict": parts.model.state_dict(), "labbook": parts.model.description()}, path)
    return path


def started(config: list[str]) -> Model:
    composed = compose(config)
    return assemble(composed, Signals(), find_start(composed)).model


def test_weights_that_fit_are_taken_and_the_head_stays_fresh(table, pretrained) -> None:
    before = torch.load(pretrained, weights_only=True)["state_dict"]
    fresh = started(on(table)).state_dict()
    after = started(on(table, f"init_from={pretrained}")).state_dict()
    assert before.keys() == after.keys()
    for name, tensor in after.items():
        assert torch.equal(tensor, fresh[name] if name.startswith("head.") else before[name]), name
    assert not torch.equal(before["embedding.weight"], fresh["embedding.weight"])


def test_fewer_positions_are_cut_and_more_are_refused(table, pretrained, tmp_path) -> None:
    place = torch.load(pretrained, weights_only=True)["state_dict"]["body.place.weight"]
    shorter = started(on(table, f"init_from={pretrained}", "data.max_tokens=6"))
    assert torch.equal(shorter.state_dict()["body.place.weight"], place[:6])
    with pytest.raises(UserError) as caught:
        started(on(table, f"init_from={pretrained}", "model.max_length=30"))
    assert f"that model has {len(place)} learned positions, 30 are needed here" in str(caught.value)


def test_the_tokenizer_comes_along(table, pretrained, tmp_path) -> None:
    other = tmp_path / "other.csv"
    other.write_text("text,label\n" + "".join(f"strange words {i},{'ab'[i % 2]}\n" for i in range(20)))
    model = started(on(str(other), f"init_from={pretrained}"))
    assert model.spec.input.tokenizer == tokenizer_of(pretrained)
    assert len(model.spec.input.token_counts) == len(model.embedding.weight)


def tokenizer_of(path: Path) -> str:
    return torch.load(path, weights_only=True)["labbook"]["spec"]["input"]["tokenizer"]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["model.width=32"], "embedding.weight is {rows} x 16 there and {rows} x 32 here"),
        (["model.mlp_ratio=2"], "body.blocks.0.feed_forward.0.weight is 64 x 16 there and 32 x 16 here"),
        (["init_from={folder}/best.ckpt"], "init_from={folder}/best.ckpt: there is no file {folder}/best.ckpt"),
    ],
)
def test_what_does_not_fit_is_named(table, pretrained, options, expected, tmp_path) -> None:
    rows = len(torch.load(pretrained, weights_only=True)["state_dict"]["embedding.weight"])
    given = [option.format(folder=tmp_path) for option in options]
    with pytest.raises(UserError) as caught:
        started(on(table, f"init_from={pretrained}", *given))
    assert expected.format(rows=rows, folder=tmp_path) in str(caught.value) and "\n" not in str(caught.value)


def test_another_kind_of_model_is_refused(table, pretrained, tmp_path) -> None:
    with pytest.raises(UserError, match=r"no weight of that model \(embedding.weight, .*\) is one of this model's$"):
        started(["model=fnn", "data=iris", f"init_from={pretrained}"])
    config = compose(["model=fnn", "data=iris"])
    net = assemble(config, Signals()).model
    path = tmp_path / "iris.ckpt"
    save_atomically({"state_dict": net.state_dict(), "labbook": net.description()}, path)
    with pytest.raises(UserError, match="that model has no tokenizer, the texts of data=file need one$"):
        started(on(table, f"init_from={path}"))


def test_a_file_that_is_no_checkpoint_is_refused(table, tmp_path) -> None:
    path = tmp_path / "broken.ckpt"
    path.write_bytes(b"no checkpoint")
    with pytest.raises(
        UserError,
        match=f"^init_from={path}: {path} is damaged, or neither a checkpoint of this harness nor a state_dict$",
    ):
        started(on(table, f"init_from={path}"))


@pytest.mark.slow
def test_all_processes_start_from_the_run_that_was_the_last_one(lab, table) -> None:
    assert lab.train(*on(table, "task=masked_lm")).code == 0
    first = lab.runs()[0].info.run_id
    arguments = on(table, "init_from=last", "trainer=ddp_cpu", "optimizer.lr=0", "scheduler=none")
    command = [sys.executable, "-m", "src.train", *arguments]  # which starts its further processes by itself
    second = subprocess.run(command, cwd=ROOT, env=os.environ | lab.env, capture_output=True, text=True, timeout=300)
    assert second.returncode == 0, second.stderr
    assert lab.runs()[0].data.params["init_from"] == first


def test_a_process_that_something_else_has_started_cannot_tell_which_run_was_the_last_one(table, monkeypatch) -> None:
    monkeypatch.setattr(rank_zero_only, "rank", 1)
    monkeypatch.delenv(STARTS_FROM, raising=False)
    with pytest.raises(UserError, match="^init_from=last: processes that torchrun or SLURM starts need the run's full"):
        started(on(table, "init_from=last"))


def test_pretraining_and_fine_tuning_end_to_end(lab, table) -> None:
    first = lab.train(*on(table, "task=masked_lm", "seed=5"))
    assert first.code == 0, first.err
    run = lab.runs()[0]
    second = lab.train(*on(table, "init_from=last", "optimizer.lr=0", "scheduler=none"))
    assert second.code == 0, second.err
    tuned = lab.runs()[0]
    assert f"starts from {run.info.run_id}: " in second.out and "fresh: head.weight, head.bias" in second.out
    assert tuned.data.tags["labbook.init_from"].startswith(f"{run.info.run_id}: ")
    assert tuned.data.params["init_from"] == run.info.run_id
    before = torch.load(lab.artifacts(run.info.run_id) / "checkpoints" / "best.ckpt", weights_only=True)
    after = load_model(lab.artifacts(tuned.info.run_id) / "checkpoints" / "best.ckpt")
    assert after.task.name == "classification"
    for name, tensor in after.state_dict().items():  # a learning rate of 0 leaves them as they came
        assert name.startswith("head.") or torch.equal(tensor, before["state_dict"][name]), name
    # what it started from may be gone when it is resumed
    for folder in (lab.artifacts(run.info.run_id) / "checkpoints").glob("*.ckpt"):
        folder.unlink()
    third = lab.train(f"resume={tuned.info.run_id}", "trainer.max_epochs=2")
    assert third.code == 0, third.err
    assert load_model(lab.artifacts(tuned.info.run_id) / "checkpoints" / "best.ckpt").spec == after.spec
    missing = lab.train(*on(table, "init_from=0123abc"))
    assert missing.code == 2
    assert missing.err.count("\n") == 1 and "init_from=0123abc: run '0123abc' is not in" in missing.err
    gone = lab.train(*on(table, f"init_from={run.info.run_id}"))
    assert gone.code == 2 and "has no artifact checkpoints/best.ckpt" in gone.err


def test_a_saved_configuration_without_later_keys_takes_their_defaults() -> None:
    saved = OmegaConf.to_container(compose(["model=fnn"]), resolve=True)
    old = {key: value for key, value in saved.items() if key not in ("init_from", "channels_last", "weight_averaging")}
    assert compose_saved(old) == compose_saved(saved)
    assert compose_saved(old, ["channels_last=true"]).channels_last
    del old["model"]
    with pytest.raises(UserError, match="^model: is missing$"):
        compose_saved(old)
