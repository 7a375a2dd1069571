"""Series: what is read and refused, split and scaled by time, cut into windows, forecast naively, and forecast well."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from src.data.series.adding import Adding
from src.data.series.dataset import Series
from src.data.series.windows import Windows
from src.errors import UserError
from src.metrics.regression import ScaledError
from src.models.dlinear import DLinear
from src.tasks.epoch import EpochMetrics
from src.tasks.forecasting.task import Forecasting
from src.tasks.registry import make_task
from tests.conftest import ROOT

ROWS = 40


def written(path: Path, rows: int = ROWS, header: str = "date,load,heat", change: dict[int, str] | None = None) -> Path:
    """Hourly rows: load counts up from 100, heat down from 0; `change` replaces lines, the header's is 1."""
    lines = [header, *(f"2020-01-{1 + i // 24:02d} {i % 24:02d}:00:00,{100 + i},{-2 * i}" for i in range(rows))]
    for line, text in (change or {}).items():
        lines[line - 1] = text
    path.write_text("\n".join(lines) + "\n")
    return path


def series(path: Path, **options) -> Series:
    data = Series(path=str(path), **({"context": 5, "horizon": 2, "val_rows": 6, "test_rows": 8} | options))
    data.setup("fit")
    return data


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return written(tmp_path / "own.csv")


# reading and refusing ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({9: "2020-01-01 08:00:00,1,2"}, "line 9: 2020-01-01 08:00:00 comes after 2020-01-01 06:00:00, .* usual step"),
        ({9: "2020-01-01 06:00:00,1,2"}, "line 9: the time 2020-01-01 06:00:00 stands there twice"),
        ({9: "2020-01-01 03:00:00,1,2"}, "line 9: the time 2020-01-01 03:00:00 comes after .* sort the rows by time"),
        ({9: "2020-01-01 07:00:00,1,many"}, "line 9, column heat: 'many' is not a number"),
        ({9: "2020-01-01 07:00:00,,2"}, "line 9, column load: '' is not a number"),
        ({9: "2020-01-01 07:00:00,nan,2"}, "line 9, column load: 'nan' is not a number"),
        ({9: "soon,1,2"}, "line 9, column date: 'soon' is no time such as 2016-07-01 13:00:00"),
        ({9: "2020-01-01 07:00:00,1"}, "line 9: 2 cells, the header has 3"),
    ],
)
def test_bad_rows_are_named(tmp_path, change, message) -> None:
    with pytest.raises(UserError, match=message):
        series(written(tmp_path / "own.csv", change=change))


def test_files_without_rows(tmp_path) -> None:
    empty = tmp_path / "empty.csv"
    empty.write_text("")
    with pytest.raises(UserError, match=r"empty.csv is empty"):
        series(empty)
    with pytest.raises(UserError, match="has a header and no rows"):
        series(written(tmp_path / "own.csv", rows=0))
    with pytest.raises(UserError, match=r"none.csv cannot be read"):
        series(tmp_path / "none.csv")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"time": "day"}, "no column day"),
        ({"targets": ["lead"]}, "no column lead.*load"),
        ({"covariates": ["heap"]}, "no column heap.*heat"),
        ({"covariates": ["load", "heat"]}, "no column is left to be forecast"),
        ({"targets": ["load"], "covariates": ["load"]}, "load is among data.targets too"),
        ({"context": 25}, "the train split has 26 of 40 rows, data.context . data.horizon needs 27"),
        ({"horizon": 7}, "the val split has 6 of 40 rows, data.horizon needs 7"),
        ({"test_rows": 1}, "the test split has 1 of 40 rows, data.horizon needs 2"),
        ({"test_rows": 50}, "the train split has 0 of 40 rows"),
        ({"rows": 41}, "data.rows=41: .*own.csv has 40"),
        ({"transform": "log"}, "line 2, column heat: -?0 has no logarithm"),
        ({"transform": "square"}, "data.transform=square is not known"),
        ({"gaps": "fill"}, "data.gaps=fill is not known"),
        ({"source": "weather"}, "data.source=weather is not known"),
        ({"context": 0}, "data.context=0 must be at least 1"),
        ({"stride": 0}, "data.stride=0 must be at least 1"),
        ({"season": 6}, "data.season=6: the naive forecast needs data.context=5 to be as long"),
        ({"path": None}, "data.path: has no default"),
    ],
)
def test_bad_options(file, options, message) -> None:
    usual = {"path": str(file), "context": 5, "horizon": 2, "val_rows": 6, "test_rows": 8}
    with pytest.raises(UserError, match=message):
        Series(**(usual | options)).setup("fit")


def test_gaps_may_be_allowed_and_months_are_steps_of_one(tmp_path) -> None:
    gap = {9: "2020-01-01 06:30:00,1,2"}
    assert len(series(written(tmp_path / "own.csv", change=gap), gaps="allow").splits["test"]["input"]) == 7
    for form in ("{}-{:02d}", "{}-{:02d}-01", "{}/{}"):
        times = [form.format(1949 + i // 12, i % 12 + 1) for i in range(ROWS)]
        path = tmp_path / "months.csv"
        path.write_text("month,n\n" + "".join(f"{time},{i}\n" for i, time in enumerate(times)))
        assert series(path, time="month").spec.input_shape == (5, 1)
    path.write_text("month,n\n" + "".join(f"{time},{i}\n" for i, time in enumerate(times) if i != 7))
    with pytest.raises(UserError, match="line 9: 1949/9 comes after 1949/7"):
        series(path, time="month")


# windows, split, scale -----------------------------------------------------------------------------------------------


def test_windows_are_complete_and_lie_in_their_part(file) -> None:
    """Each target of a part is foretold from the rows just before it, and from none of its own or later ones."""
    data = series(file)
    assert data.spec.input_shape == (5, 2) and data.spec.input.feature_names == ("load", "heat")
    bounds = {"train": (5, 26), "val": (26, 32), "test": (32, 40)}
    for name, (first, end) in bounds.items():
        part = data.splits[name]
        index = torch.arange(len(part["input"]))
        inputs, target = part["input"][index][..., 0] - 100, part["target"][index][..., 0] - 100  # numbers of rows
        assert target[:, 0].tolist() == list(range(first, end - 1)), name
        assert torch.equal(target[:, 1], target[:, 0] + 1)
        assert torch.equal(inputs, target[:, :1] + torch.arange(-5, 0))


def test_stride_thins_the_training_part_only(file) -> None:
    data = series(file, stride=3)
    assert [len(data.splits[name]["input"]) for name in ("train", "val", "test")] == [7, 5, 7]
    assert data.splits["train"]["target"][torch.arange(7)][:, 0, 0].tolist() == [105, 108, 111, 114, 117, 120, 123]


def test_parts_share_one_copy_of_the_values(file) -> None:
    columns = [column for part in series(file).splits.values() for column in part.values()]
    assert len({column.values.untyped_storage().data_ptr() for column in columns}) == 1


def test_scale_and_naive_error_come_from_the_training_rows_alone(file, tmp_path) -> None:
    spec = series(file).spec
    load = np.arange(100, 126)
    assert spec.input.mean == pytest.approx((load.mean(), -2 * (load - 100).mean()))
    assert spec.input.std == pytest.approx((load.std(), 2 * load.std()))
    assert spec.target.naive_errors == pytest.approx((1, 2))
    other = {line: f"2020-01-02 {line - 26:02d}:00:00,9999,{line}" for line in range(28, 42)}  # all of val and test
    changed = series(written(tmp_path / "changed.csv", change=other)).spec
    assert (changed.input.mean, changed.input.std) == (spec.input.mean, spec.input.std)
    assert changed.target.naive_errors == spec.target.naive_errors
    assert changed.sha256 != spec.sha256


def test_fractions_of_the_rows_by_time(file) -> None:
    data = series(file, val_rows=None, test_rows=None, val_fraction=0.2, test_fraction=0.25)
    sizes = {name: len(part["target"]) for name, part in data.splits.items()}
    assert sizes == {"train": 22 - 5 - 1, "val": 8 - 1, "test": 10 - 1}


def test_covariates_are_seen_and_not_forecast(file) -> None:
    data = series(file, targets=["heat"], covariates=["load"], season=3)
    assert data.spec.input.feature_names == ("heat", "load")
    assert data.splits["train"]["input"].shape[1:] == (5, 2)
    assert data.splits["train"]["target"].shape[1:] == (2, 1)
    assert data.splits["train"]["target"][torch.tensor([0])].flatten().tolist() == [-10, -12]
    assert data.spec.target.naive_errors == pytest.approx((6,))
    same = series(file, covariates=["load"]).spec
    assert same.input.feature_names == ("heat", "load")


def test_transforms(file) -> None:
    index = torch.tensor([0])
    assert series(file, transform="diff").splits["test"]["target"][index].flatten().tolist() == [1, -2, 1, -2]
    logs = series(file, targets=["load"], transform="log").splits["train"]["input"][index].flatten()
    torch.testing.assert_close(logs, torch.arange(100, 105).log())
    returns = series(file, targets=["load"], transform="log_diff").splits["train"]["input"][index].flatten()
    torch.testing.assert_close(returns, torch.arange(100, 106).log().diff())


def test_windows_are_a_column() -> None:
    values = torch.arange(12.0).view(6, 2)
    windows = Windows(values, torch.tensor([0, 1, 3]), 2)
    assert windows.shape == (3, 2, 2) and len(windows) == 3
    assert torch.equal(windows[torch.tensor([2, 0])], torch.stack([values[3:5], values[0:2]]))
    assert torch.equal(windows.subset(torch.tensor([1]))[torch.tensor([0])], values[1:3].unsqueeze(0))
    assert windows.digest() != windows.subset(torch.tensor([0, 1])).digest()
    assert windows.digest() == windows.to("cpu").digest()


# the task ------------------------------------------------------------------------------------------------------------


def test_naive_forecasts_by_hand(file) -> None:
    x = series(file).splits["test"]["input"][torch.tensor([0])]
    assert x[0, :, 0].tolist() == [127, 128, 129, 130, 131]

    def naive(**options) -> list[float]:
        spec = series(file, horizon=4, **options).spec
        return make_task(spec, ("forecasting",)).naive(x)[0, :, 0].tolist()

    assert naive() == [131, 131, 131, 131]
    assert naive(season=3) == [129, 130, 131, 129]
    assert naive(transform="diff") == [0, 0, 0, 0]


def test_loss_metrics_and_baseline_by_hand(file) -> None:
    data = series(file)
    task = make_task(data.spec, ("forecasting",)).eval()
    assert isinstance(task, Forecasting) and task.num_outputs == 4
    batch = {name: column[torch.arange(3)] for name, column in data.splits["test"].items()}
    judged = task.evaluate_batch(torch.zeros(3, 4), batch)
    mean, std = torch.tensor(data.spec.input.mean), torch.tensor(data.spec.input.std)
    torch.testing.assert_close(judged.loss, ((batch["target"] - mean) / std).square().mean())
    torch.testing.assert_close(task.prediction(judged.outputs), mean.expand(3, 2, 2))
    metrics = task.metrics()
    metrics.update(task.baseline(judged.target, judged.reference), judged.target)
    values = {name: value.item() for name, value in metrics.compute().items()}
    # the last value again: off by 1 and 2 in load, by 2 and 4 in heat, whose naive errors are 1 and 2
    assert values == pytest.approx({"mae": 9 / 4, "rmse": (25 / 4) ** 0.5, "mase": 1.5})
    assert task.train().evaluate_batch(torch.zeros(3, 4), batch).reference is None


@pytest.mark.parametrize(("name", "expected"), [("l1", 1.5), ("huber", 1.125)])
def test_other_losses(file, name, expected) -> None:
    task = make_task(series(file).spec, ("forecasting",), loss=name)
    target = (torch.tensor(task.spec.input.mean) + 1.5 * torch.tensor(task.spec.input.std)).expand(1, 2, 2)
    # huber: 0.5 * 1 + (1.5 - 1)
    assert task.loss(torch.zeros(1, 4), {"target": target}).item() == pytest.approx(expected if name == "l1" else 1.0)


def test_scaled_error_adds_up_over_batches() -> None:
    metric = ScaledError((2.0, 4.0))
    metric.update(torch.zeros(1, 1, 2), torch.tensor([[[2.0, 4.0]]]))
    metric.update(torch.zeros(2, 1, 2), torch.tensor([[[4.0, 8.0]], [[4.0, 8.0]]]))
    assert metric.compute().item() == pytest.approx(5 / 3)


def test_metrics_go_on_in_the_middle_of_an_epoch(file, monkeypatch) -> None:
    """Folded or pending, what a checkpoint holds of them leads to the same figures."""
    monkeypatch.setattr("src.tasks.epoch.PENDING_ELEMENTS", 5)
    data = series(file)
    task = make_task(data.spec, ("forecasting",))
    batches = [
        {name: column[index] for name, column in data.splits["train"].items()} for index in torch.arange(12).split(3)
    ]
    draw = torch.Generator().manual_seed(0)
    judged = [task.evaluate_batch(torch.randn(3, 4, generator=draw), batch) for batch in batches]
    whole, again = EpochMetrics(task), EpochMetrics(task)
    for one in judged[:3]:
        whole.append(one)
    again.load_state_dict(whole.state_dict(), torch.device("cpu"))
    for metrics in (whole, again):
        metrics.append(judged[3])
    assert whole.compute() == again.compute()


# DLinear -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kernel_size", [1, 3])
def test_dlinear_learns_a_straight_line_and_goes_on_with_it(file, kernel_size) -> None:
    data = series(file)
    torch.manual_seed(0)
    model = DLinear(data.spec, make_task(data.spec, DLinear.tasks), kernel_size=kernel_size, window_norm="last")
    optimizer = torch.optim.LBFGS(model.parameters(), line_search_fn="strong_wolfe", max_iter=50)
    train, test = (
        {name: column[torch.arange(len(column))] for name, column in data.splits[part].items()}
        for part in ("train", "test")
    )

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = model.task.loss(model(train["input"]), train)
        loss.backward()
        return loss

    optimizer.step(closure)
    forecast = model.task.predict(model(test["input"]))
    torch.testing.assert_close(forecast, test["target"], atol=0.05, rtol=0)


def test_dlinear_s_average_holds_the_ends(file) -> None:
    spec = series(file).spec
    model = DLinear(spec, make_task(spec, DLinear.tasks), kernel_size=3)
    average = model._average(torch.tensor([[[3.0, 6.0, 9.0, 0.0]]]))
    assert average.flatten().tolist() == [4, 6, 5, 3]
    with pytest.raises(UserError, match="model.kernel_size=4: an odd number"):
        DLinear(spec, make_task(spec, DLinear.tasks), kernel_size=4)


# the adding problem --------------------------------------------------------------------------------------------------


def test_adding_says_what_it_asks_for() -> None:
    data = Adding(length=11, rows=500, val_rows=20, test_rows=20)
    data.setup("fit")
    x, target = (data.splits["train"][name] for name in ("input", "target"))
    numbers, marks = x.unbind(2)
    assert set(marks.unique().tolist()) == {0, 1}
    assert (marks[:, :5].sum(1) == 1).all() and (marks[:, 5:].sum(1) == 1).all()
    torch.testing.assert_close((numbers * marks).sum(1), target)
    assert target.var().item() == pytest.approx(1 / 6, rel=0.15)
    again = Adding(length=11, rows=500, val_rows=30, test_rows=20)
    again.setup("fit")
    assert torch.equal(again.splits["train"]["input"], x)
    assert torch.equal(again.splits["test"]["input"], data.splits["test"]["input"])
    with pytest.raises(UserError, match="data.length=1 must be at least 2"):
        Adding(length=1)
    with pytest.raises(UserError, match="data.rows=0 must be at least 1"):
        Adding(rows=0)


# the real ones -------------------------------------------------------------------------------------------------------


@pytest.mark.real_data
def test_ett_is_cut_as_in_the_literature(data_folder) -> None:
    data = Series(
        source="ett",
        root=str(data_folder),
        context=336,
        horizon=96,
        season=24,
        rows=14400,
        val_rows=2880,
        test_rows=2880,
    )
    data.setup("fit")
    sizes = {name: len(part["input"]) for name, part in data.splits.items()}
    assert sizes == {"train": 8640 - 336 - 96 + 1, "val": 2785, "test": 2785}
    test = data.splits["test"]
    mean, std = torch.tensor(data.spec.input.mean), torch.tensor(data.spec.input.std)
    last = test["input"][torch.arange(2785)][:, -1:]
    error = ((test["target"][torch.arange(2785)] - last) / std).square().mean().item()
    assert mean.shape == (7,)
    assert error == pytest.approx(1.30, abs=0.01)  # what the literature gives for repeating the last value


@pytest.mark.real_data
def test_airline_beside_a_year_ago(data_folder) -> None:
    data = Series(source="airline", root=str(data_folder), time="Month", season=12, val_rows=12, test_rows=48)
    data.setup("fit")
    part = data.splits["test"]
    assert len(part["target"]) == 48
    naive = make_task(data.spec, ("forecasting",)).naive(part["input"][torch.arange(48)])
    rmse = (naive - part["target"][torch.arange(48)]).square().mean().sqrt().item()
    assert rmse == pytest.approx(41.85, abs=0.01)


@pytest.mark.real_data
def test_a_file_of_one_s_own_from_the_command_line(data_folder, tmp_path) -> None:
    path = data_folder / "timeseries" / "airline-passengers.csv"
    command = [sys.executable, "-m", "src.train", "model=gru", "data=series", f"data.path={path}", "data.time=Month"]
    options = ["tracking=none", "threads=1", "trainer.max_epochs=1", "show_predictions=1", "data.horizon=2"]
    env = os.environ | {"COLUMNS": "150"}
    result = subprocess.run([*command, *options], cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert "mase" in result.stdout
    line = next(line for line in result.stdout.splitlines() if "Passengers (actual)" in line)
    assert "step" in line
