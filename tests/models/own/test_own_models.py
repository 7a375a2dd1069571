"""Models from outside the project: as they are, trained, resumed, evaluated, predicted, exported and run again."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from src.config import compose
from src.errors import UserError
from src.experiment.assemble import Parts, assemble
from src.models.family import family
from src.models.load import load_model
from src.runtime import trust
from src.runtime.signals import Signals
from tests.conftest import ROOT, Lab
from tests.own_package import write

SHORT = ("trainer=cpu", "trainer.max_epochs=3", "tracking.system_metrics=false", "threads=1")


@pytest.fixture(autouse=True)
def nobody_is_trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(trust.VARIABLE, "")
    family.cache_clear()


def own(name: str, *overrides: str, data: str = "iris") -> Parts:
    given = [f"model._target_=mylab.models.{name}", f"data={data}", *SHORT]
    return assemble(compose([*given, *overrides]), Signals())


def refusal(name: str, *overrides: str, data: str = "iris") -> str:
    with pytest.raises(UserError) as caught:
        own(name, *overrides, data=data)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# a module ------------------------------------------------------------------------------------------------------------


def test_a_module_is_filled_by_the_names_of_its_arguments(mylab: Path) -> None:
    model = own("Net", "model.hidden=5").model
    assert type(model).__name__ == "Net" and isinstance(model.net, nn.Module)
    assert model.net.layers[0].weight.shape == (5, 4) and model.net.layers[2].weight.shape == (3, 5)
    assert own("build", "model.depth=3").model.net[4].weight.shape == (8, 8)  # a function
    words = own("Words", data="topics").model
    assert words.net.embedding.num_embeddings == words.spec.input.vocabulary_size
    assert words.task.name == "causal_lm" and words(torch.ones(2, 5, dtype=torch.int64)).shape[:2] == (2, 5)


def test_options_ask_the_data_by_placeholders_and_may_be_nodes(mylab: Path) -> None:
    asked = ["model.inner=${spec:in_features}", "model.act._target_=torch.nn.GELU", "model.act.approximate=tanh"]
    parts = fitted("Built", mylab, *asked)
    assert parts.model.net.layers[0].weight.shape == (4, 4)
    assert parts.model.config["model"]["inner"] == "${spec:in_features}"  # a checkpoint is plain data
    trust.allow("mylab")
    again = load_model(parts.checkpoint.best_path)
    assert again.net.layers[0].weight.shape == (4, 4) and again.net.layers[1].approximate == "tanh"
    assert refusal("Built", "model.inner=${spec:in_feature}") == (
        "model.inner=${spec:in_feature}: data and task do not tell in_feature (did you mean in_features?)"
    )
    content = torch.load(parts.checkpoint.best_path, weights_only=True)
    content["labbook"]["config"]["model"]["act"] = {"_target_": "shutil.disk_usage", "path": "."}
    torch.save(content, mylab / "other.ckpt")
    with pytest.raises(UserError, match=r"other.ckpt: shutil.disk_usage is not of this project; .*trust=shutil$"):
        load_model(mylab / "other.ckpt")


def test_inputs_are_in_standard_units_unless_the_module_scales_them(mylab: Path) -> None:
    parts = own("Raw")
    batch = parts.data.head("train", 50)
    parts.model(batch["input"])
    assert parts.model.net.largest == pytest.approx(float(batch["input"].max()))
    net = own("Net").model
    assert net.taken(batch["input"]).abs().mean() < 1.2 < batch["input"].abs().mean()


def test_one_number_a_row_needs_no_dimension_of_its_own(mylab: Path) -> None:
    model = own("Flat", data="diabetes").model
    assert model.task.name == "regression" and model(torch.zeros(1, 10)).shape == (1, 1)
    assert own("Flat", data="breast_cancer").model.task.name == "binary"


def test_two_logits_of_two_classes_are_one_of_the_second(mylab: Path) -> None:
    model = own("Net", data="breast_cancer").model
    x = torch.randn(7, 30)
    assert model.task.name == "binary" and model(x).shape == (7, 1)
    expected = model.net(model.taken(x)).softmax(1)[:, 1:]
    torch.testing.assert_close(model(x).sigmoid(), expected)


def test_what_does_not_go_is_one_line(mylab: Path) -> None:
    assert refusal("Wide") == "model: Wide gives outputs (2, 4), the task classification takes (2, 3)"
    assert refusal("Needy").startswith("model.temperament: mylab.models.Needy needs it, and data and task do not tell")
    assert refusal("Net", "model.hiden=3") == "model.hiden: Net has no such option (did you mean hidden?)"
    assert "mylab.models has no Nett (did you mean Net?)" in refusal("Nett")
    assert refusal("Words", "model.vocab_size=9").startswith("model: Words fails on an input of shape (2, 4) (")
    assert refusal("Idle") == "model: Idle has no configure_optimizers, which a LightningModule needs"
    (mylab / "mylab" / "broken.py").write_text("import no_such_package\nclass Net: ...\n")
    with pytest.raises(UserError, match=r"^mylab.broken.Net cannot be imported: no module no_such_package"):
        family("mylab.broken.Net")


# a LightningModule ---------------------------------------------------------------------------------------------------


def fitted(name: str, folder: Path, *overrides: str) -> Parts:
    parts = own(name, *overrides)
    parts.checkpoint.directory = parts.texts.folder = parts.pictures.folder = folder / "checkpoints"
    parts.trainer.fit(parts.model, datamodule=parts.data)
    return parts


def test_a_lightning_module_trains_by_its_own_steps_and_what_it_logs_counts(mylab: Path) -> None:
    model = fitted("Lit", mylab, "trainer.max_epochs=4").model
    assert model.net.epochs_begun == 4  # its hook
    assert [epoch for epoch, _ in model.history["val/margin"]] == [1, 2, 3, 4]
    assert {"train/own_loss", "train/loss", "val/loss", "val/accuracy", "val/margin"} <= model.history.keys()
    # what it logs as val/loss is twice the loss, and has that name
    assert model.history["val/loss"][0][1] > 1.2 * model.history["train/own_loss"][-1][1]
    assert model.trainer.optimizers[0].param_groups[0]["lr"] == pytest.approx(0.05 * 0.1**2)  # its schedule


def test_its_steps_are_those_that_lightning_alone_takes(mylab: Path) -> None:
    """The same batches in a plain loop lead to the same weights, to the last bit."""
    parts, seen = own("Lit", "trainer.max_epochs=2"), []
    start = {name: value.clone() for name, value in parts.model.net.state_dict().items()}
    own_step = parts.model.net.training_step
    parts.model.net.training_step = lambda batch, batch_idx: seen.append(batch) or own_step(batch, batch_idx)
    parts.checkpoint.directory = parts.texts.folder = parts.pictures.folder = mylab
    parts.trainer.fit(parts.model, datamodule=parts.data)
    alone = type(parts.model.net)(4, 3)
    alone.load_state_dict(start)
    optimizer = torch.optim.SGD(alone.parameters(), lr=0.05, momentum=0.9)
    for x, y in seen:  # two epochs, before the schedule changes anything
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(alone(x), y).backward()
        optimizer.step()
    assert len(seen) == 2 * len(parts.data.train_dataloader())
    for name, value in alone.state_dict().items():
        assert torch.equal(value, parts.model.net.state_dict()[name]), name


def test_manual_optimization_works(mylab: Path) -> None:
    model = fitted("Manual", mylab, "trainer.max_epochs=20").model
    losses = [value for _, value in model.history["train/loss"]]
    assert losses[-1] < 0.7 * losses[0] and model.history["val/accuracy"][-1][1] > 0.7


# afterwards ----------------------------------------------------------------------------------------------------------


def test_a_checkpoint_names_foreign_code_and_nobody_runs_it_unasked(mylab: Path) -> None:
    parts = fitted("Net", mylab)
    path = parts.checkpoint.best_path
    with pytest.raises(UserError, match=r"mylab.models.Net is not of this project; .*trust=mylab$"):
        load_model(path)
    trust.allow("mylab")
    again = load_model(path)
    x = parts.data.head("test", 9)["input"]
    parts.model.load_state_dict(parts.checkpoint.best_weights(parts.model))
    with torch.no_grad():
        assert torch.equal(again(x), parts.model.eval()(x))


@pytest.mark.parametrize(
    "target", ["mylab.models.system", "src.runtime.output.os.remove", "src.models.load.load_model"]
)
def test_trust_reaches_no_code_of_others(mylab: Path, target: str, tmp_path: Path) -> None:
    """A name of a trusted package that stands for another's function, and names of ours that are no models."""
    path = fitted("Net", mylab).checkpoint.best_path
    content = torch.load(path, weights_only=True)
    content["labbook"]["config"]["model"] = {"_target_": target}
    torch.save(content, tmp_path / "other.ckpt")
    trust.allow("mylab")
    with pytest.raises(UserError):
        load_model(tmp_path / "other.ckpt")


@pytest.mark.parametrize("name", ["Net", "Lit"])
def test_everything_afterwards_by_the_run_s_id(lab: Lab, name: str) -> None:
    write(lab.folder)
    env = {"PYTHONPATH": f"{ROOT}{os.pathsep}{lab.folder}"}
    given = [f"model._target_=mylab.models.{name}", "data=iris", *SHORT, "trainer.max_epochs=6"]
    killed = lab.train(*given, env=env, kill=("validation", 3, signal.SIGKILL))
    assert killed.code == -signal.SIGKILL
    (run,) = lab.runs()
    refused = lab.train(f"resume={run.info.run_id}", env=env)
    assert (refused.code, refused.err.count("\n")) == (2, 1) and refused.err.endswith("trust=mylab\n")
    assert lab.train(f"resume={run.info.run_id}", "trust=mylab", env=env).code == 0
    whole = lab.train(*given, env=env)
    assert whole.code == 0, whole.err
    last, first = lab.runs()
    assert lab.points(first.info.run_id) == lab.points(last.info.run_id)  # to the last bit
    trusted = env | {"LABBOOK_TRUST": "mylab"}
    evaluated = lab.run("evaluate", "run=last", "resamples=10", env=trusted)
    assert evaluated.code == 0 and "to the last bit" in evaluated.out, evaluated.err
    np.savez(lab.folder / "new.npz", x=np.random.default_rng(0).normal(size=(5, 4)).astype("float32"))
    answered = lab.run("predict", "run=last", "data.path=new.npz", "output=new.csv", env=trusted)
    assert answered.code == 0 and len(pd.read_csv(lab.folder / "new.csv")) == 5, answered.err
    assert lab.run("export", "run=last", "format=onnx", "output=net.onnx", env=trusted).code == 0
    verified = lab.run("rerun", "run=last", "verify=true", "trust=mylab", env=env)
    assert verified.code == 0 and "identical" in verified.out, verified.err
    swept = lab.train("-m", *given, "seed=1,2", "test=false", env=env)
    assert swept.code == 0, swept.err


def test_code_that_has_changed_is_told_and_verify_says_which(lab: Lab) -> None:
    write(lab.folder)
    env = {"PYTHONPATH": f"{ROOT}{os.pathsep}{lab.folder}", "LABBOOK_TRUST": "mylab"}
    assert lab.train("model._target_=mylab.models.Net", "data=iris", *SHORT, env=env).code == 0
    models = lab.folder / "mylab" / "models.py"
    models.write_text(models.read_text().replace("nn.ReLU()", "nn.GELU()"))
    told = "the code has changed since the checkpoint was written: mylab.models"
    evaluated = lab.run("evaluate", "run=last", "resamples=0", env=env)
    assert evaluated.code == 0 and told in evaluated.out + evaluated.err
    resumed = lab.train("resume=last", "trainer.max_epochs=5", env=env)
    assert resumed.code == 0 and told in resumed.out
    assert lab.train("model._target_=mylab.models.Net", "data=iris", *SHORT, env=env).code == 0
    models.write_text(models.read_text().replace("nn.GELU()", "nn.Tanh()"))
    verified = lab.run("rerun", "run=last", "verify=true", env=env)
    assert verified.code == 1 and verified.err.strip().endswith(told), verified.err


def test_an_own_model_is_explained_and_reported(lab: Lab) -> None:
    write(lab.folder)
    env = {"PYTHONPATH": f"{ROOT}{os.pathsep}{lab.folder}", "LABBOOK_TRUST": "mylab"}
    done = lab.train("model._target_=mylab.models.Net", "data=iris", "explain=true", *SHORT, env=env)
    assert done.code == 0, done.err
    figures = {path.name for path in (lab.artifacts(lab.runs()[0].info.run_id) / "figures").iterdir()}
    assert any("explained" in name or "attribution" in name for name in figures), figures
    reported = lab.run("report", "run=last", "output=run.html", "evaluate=false", env=env)
    assert reported.code == 0 and "Net" in (lab.folder / "run.html").read_text(), reported.err


def test_an_own_module_is_searched_and_pruned_by_what_it_logs(lab: Lab) -> None:
    write(lab.folder)
    env = {"PYTHONPATH": f"{ROOT}{os.pathsep}{lab.folder}"}
    given = ["-m", "hydra/sweeper=search", "hydra.sweeper.n_trials=5", "hydra.sweeper.sampler=random"]
    given += ["hydra.sweeper.pruner=median", "hydra.sweeper.startup_trials=2", "model._target_=mylab.models.Lit"]
    given += ["model.lr=tag(log,interval(1e-6,1e-1))", "task.monitor=margin", "metric_modes.margin=max", "data=iris"]
    done = lab.train(*given, *SHORT, "trainer.max_epochs=4", "test=false", env=env)
    assert done.code == 0, done.err
    jobs = sorted((lab.folder / "mlruns" / "sweeps").glob("*/jobs/*/state.json"))
    states = [json.loads(path.read_text()) for path in jobs]
    assert {state["metric"] for state in states} == {"val/margin"} and len(states) == 5
    assert {"finished", "pruned"} == {state["status"] for state in states}
    best = max(state["best"] for state in states if state["status"] == "finished")
    assert f"{best:.5g}"[:5] in done.out  # the table and the best trial


def test_a_module_that_draws_from_elsewhere_resumes_to_the_same_bits(lab: Lab) -> None:
    """From NumPy, from Python's random, and from a generator that it keeps."""
    write(lab.folder)
    env = {"PYTHONPATH": f"{ROOT}{os.pathsep}{lab.folder}", "LABBOOK_TRUST": "mylab"}
    given = ["model._target_=mylab.models.Noisy", "data=iris", *SHORT, "trainer.max_epochs=6"]
    assert lab.train(*given, env=env, kill=("validation", 3, signal.SIGKILL)).code == -signal.SIGKILL
    assert lab.train("resume=last", env=env).code == 0
    assert lab.train(*given, env=env).code == 0
    last, first = lab.runs()
    assert lab.points(first.info.run_id) == lab.points(last.info.run_id)


def test_a_module_that_draws_rarely_is_told(mylab: Path, capfd: pytest.CaptureFixture[str]) -> None:
    fitted("Noisy", mylab, "model.rarely=true")
    told = capfd.readouterr().err
    assert told.count("model: Noisy draws random numbers from elsewhere than torch in some steps only") == 1
    fitted("Net", mylab)
    assert "draws random numbers" not in capfd.readouterr().err
