"""Pictures, tables and costs of a run: what is in them is right, and odd inputs do not break them."""

from __future__ import annotations

import io
import mmap
import re
import sys
import time

import pytest
import torch
import torch.multiprocessing as mp
from PIL import Image
from rich.console import Console

from src.experiment import terminal
from src.metrics.regression import PairSample
from src.models.fnn import FNN
from src.plots.curves import save_figures
from src.spec import Classes, DataSpec, Number, TableSpec
from src.tasks.base import StepOutput
from src.tasks.epoch import EpochMetrics
from src.tasks.registry import make_task
from src.tasks.terminal import print_table
from src.tasks.worst import WorstExamples
from src.training import cost

HISTORY = {
    "train/loss": [[1, 2.0], [2, 1.0], [3, 0.5]],
    "val/loss": [[1, 2.0], [2, 1.5], [3, 1.75]],
    "test/loss": [[3, 1.25]],
}


def spec(task: str, classes: int = 0, features: int = 4, **number) -> DataSpec:
    names = tuple(f"c{i}" for i in range(classes))
    target = Classes(names, (6,) * classes) if classes else Number(**number)
    return DataSpec("toy", (task,), {"train": 12, "val": 4}, TableSpec((features,)), target)


def text(draw, *arguments, width: int = 80) -> str:
    """What a function prints to a console of this width."""
    file = io.StringIO()
    draw(Console(file=file, width=width), *arguments)
    return file.getvalue()


def shown(kind: DataSpec, predictions: list, targets: list | None) -> str:
    """What is printed of predictions of the spec's task."""
    view = make_task(kind, kind.tasks).view
    right = None if targets is None else torch.tensor(targets)
    return text(print_table, view.table(torch.tensor(predictions), right, 80))


def cells(printed: str) -> list[list[str]]:
    return [re.split(r"\s*│\s*", line)[1:-1] for line in printed.splitlines() if line.startswith("│")]


# pictures -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("classes", "names"),
    [
        (2, ["malignant", "benign"]),
        (3, ["a name so long that nobody would read it to its end", r"$\frac$", "ä" * 300]),
        (10, [str(i) for i in range(10)]),
        (20, []),
        (100, [f"class {i}" for i in range(100)]),
    ],
)
def test_confusion_matrix_of_any_size(tmp_path, classes: int, names: list[str]) -> None:
    counts = torch.eye(classes, dtype=torch.int64) * 12_345
    (path,) = save_figures(tmp_path / "figures", {}, {"confusion": counts}, names)
    with Image.open(path) as image:
        assert image.format == "PNG"
        assert all(300 <= side <= 1800 for side in image.size)


def test_every_picture_of_a_binary_run(tmp_path) -> None:
    task = make_task(spec("binary", classes=2), ("binary",))
    metrics = EpochMetrics(task, with_curves=True)
    logits, target = torch.tensor([[-9.0], [-1.0], [0.5], [9.0]]), torch.tensor([0, 1, 0, 1])
    metrics.append(StepOutput(torch.tensor(0.5), logits, target))
    paths = save_figures(tmp_path, HISTORY, metrics.curves(), ["no", "yes"])
    assert {path.name for path in paths} == {
        "curve_loss.png",
        "confusion_matrix.png",
        "roc.png",
        "precision_recall.png",
    }
    for path in paths:
        with Image.open(path) as image:
            assert all(300 <= side <= 1200 for side in image.size), path.name


def test_a_single_epoch_has_no_curve(tmp_path) -> None:
    assert save_figures(tmp_path, {"train/loss": [[1, 2.0]]}, {}, []) == []


# pairs of a regression ------------------------------------------------------------------------------------------------


def test_regression_draws_predictions_against_targets(tmp_path) -> None:
    task = make_task(spec("regression", mean=10.0, std=2.0), ("regression",))
    metrics = EpochMetrics(task, with_curves=True)
    for i in range(3):
        outputs = torch.arange(4.0)[:, None] + 4 * i
        metrics.append(StepOutput(torch.tensor(0.0), outputs, outputs.squeeze(-1) * 3))
    prediction, target = metrics.curves()["scatter"]
    assert sorted(zip(prediction.tolist(), target.tolist(), strict=True)) == [
        (10 + 2.0 * i, 3.0 * i) for i in range(12)
    ]
    (path,) = save_figures(tmp_path, {}, metrics.curves(), [])
    assert path.name == "predicted_actual.png"


def pairs(first: int, last: int, size: int) -> PairSample:
    sample = PairSample(size)
    for values in torch.arange(first, last, dtype=torch.float32).split(64):
        sample.update(values, -values)
    return sample


def test_a_sample_of_pairs_is_bounded_fair_and_repeatable() -> None:
    state = torch.random.get_rng_state()
    prediction, target = pairs(0, 100_000, 1000).compute()
    assert torch.equal(torch.random.get_rng_state(), state)
    assert len(prediction.unique()) == 1000 and torch.equal(target, -prediction)
    # mean of 1,000 of 0..99,999: the standard error is 913
    assert abs(prediction.mean() - 50_000) < 4 * 913
    assert torch.equal(pairs(0, 100_000, 1000).compute()[0], prediction)


def worst(rows: list[int]) -> WorstExamples:
    """The three hardest of some rows, whose losses are (row - 1.25) squared."""
    losses = WorstExamples(make_task(spec("regression"), ("regression",)), size=3)
    index = torch.tensor(rows)
    losses.append(index[:, None].float(), {"target": torch.full((len(rows),), 1.25), "index": index})
    return losses


def _rank(rank: int, folder) -> None:
    torch.distributed.init_process_group("gloo", f"file://{folder}/store", rank=rank, world_size=2)
    sample = pairs(0, 700, 500) if rank == 0 else pairs(1000, 1030, 500)
    torch.save((sample.compute(), worst([0, 1, 2] if rank == 0 else [3, 4]).compute()), folder / f"{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_pairs_and_hardest_rows_come_from_all_ranks(tmp_path) -> None:
    mp.spawn(_rank, (tmp_path,), nprocs=2)
    ((prediction, target), rows), (other, others) = (torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1))
    assert rows == others == [(4, 7.5625), (3, 3.0625), (0, 1.5625)] == worst([0, 1, 2, 3, 4]).compute()
    assert torch.equal(prediction, other[0]) and torch.equal(target, -prediction)
    assert len(prediction.unique()) == 500 and prediction.min() < 700 and prediction.max() >= 1000


# tables ---------------------------------------------------------------------------------------------------------------


def test_the_results_table_shows_the_chosen_epoch_beside_the_best() -> None:
    history = HISTORY | {"val/accuracy": [[1, 0.5], [2, 0.25], [3, 0.75]]}
    best = {"val/loss": (2, 1.5), "val/accuracy": (3, 0.75)}
    printed = text(terminal.print_results, history, best, {"accuracy": 0.125}, 3)
    assert "weights of epoch 3" in printed
    assert cells(printed) == [
        ["loss", "1.7500", "1.2500", "-", "1.5000", "2"],
        ["accuracy", "0.7500", "-", "0.1250", "0.7500", "3"],
    ]


def test_tiny_and_huge_values_keep_their_digits() -> None:
    printed = text(terminal.print_results, {"test/rmse": [[1, 123456.789]], "test/loss": [[1, 0.0000321]]}, {}, {}, 0)
    assert cells(printed) == [["rmse", "-", "1.235e+05", "-", "-", "-"], ["loss", "-", "3.21e-05", "-", "-", "-"]]


def test_tables_fit_into_eighty_columns() -> None:
    long = {"val/average_precision": [[1, 0.5]], "test/average_precision": [[1, 0.5]]}
    printed = text(terminal.print_results, long, {"val/average_precision": (1000, 0.5)}, {"average_precision": 0.5}, 1)
    assert cells(printed) == [["average_precision", "0.5000", "0.5000", "0.5000", "0.5000", "1000"]]
    assert max(map(len, printed.splitlines())) <= 80


def test_predictions_show_all_classes_where_they_fit() -> None:
    kind = spec("classification", classes=3)
    row = [0.25, 0.0625, 0.6875]
    printed = shown(kind, [row], [1])
    assert "P(c0)" in printed and cells(printed) == [["0", "0.2500", "0.0625", "0.6875", "c1"]]
    kind = spec("classification", classes=30)
    printed = shown(kind, [row + [0.0] * 27], [1])
    assert cells(printed) == [["0", "c2", "0.6875", "c1"]]


def test_predictions_of_two_classes_and_of_a_value() -> None:
    printed = shown(spec("binary", classes=2), [0.875], [0.0])
    assert "P(c1)" in printed and cells(printed) == [["0", "0.8750", "c0"]]
    printed = shown(spec("regression"), [152.13], None)
    assert "predicted" in printed and cells(printed) == [["0", "152.1300"]]


# cost -----------------------------------------------------------------------------------------------------------------


def test_cost_of_a_small_network_equals_a_hand_count() -> None:
    kind = spec("classification", classes=3, features=4)
    model = FNN(kind, make_task(kind, ("classification",)), width=5, depth=2)
    weights, biases = 4 * 5 + 5 * 5 + 5 * 3, 5 + 5 + 3
    batch = {"input": torch.zeros(7, 4)}
    model.train()
    assert cost.flops(model, batch) == 2 * weights  # for one example, whatever the batch
    assert model.training
    assert cost.parameters(model) == weights + biases
    model.head.requires_grad_(False)
    assert cost.parameters(model) == weights + biases - (5 * 3 + 3)


@pytest.mark.parametrize(
    ("device", "precision", "tf32", "tera"),
    [
        ("NVIDIA A100-SXM4-80GB", "bf16-mixed", False, 312),
        ("NVIDIA A100 80GB PCIe", "32-true", False, 19.5),
        ("NVIDIA A100 80GB PCIe", "32-true", True, 156),
        ("NVIDIA A100-PCIE-40GB", "64-true", True, 9.7),
        ("8 x NVIDIA H100 80GB HBM3", "16-mixed", False, 989.4),
        ("NVIDIA H100 80GB HBM3", 32, True, 494.7),
        ("NVIDIA H100 PCIe", "bf16-true", False, 756.5),
        ("NVIDIA H100 NVL", "bf16-true", False, 835.5),
        ("NVIDIA H200", "bf16-mixed", True, 989.4),
        ("NVIDIA L4", "bf16-mixed", False, 121),
        ("NVIDIA L40S", "bf16-mixed", False, 362),
        ("NVIDIA A10", "32-true", False, 31.2),
        ("NVIDIA A10G", "bf16-mixed", False, 125),
        ("Tesla T4", "16-mixed", False, 65),
        ("Tesla T4", "32-true", True, 8.1),
        ("Tesla T4", "bf16-mixed", False, None),  # it has no such units
        ("Tesla V100-SXM2-16GB", "16-mixed", False, 125),
        ("Tesla V100-PCIE-32GB", "16-mixed", False, 112),
        ("NVIDIA GeForce RTX 3090", "bf16-mixed", False, 71),
        ("NVIDIA GeForce RTX 3090 Ti", "bf16-mixed", False, None),
        ("NVIDIA GeForce RTX 4090", "bf16-mixed", False, 165.2),
        ("NVIDIA GeForce RTX 4090 Laptop GPU", "bf16-mixed", False, None),
        ("NVIDIA L40", "bf16-mixed", False, None),
        ("NVIDIA A100-SXM4-80GB", "transformer-engine", False, None),
        ("cpu", "32-true", True, None),
        ("mps", "32-true", False, None),
    ],
)
def test_peaks_are_known_by_the_device_s_name(device, precision, tf32, tera) -> None:
    peak = cost.peak_flops(device, precision, tf32=tf32)
    assert peak == (None if tera is None else pytest.approx(tera * 1e12))


@pytest.fixture
def no_counter(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    monkeypatch.setattr(cost, "RAPL", tmp_path / "none")


@pytest.mark.skipif(torch.cuda.is_available() or sys.platform != "linux", reason="of a processor under Linux")
def test_memory_at_its_peak_is_that_of_one_run(no_counter: None) -> None:
    before = cost.Meter()
    with mmap.mmap(-1, 240_000_000) as piece:  # malloc may still have as much, of what earlier tests have freed
        for _ in range(240):
            piece.write(bytes(1_000_000))
    used, _ = before.read()
    later, _ = cost.Meter().read()
    assert used["cost/peak_memory_megabytes"] - later["cost/peak_memory_megabytes"] > 200


@pytest.mark.skipif(torch.cuda.is_available(), reason="of a processor")
def test_energy_without_a_counter_is_estimated_from_the_cores_in_use(no_counter: None) -> None:
    meter = cost.Meter()
    began, core = time.monotonic(), time.process_time()
    while time.process_time() - core < 0.3:
        pass
    costs, how = meter.read()
    gigabytes = costs["cost/peak_memory_megabytes"] / 1000
    expected = 12 * (time.process_time() - core) + 0.3725 * gigabytes * (time.monotonic() - began)
    assert costs["cost/energy_joules"] == pytest.approx(expected, rel=0.15)  # os.times counts hundredths of a second
    assert how == "estimate: 12.0 W a core, 0.3725 W a GB"


@pytest.mark.skipif(torch.cuda.is_available(), reason="of a processor")
def test_energy_comes_from_a_counter_where_there_is_one(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    counter = tmp_path / "energy_uj"
    monkeypatch.setattr(cost, "RAPL", counter)
    counter.write_text("5000000\n")
    meter = cost.Meter()
    counter.write_text("7500000\n")
    costs, how = meter.read()
    assert costs["cost/energy_joules"] == 2.5 and how == "counter of the processor"
    counter.write_text("1\n")  # it has begun anew
    assert meter.read()[1].startswith("estimate")


def test_utilization_counts_backward_twice() -> None:
    # 1 GFLOP forward, 10,000 examples a second: 30 of 312 TFLOP/s
    peak = cost.peak_flops("NVIDIA A100-SXM4-40GB", "bf16-mixed")
    assert cost.utilization(1e9, 10_000, peak) == pytest.approx(30 / 312)
