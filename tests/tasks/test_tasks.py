"""Losses against formulas written out, metrics of an epoch against scikit-learn, tasks that do not fit."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from sklearn import metrics as sk
from torch.utils._python_dispatch import TorchDispatchMode

from src.config import compose
from src.errors import UserError
from src.experiment.assemble import assemble
from src.models.load import load_model
from src.runtime.signals import Signals
from src.spec import Classes, DataSpec, Number, TableSpec
from src.tasks.base import StepOutput
from src.tasks.epoch import PENDING_ELEMENTS, EpochMetrics
from src.tasks.registry import make_task

ALL = ("classification", "binary", "regression")


def spec(*tasks: str, classes: int = 3, **values) -> DataSpec:
    names = tuple(map(str, range(classes)))
    counts = tuple(10 * (i + 1) for i in range(classes))
    target = Classes(names, counts) if classes else Number(values.pop("mean"), values.pop("std"))
    return DataSpec("toy", tasks, {"train": sum(counts)}, TableSpec((4,), **values), target)


def test_first_common_task_is_chosen() -> None:
    offered = spec("binary", "classification", classes=2)
    assert make_task(offered, ALL).name == "binary"
    assert make_task(offered, ("classification",)).name == "classification"
    assert make_task(offered, ALL, name="classification").name == "classification"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "regression"}, "does not fit"),
        ({"loss": "huber"}, "no loss of this task"),
        ({"loss": "focal", "label_smoothing": 0.1}, "label_smoothing is for cross_entropy"),
        ({"class_weights": [1.0, 2.0]}, "2 numbers, data=toy has 3 classes"),
        ({"class_weights": "heavy"}, "balanced"),
        ({"monitor": "auroc"}, r"task.monitor=auroc is no metric of classification \(known: loss, accuracy, f1\)$"),
    ],
)
def test_what_does_not_fit_is_named(options: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        make_task(spec("classification"), ALL, **options)


def test_focal_is_cross_entropy_at_gamma_zero_and_less_above() -> None:
    logits, batch = torch.randn(16, 3), {"target": torch.randint(3, (16,))}
    at_zero = make_task(spec("classification"), ALL, loss="focal", focal_gamma=0.0).loss(logits, batch)
    torch.testing.assert_close(at_zero, F.cross_entropy(logits, batch["target"]))
    p = logits.softmax(-1).gather(1, batch["target"][:, None]).squeeze()
    at_two = make_task(spec("classification"), ALL, loss="focal", focal_gamma=2.0).loss(logits, batch)
    torch.testing.assert_close(at_two, (-((1 - p) ** 2) * p.log()).mean())


def test_binary_focal_matches_its_formula() -> None:
    logits, target = torch.randn(16, 1), torch.randint(2, (16,))
    task = make_task(spec("binary", classes=2), ALL, loss="focal", focal_gamma=2.0)
    p = logits.squeeze().sigmoid()
    p_true = torch.where(target == 1, p, 1 - p)
    torch.testing.assert_close(task.loss(logits, {"target": target}), (-((1 - p_true) ** 2) * p_true.log()).mean())


def test_balanced_weights_make_every_class_count_alike() -> None:
    task = make_task(spec("classification"), ALL, class_weights="balanced")
    counts = torch.tensor([10.0, 20.0, 30.0])
    torch.testing.assert_close(task.class_weights * counts, torch.full((3,), 20.0))
    binary = make_task(spec("binary", classes=2), ALL, class_weights=[1.0, 3.0])
    logits, target = torch.randn(8, 1), torch.tensor([0, 1] * 4)
    each = F.binary_cross_entropy_with_logits(logits.squeeze(), target.float(), reduction="none")
    torch.testing.assert_close(binary.loss(logits, {"target": target}), (each * (1 + 2 * target)).mean())


def test_regression_predicts_in_the_target_s_unit() -> None:
    task = make_task(spec("regression", classes=0, mean=100.0, std=20.0), ALL)
    target = torch.tensor([80.0, 120.0])
    assert task.loss(torch.tensor([[-1.0], [1.0]]), {"target": target}).item() == 0
    torch.testing.assert_close(task.predict(torch.tensor([[-1.0], [1.0]])), target)


def epoch(task, outputs, target, batch: int, rows: slice = slice(None)) -> EpochMetrics:
    metrics = EpochMetrics(task, with_curves=True)
    for start in range(0, len(target), batch):
        part = slice(start, start + batch)
        loss = task.loss(outputs[part], {"target": target[part]})
        metrics.append(StepOutput(loss, outputs[part], target[part]))
    return metrics


def test_metrics_of_an_epoch_match_scikit_learn() -> None:
    torch.manual_seed(0)
    outputs, target = torch.randn(1000, 1), torch.randint(2, (1000,))
    task = make_task(spec("binary", classes=2), ALL)
    values = epoch(task, outputs, target, batch=64).compute()
    p = outputs.squeeze().sigmoid()
    assert values["auroc"] == pytest.approx(sk.roc_auc_score(target, p), abs=1e-6)
    assert values["average_precision"] == pytest.approx(sk.average_precision_score(target, p), abs=1e-6)
    assert values["accuracy"] == pytest.approx(sk.accuracy_score(target, p > 0.5))
    assert values["f1"] == pytest.approx(sk.f1_score(target, p > 0.5))
    # the last batch is smaller and counts less
    assert values["loss"] == pytest.approx(task.loss(outputs, {"target": target}).item(), rel=1e-6)


def test_macro_f1_and_regression_match_scikit_learn() -> None:
    torch.manual_seed(0)
    outputs, target = torch.randn(500, 3), torch.randint(3, (500,))
    values = epoch(make_task(spec("classification"), ALL), outputs, target, 64).compute()
    assert values["f1"] == pytest.approx(sk.f1_score(target, outputs.argmax(-1), average="macro"))
    outputs, target = torch.randn(500, 1), torch.randn(500) * 5 + 3
    task = make_task(spec("regression", classes=0, mean=3.0, std=5.0), ALL)
    values = epoch(task, outputs, target, 64).compute()
    prediction = outputs.squeeze() * 5 + 3
    assert values["mae"] == pytest.approx(sk.mean_absolute_error(target, prediction), rel=1e-5)
    assert values["rmse"] == pytest.approx(sk.root_mean_squared_error(target, prediction), rel=1e-5)
    assert values["r2"] == pytest.approx(sk.r2_score(target, prediction), rel=1e-5)


def test_baseline_is_the_majority_and_the_mean() -> None:
    target = torch.tensor([2] * 6 + [0] * 4)
    metrics = epoch(make_task(spec("classification"), ALL), torch.randn(10, 3), target, 4)
    assert metrics.baseline()["accuracy"] == pytest.approx(0.6)
    task = make_task(spec("regression", classes=0, mean=3.0, std=5.0), ALL)
    metrics = epoch(task, torch.randn(4, 1), torch.tensor([1.0, 2.0, 3.0, 6.0]), 4)
    assert metrics.baseline()["mae"] == pytest.approx(1.5)


def test_state_in_the_middle_of_an_epoch_continues_to_the_same_bits() -> None:
    torch.manual_seed(0)
    task = make_task(spec("classification", classes=100), ALL)
    # large enough that outputs are folded into the metrics' state before the cut
    rows = 3 * PENDING_ELEMENTS // 200
    outputs, target = torch.randn(rows, 100), torch.randint(100, (rows,))
    whole = epoch(task, outputs, target, 1000)
    cut = 14000
    first = epoch(task, outputs[:cut], target[:cut], 1000)
    state = first.state_dict()
    assert [own["folded"] for own in state] == [True]  # one process
    second = EpochMetrics(task, with_curves=True)
    second.load_state_dict(state, torch.device("cpu"))
    for start in range(cut, rows, 1000):
        part = slice(start, start + 1000)
        second.append(task.evaluate_batch(outputs[part], {"target": target[part]}))
    assert second.compute() == whole.compute()
    second.reset()
    assert second.compute() == {}


def test_spec_survives_plain_containers() -> None:
    original = replace(spec("classification", mean=(0.5,), std=(2.0,)), sha256="ab")
    assert DataSpec.from_dict(original.to_dict()) == original


@pytest.mark.parametrize(("kind", "classes"), [("binary", 2), ("classification", 100)])
def test_counting_takes_memory_for_rows_not_for_rows_times_bins(kind: str, classes: int) -> None:
    """In deterministic mode, which is how a run trains, torchmetrics compares every value with every bin."""
    largest = 0

    class Largest(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            nonlocal largest
            out = function(*args, **(kwargs or {}))
            largest = max(largest, out.numel() if isinstance(out, torch.Tensor) else 0)
            return out

    rows = 4000
    task = make_task(spec(kind, classes=classes), ALL)
    outputs, target = torch.randn(rows, task.num_outputs), torch.randint(classes, (rows,))
    expected = epoch(task, outputs, target, 1000).curves()["confusion"]
    torch.use_deterministic_algorithms(True)
    try:
        with Largest():
            metrics = epoch(task, outputs, target, 1000)
            metrics.compute()
            curves = metrics.curves()
        assert torch.are_deterministic_algorithms_enabled()
    finally:
        torch.use_deterministic_algorithms(False)
    assert torch.equal(curves["confusion"], expected)
    assert 0 < largest <= rows * 200  # each row at 200 thresholds


def test_another_metric_picks_the_best_epoch(tmp_path) -> None:
    """On labels that mean nothing the loss is best at first, the accuracy where chance has it."""
    options = [
        "model=fnn",
        "data=random_labels",
        "task=binary",
        "optimizer.lr=0.01",
        "trainer=cpu",
        "trainer.max_epochs=6",
    ]
    chosen = {}
    for monitor in ("loss", "accuracy"):
        config = compose([*options, f"task.monitor={monitor}", "early_stopping.patience=6"])
        parts = assemble(config, Signals())
        parts.checkpoint.directory = tmp_path / monitor
        parts.trainer.fit(parts.model, datamodule=parts.data)
        model = load_model(tmp_path / monitor / "best.ckpt")
        assert model.monitor == parts.model.monitor == f"val/{monitor}"
        (stopping,) = parts.trainer.early_stopping_callbacks
        chosen[monitor] = parts.checkpoint.best_epoch
        assert (chosen[monitor], parts.checkpoint.best_score) == parts.model.best(f"val/{monitor}")
        assert stopping.best_score.item() == pytest.approx(parts.checkpoint.best_score)
    assert chosen["loss"] != chosen["accuracy"]
