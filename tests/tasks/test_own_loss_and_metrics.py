"""A loss and metrics from outside the project: made, checked before training, monitored, and there afterwards."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from torch import nn

from src.config import compose
from src.errors import UserError
from src.experiment.assemble import Parts, assemble
from src.metrics.modes import mode_of, without_stage
from src.models.load import load_model
from src.runtime import trust
from src.runtime.signals import Signals
from src.tasks.worst import WorstExamples
from tests.conftest import ROOT, Lab

SHORT = ("model=fnn", "data=iris", "trainer=cpu", "trainer.max_epochs=2", "tracking.system_metrics=false", "threads=1")
JUDGES = '''
import torch
import torchmetrics as tm
import torch.nn.functional as F
from torch import nn


class Scaled(nn.Module):
    """A loss for each row, with a parameter of its own for each class."""

    def __init__(self, num_classes: int, gamma: float = 2.0):
        super().__init__()
        self.gamma = gamma
        self.scale = nn.Parameter(torch.ones(num_classes))

    def forward(self, outputs, target):
        return self.gamma * F.cross_entropy(outputs * self.scale, target, reduction="none")


def looking(outputs, target, factor: float = 1.0):
    """A mean, and only of values that can be looked at."""
    loss = factor * F.cross_entropy(outputs, target)
    return loss if loss.item() < 1e9 else 2 * loss


def torn(outputs, target):
    return outputs.sum() + torch.zeros(3)


def cut(outputs, target):
    return F.cross_entropy(outputs.detach(), target)


def nowhere(outputs, target):
    return outputs.sum() * float("nan")


class Margin(tm.Metric):
    """Mean distance of the two largest probabilities; does not say which way is better."""

    def __init__(self, num_classes: int):
        super().__init__()
        self.add_state("total", torch.tensor(0.0), dist_reduce_fx="sum")
        self.add_state("rows", torch.tensor(0), dist_reduce_fx="sum")

    def update(self, preds, target):
        top = preds.topk(2, -1).values
        self.total += (top[:, 0] - top[:, 1]).sum()
        self.rows += len(target)

    def compute(self):
        return self.total / self.rows
'''
KAPPA = "metrics.kappa._target_=torchmetrics.classification.MulticlassCohenKappa"


@pytest.fixture(autouse=True)
def judges(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(trust.VARIABLE, "")
    (tmp_path / "judges.py").write_text(JUDGES)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(__import__("sys").modules, "judges", raising=False)


def built(*overrides: str) -> Parts:
    return assemble(compose([*SHORT, *overrides]), Signals())


def refusal(*overrides: str) -> str:
    with pytest.raises(UserError) as caught:
        built(*overrides)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def loss_and_batch(*overrides: str) -> tuple[Parts, torch.Tensor, torch.Tensor, torch.Tensor]:
    parts = built(*overrides)
    batch = parts.data.head("train", 30)
    outputs = parts.model.eval()(batch["input"])
    return parts, parts.model.task.loss(outputs, batch), outputs, batch["target"]


# the loss ------------------------------------------------------------------------------------------------------------


def test_torchs_losses_are_themselves() -> None:
    given = ("task.loss._target_=torch.nn.CrossEntropyLoss", "task.loss.label_smoothing=0.1")
    _, loss, outputs, target = loss_and_batch(*given)
    assert torch.equal(loss, nn.CrossEntropyLoss(label_smoothing=0.1)(outputs, target))
    parts, loss, outputs, target = loss_and_batch(*given[:1], "task.class_weights=[1,2,3]")
    assert torch.equal(loss, nn.CrossEntropyLoss(torch.tensor([1.0, 2.0, 3.0]))(outputs, target))
    assert parts.model.task.loss_function.function.weight is None  # as it was
    _, loss, outputs, target = loss_and_batch("data=diabetes", "task.loss._target_=torch.nn.HuberLoss")
    function = built("data=diabetes", "task.loss._target_=torch.nn.functional.huber_loss").model.task.loss_function
    assert torch.equal(function(outputs, target[:, None]), nn.HuberLoss()(outputs, target[:, None]))


def test_a_loss_of_ones_own_is_filled_averaged_and_trained() -> None:
    parts, loss, outputs, target = loss_and_batch("task.loss._target_=judges.Scaled", "task.loss.gamma=3")
    assert loss.item() == pytest.approx(3 * nn.functional.cross_entropy(outputs, target).item())
    names = dict(parts.model.named_parameters())
    (group,) = [name for name in names if name.endswith("function.scale")]
    optimized = [p for g in parts.model.parameter_groups() for p in g["params"]]
    assert any(p is names[group] for p in optimized)


@pytest.mark.parametrize(("loss", "factor"), [("judges.looking", 1.0), ("judges.Scaled", 2.0)])
def test_the_worst_examples_are_those_of_the_loss(loss: str, factor: float) -> None:
    """Of a mean, of values for each row, and of a loss that vmap cannot follow."""
    parts, _, outputs, target = loss_and_batch(f"task.loss._target_={loss}")
    worst = WorstExamples(parts.model.task, size=3)
    worst.append(outputs.detach(), {"target": target, "index": torch.arange(len(target))})
    each = factor * nn.functional.cross_entropy(outputs, target, reduction="none")
    assert worst.problem is None
    assert [row for row, _ in worst.compute()] == each.topk(3).indices.tolist()
    assert [value for _, value in worst.compute()] == pytest.approx(each.topk(3).values.tolist())


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (
            ["task.loss._target_=judges.torn"],
            "task.loss: judges.torn gives (3,) for outputs (32, 3), expected one number",
        ),
        (["task.loss._target_=judges.cut"], "task.loss: judges.cut has no gradient"),
        (["task.loss._target_=judges.nowhere"], "task.loss: judges.nowhere is nan for the first 32 rows"),
        (
            ["task.loss._target_=torch.nn.MSELoss"],
            "task.loss: torch.nn.MSELoss fails on outputs (32, 3) and targets (32,)",
        ),
        (["task.loss._target_=judges.Scald"], "judges has no Scald (did you mean Scaled?)"),
        (["task.loss._target_=judges.Scaled", "task.loss.gama=1"], "task.loss.gama: Scaled has no such option"),
        (["task.loss._target_=judges.looking", "task.class_weights=balanced"], "judges.looking takes no weight"),
        (["task.loss._target_=judges.looking", "task.focal_gamma=3"], "is for focal, not for task.loss=judges.looking"),
        (
            ["task.loss._target_=judges.looking", "model=vae", "data=digits"],
            "density takes no loss but its own (known: bernoulli, gaussian)",
        ),
    ],
    ids=lambda given: " ".join(given) if isinstance(given, list) else "",
)
def test_a_loss_that_does_not_go_is_one_line(overrides: list[str], said: str) -> None:
    assert said in refusal(*overrides)


# metrics -------------------------------------------------------------------------------------------------------------


def test_metrics_stand_beside_the_tasks_and_know_which_way_is_better() -> None:
    task = built(KAPPA, "task.monitor=kappa", "metrics.margin._target_=judges.Margin").model.task
    assert task.metric_modes["kappa"] == "max" and "margin" not in task.metric_modes
    assert set(task.collection("val")) == {"accuracy", "f1", "kappa", "margin"}
    assert built("metrics.error._target_=judges.Margin").model.task.metric_modes["error"] == "min"  # by its name
    accuracy = built("metrics.top._target_=torchmetrics.Accuracy").model.task.own_metrics["top"]
    assert accuracy.num_classes == 3
    first, second = task.collection("val"), task.collection("val")
    first["margin"].update(torch.eye(3), torch.arange(3))
    assert second["margin"].rows == 0 and task.own_metrics["margin"].rows == 0


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["metrics.margin._target_=judges.Margin", "task.monitor=margin"], "metric_modes.margin=max or min"),
        (["metrics.margin._target_=judges.Scaled"], "makes a Scaled, which is no torchmetrics.Metric"),
        (["metrics.accuracy._target_=judges.Margin"], "has a metric of that name"),
        (["metrics.margin=3"], "metrics.margin: expects a node with _target_, a metric of torchmetrics; got 3"),
        (["metric_modes.margin=upwards"], "metric_modes.margin=upwards is max where more is better, or min"),
        ([KAPPA.replace("Kappa", "Kapa")], "did you mean MulticlassCohenKappa?"),
        (
            ["metrics.each._target_=torchmetrics.classification.MulticlassRecall", "metrics.each.average=null"],
            "gives values (3,)",
        ),
        (["metrics.far._target_=torchmetrics.classification.BinaryAUROC"], "fails on predictions (32, 3)"),
    ],
    ids=lambda given: " ".join(given) if isinstance(given, list) else "",
)
def test_a_metric_that_does_not_go_is_one_line(overrides: list[str], said: str) -> None:
    assert said in refusal(*overrides)


def test_the_ending_of_a_name_tells_which_way_is_better() -> None:
    assert mode_of("val/own_loss") == "min" and mode_of("top_acc") == "max" and mode_of("val/margin") is None
    assert mode_of("val/own_loss", {"own_loss": "max"}) == "max"
    assert [without_stage(name) for name in ("val/margin", "val_margin", "margin", "value")] == [
        *("margin", "margin", "margin", "value")
    ]


# afterwards ----------------------------------------------------------------------------------------------------------


def test_a_checkpoint_runs_no_loss_or_metric_unasked(tmp_path: Path) -> None:
    parts = built("task.loss._target_=judges.Scaled", KAPPA)
    parts.checkpoint.directory = parts.texts.folder = parts.pictures.folder = tmp_path
    parts.trainer.fit(parts.model, datamodule=parts.data)
    path = parts.checkpoint.best_path
    with pytest.raises(UserError, match=r"judges.Scaled is not of this project; .*trust=judges$"):
        load_model(path)
    trust.allow("judges")
    again = load_model(path)
    assert torch.equal(
        again.task.loss_function.function.scale,
        parts.checkpoint.best_weights(parts.model)["task.loss_function.function.scale"],
    )
    content = torch.load(path, weights_only=True)
    content["labbook"]["config"]["metrics"]["kappa"]["_target_"] = "src.models.load.load_model"
    torch.save(content, path)
    with pytest.raises(UserError, match="load_model is not of this project"):
        load_model(path)


def test_everything_afterwards(lab: Lab) -> None:
    (lab.folder / "judges.py").write_text(JUDGES)
    env = {"PYTHONPATH": f"{ROOT}{os.pathsep}{lab.folder}"}
    own = ("task.loss._target_=judges.looking", "metrics.margin._target_=judges.Margin", "metric_modes.margin=max")
    done = lab.train(*SHORT, *own, "task.monitor=margin", env=env)
    assert done.code == 0, done.err
    assert "val/margin picks the best epoch: more is better" in done.out
    (run,) = lab.runs()
    assert {"val/margin", "val/margin_best", "test/margin", "baseline/margin"} <= run.data.metrics.keys()
    trusted = env | {"LABBOOK_TRUST": "judges"}
    evaluated = lab.run("evaluate", "run=last", "resamples=10", env=trusted)
    assert evaluated.code == 0 and "to the last bit" in evaluated.out and "│ margin" in evaluated.out, evaluated.err
    compared = lab.run("compare", "runs=last", "metric=val/margin", env=env)
    assert compared.code == 0, compared.err
    verified = lab.run("rerun", "run=last", "verify=true", "trust=judges", env=env)
    assert verified.code == 0 and "identical" in verified.out, verified.err
