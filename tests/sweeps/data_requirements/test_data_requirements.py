"""How much data is enough: shares of the training split, the learning curve through them, and the study as a sweep."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

from src.analysis.learning_curve.fit import Fit, Flat, Unfit, fit
from src.commands.report import learning_curves
from src.config import compose
from src.data.core.module import DataModule
from src.errors import UserError
from src.experiment.build import build_node
from src.pages import sweep
from src.pages.document import Table, Text
from src.spec import TokenizedSpec
from src.sweeps.data_requirements.curves import cells, curves_of, heading, save_figure, sentence
from src.sweeps.data_requirements.study import DataRequirements, stretch_epochs
from src.sweeps.jobs.ledger import JobSpec, Ledger
from tests.conftest import Lab
from tests.sweeping import SMALL
from tests.tiny import options

# shares of the training split ----------------------------------------------------------------------------------------


def data(name: str, fraction: float, seed: int = 0, *further: str) -> DataModule:
    found = build_node(compose([*options(name), f"seed={seed}", *further]).data)
    found.train_fraction = fraction
    found.prepare_data()
    found.setup("fit")
    return found


def rows(found: DataModule, part: str = "train") -> list[bytes]:
    batch = found.head(part, 10**6)
    inputs = batch["input"] if found.modality != "text_pairs" else torch.cat([batch["input"], batch["target"]], 1)
    return [row.numpy().tobytes() for row in inputs]


def test_a_share_keeps_that_share_of_each_class() -> None:
    whole, half = data("digits", 1.0), data("digits", 0.5)
    assert np.abs(np.array(half.spec.class_counts) - np.array(whole.spec.class_counts) / 2).max() <= 0.5
    assert half.spec.train_fraction == 0.5 and half.describe()["train_fraction"] == 0.5
    assert whole.spec.train_fraction == 1 and half.spec.sha256 != whole.spec.sha256
    assert half.spec.input.mean != whole.spec.input.mean  # fitted numbers are those of the share
    for part in ("val", "test"):
        assert torch.equal(half.splits[part]["input"], whole.splits[part]["input"])


def test_shares_of_one_seed_are_nested_and_those_of_two_are_not() -> None:
    whole, large, small = (set(rows(data("digits", fraction))) for fraction in (1.0, 0.6, 0.2))
    assert small < large < whole
    assert rows(data("digits", 0.2)) == rows(data("digits", 0.2))
    other = set(rows(data("digits", 0.2, seed=1)))
    assert 0.1 < len(small & other) / len(small) < 0.3


@pytest.mark.parametrize("name", ["csv", "npz", "diabetes", "adding", "text_csv", "lines", "squad", "image_folder"])
def test_every_kind_of_data_can_be_cut(name: str) -> None:
    whole, half = data(name, 1.0), data(name, 0.5)
    assert 0.35 < half.spec.splits["train"] / whole.spec.splits["train"] < 0.65
    assert half.spec.splits["val"] == whole.spec.splits["val"] and half.spec.splits["test"] == whole.spec.splits["test"]
    assert len(next(iter(half.train_dataloader()))["input"])
    if isinstance(whole.spec.input, TokenizedSpec):  # the vocabulary is that of the share
        assert sum(half.spec.input.token_counts) < sum(whole.spec.input.token_counts)
    elif name not in ("csv",):  # whose rows are in the units of the share
        assert set(rows(half)) <= set(rows(whole)) and rows(half, "test") == rows(whole, "test")


def test_what_names_rows_still_does() -> None:
    half = data("csv", 0.5)
    numbers = [int(re.search(r"row (\d+)", half.row_name("train", row))[1]) for row in range(half.spec.splits["train"])]
    assert len(set(numbers)) == half.spec.splits["train"] and max(numbers) <= 90


def test_of_a_series_the_latest_rows_stay() -> None:
    whole, half = (data("series", fraction, 0, "data.context=6", "data.horizon=2") for fraction in (1.0, 0.4))
    begin = half._train_rows - round(0.4 * half._train_rows)
    assert int(half.splits["train"]["input"].starts[0]) == begin
    ends = [int(one.splits["train"]["target"].starts[-1]) for one in (whole, half)]
    assert ends[0] == ends[1]
    for part in ("val", "test"):
        assert torch.equal(half.splits[part]["target"].starts, whole.splits[part]["target"].starts)
    expected = half._values[begin : half._train_rows].double().mean(0)
    assert half.spec.input.mean == pytest.approx(expected.tolist())


def test_of_a_text_a_stretch_stays() -> None:
    further = ("data.context=16",)
    whole, half, part = (data("text_file", fraction, 0, *further) for fraction in (1.0, 0.5, 0.2))

    def text(found: DataModule) -> str:
        return found.tokenizer.decode(found.splits["train"]["input"].tokens.tolist())

    assert text(part) in text(half) and text(half) in text(whole)
    assert len(text(half)) == pytest.approx(0.5 * len(text(whole)), abs=1)
    assert text(data("text_file", 0.5, 1, *further)) != text(half)


@pytest.mark.parametrize(
    ("name", "fraction", "message"),
    [
        ("digits", 0.0, r"train_fraction=0.0 must be above 0 and at most 1"),
        ("digits", 2.0, r"train_fraction=2.0 must be above 0 and at most 1"),
        ("digits", 0.001, r"leaves no row of class 0, which has \d+: at least 0\.00\d+ is needed"),
        ("diabetes", 0.001, r"leaves no row of the training split, which has 266: at least 0.0019 is needed"),
        ("series", 0.01, r"the train split has 2 of 300 rows \(train_fraction=0.01\), data.context"),
        ("text_file", 1e-9, r"train_fraction=1e-09 leaves nothing of a text of \d+ characters"),
    ],
)
def test_a_share_that_cannot_be_is_one_line(name: str, fraction: float, message: str) -> None:
    with pytest.raises(UserError, match=message):
        data(name, fraction)


def test_data_that_ignores_the_share_is_refused() -> None:
    found = build_node(compose(["data=iris"]).data)
    found._split = lambda parts: DataModule._assigned(found, parts)
    found.train_fraction = 0.5
    with pytest.raises(UserError, match="train_fraction=0.5: data=iris has no part that can be cut"):
        found.setup("fit")


# the curve ------------------------------------------------------------------------------------------------------------

SIZES = np.array([50, 100, 200, 400, 700, 1000])


def drawn(a: float, b: float, c: float, spread: float, seed: int, repeats: int = 3) -> list[np.ndarray]:
    random = np.random.default_rng(seed)
    return [(a * n**-b + c) * (1 + spread * random.normal(size=repeats)) for n in SIZES]


def ends(found: Fit, column: int) -> tuple[float, float]:
    return tuple(np.quantile(found.draws[:, column], (0.025, 0.975)))


def test_without_noise_the_curve_is_found() -> None:
    found = fit(SIZES, drawn(3.0, 0.5, 0.02, 0.0, 0))
    a, b, c = found.parameters
    assert (a * 1000**b, b, c) == pytest.approx((3.0, 0.5, 0.02), rel=0.1)
    assert found.expected(4000).value == pytest.approx(3.0 * 4000**-0.5 + 0.02, rel=0.01)
    # 3 n^-0.5 + 0.02 at 1,000 rows is 0.1149; of its half 0.0374 is the power law's, which (0.0949 / 0.0374)^2 makes
    assert found.halving().value == pytest.approx((0.09487 / 0.03743) ** 2, rel=0.05) and not found.flat


@pytest.mark.parametrize(("a", "b", "c"), [(2.0, 0.5, 0.0), (2.0, 0.5, 0.02), (1.0, 0.3, 0.05), (5.0, 0.9, 0.01)])
def test_the_intervals_hold_what_the_points_came_from(a: float, b: float, c: float) -> None:
    held = {"b": 0, "c": 0, "4,000": 0}
    for seed in range(20):
        found = fit(SIZES, drawn(a, b, c, 0.08, seed))
        for name, column, true in (("b", 1, b), ("c", 2, c)):
            low, high = ends(found, column)
            held[name] += low <= true <= high
        expected = found.expected(4000)
        held["4,000"] += expected.low <= a * 4000**-b + c <= expected.high
    assert min(held.values()) >= 16, held  # of 20, where 19 are meant


def test_order_of_the_sizes_does_not_matter_and_the_same_points_give_the_same_curve() -> None:
    values = drawn(2.0, 0.5, 0.02, 0.1, 3)
    first, second = fit(SIZES, values), fit(SIZES[::-1], values[::-1])
    assert first.parameters.tolist() == second.parameters.tolist() and first.expected(2000) == second.expected(2000)


def test_what_is_no_learning_curve_is_refused() -> None:
    random, taken = np.random.default_rng(0), 0
    for _ in range(40):
        try:
            fit(SIZES, [0.5 + 0.02 * random.normal(size=3) for _ in SIZES])
            taken += 1
        except Unfit:
            pass
    assert taken <= 3  # by chance one of fifty seems to fall
    with pytest.raises(Flat):
        fit(SIZES, [[0.5, 0.5]] * 6)
    with pytest.raises(Unfit, match="the error rises with the rows"):
        fit(SIZES, [0.1 + n / 5000 + 0.01 * random.normal(size=3) for n in SIZES])
    with pytest.raises(Unfit, match="3 sizes with results: a curve of three numbers needs 4 or more"):
        fit(SIZES[:3], drawn(2.0, 0.5, 0.0, 0.0, 0)[:3])
    with pytest.raises(Unfit, match="not finite"):
        fit(SIZES, [[0.4], [0.3], [float("nan")], [0.2], [0.1], [0.1]])


def test_a_curve_at_its_floor_says_so() -> None:
    found = fit(SIZES, drawn(2000.0, 2.0, 0.1, 0.03, 1))
    assert found.flat and found.floor.low < 0.1 < found.floor.high and found.halving().value > 1e4


def test_one_run_a_size_takes_its_spread_from_the_curve() -> None:
    found = fit(SIZES, drawn(2.0, 0.5, 0.0, 0.1, 0, repeats=1))
    low, high = ends(found, 1)
    assert low < 0.5 < high and high - low > 0.1


# what is said ---------------------------------------------------------------------------------------------------------


def ledger(folder: Path, values: dict[float, list[float]], word: str = "accuracy", **study: object) -> Ledger:
    """A sweep over shares of 1,000 rows that has finished; its test metric by share."""
    jobs = []
    for point, (share, some) in enumerate(values.items()):
        for seed in range(len(some)):
            words = [f"train_fraction={share}", f"seed={seed}"]
            jobs.append(JobSpec(["data=iris", *words], "a: 1", f"{share} {seed}", " ".join(words), point))
    found = Ledger.create(folder, "key", jobs, ["train"], 1)
    found.set_study({"metric": None, "level": 0.95} | study)
    for job in found.jobs:
        share, seed = (float(text.partition("=")[2]) for text in job.overrides[1:])
        kept = {f"test/{word}": values[share][int(seed)], f"val/{word}": 0.5, "data/train_rows": 1000 * share}
        job.update(status="finished", objective=0.5, metric=f"val/{word}", mode="max", metrics=kept)
    return found


SHARES = (0.05, 0.1, 0.2, 0.4, 0.7, 1.0)


def falling(spread: float = 0.02) -> dict[float, list[float]]:
    random = np.random.default_rng(0)
    return {share: list(1 - 3 * (1000 * share) ** -0.6 * (1 + spread * random.normal(size=3))) for share in SHARES}


def test_a_sentence_says_what_more_data_would_buy(tmp_path: Path) -> None:
    found = ledger(tmp_path, falling())
    (curve,) = curves_of(found)
    assert curve.metric == "test/accuracy" and list(curve.values) == [50, 100, 200, 400, 700, 1000]
    said = re.fullmatch(
        r"with 2x the rows \(2,000\) accuracy (\S+) \[(\S+), (\S+)\] is expected, from (\S+); halving the error takes "
        r"about (\S+) times the rows \[(\S+) to (.+)\]",
        sentence(curve),
    )
    value, low, high, now, factor, least, _ = said.groups()
    assert float(low) < 1 - 3 * 2000**-0.6 < float(high) and float(value) == pytest.approx(0.9686, abs=0.003)
    assert float(now) == pytest.approx(1 - 3 * 1000**-0.6, abs=0.003)
    assert float(least) <= 2 ** (1 / 0.6) + 0.2 and float(factor) == pytest.approx(2 ** (1 / 0.6), rel=0.3)
    table = cells(curve)
    assert table[0][:3] == ["50", "0.05", "3"] and [row[1] for row in table[6:]] == ["2x", "4x", "10x"]
    blocks = sweep._learning_curves(learning_curves(found))
    assert blocks == [Table(heading(curve), table), Text(sentence(curve))]
    save_figure(found, tmp_path / "figures")
    assert (tmp_path / "figures" / "data_requirements.png").stat().st_size > 10_000
    (half,) = curves_of(found, upto=0.5)
    assert list(half.values) == [50, 100, 200, 400] and half.fit is not None


def test_no_trend_and_no_curve_are_said(tmp_path: Path) -> None:
    (flat,) = curves_of(ledger(tmp_path / "flat", {share: [0.8, 0.81, 0.79] for share in SHARES}))
    assert sentence(flat) == (
        "the curve is flat: from 50 to 1,000 rows accuracy goes from 0.8000 to 0.8000, and more data buys nothing that "
        "3 seeds can tell"
    )
    (few,) = curves_of(ledger(tmp_path / "few", {share: [share / 2] for share in (0.1, 1.0)}))
    assert sentence(few).startswith("no extrapolation: 2 sizes with results")
    (unknown,) = curves_of(ledger(tmp_path / "unknown", {share: [5 + share] for share in SHARES}, "diversity"))
    assert sentence(unknown) == "no extrapolation: how good test/diversity can become is not known"
    for one in ("flat", "few", "unknown"):
        save_figure(Ledger.all(tmp_path / one)[0], tmp_path / one)
        assert (tmp_path / one / "data_requirements.png").exists()


def test_another_metric_is_asked_for_by_either_name(tmp_path: Path) -> None:
    values = {share: [1 - 0.5 * share**0.2] for share in SHARES}
    assert curves_of(ledger(tmp_path / "a", values, "rmse"))[0].metric == "test/rmse"
    assert curves_of(ledger(tmp_path / "b", values, "rmse", metric="rmse"))[0].metric == "test/rmse"
    assert curves_of(ledger(tmp_path / "c", values, "rmse", metric="val/rmse"))[0].metric == "val/rmse"
    with pytest.raises(UserError, match=r"study.metric=test/rmsd: .* \(did you mean test/rmse\?\)"):
        curves_of(ledger(tmp_path / "d", values, "rmse", metric="test/rmsd"))


# the study ------------------------------------------------------------------------------------------------------------


def test_a_share_is_trained_for_the_steps_of_all_rows() -> None:
    def longer(share: float, *further: str) -> list[str]:
        config = compose([f"train_fraction={share}", *further])
        config.study = OmegaConf.create({"_target_": "x", "budget": "steps"})
        return stretch_epochs(config)

    assert longer(1.0) == [] and longer(0.7) == ["trainer.max_epochs=29"]
    assert longer(0.05) == ["trainer.max_epochs=400", "trainer.check_val_every_n_epoch=20"]
    every = ("trainer.max_epochs=10", "trainer.check_val_every_n_epoch=2")
    assert longer(0.4, *every) == ["trainer.max_epochs=24", "trainer.check_val_every_n_epoch=4"]
    assert longer(0.5, "trainer.max_epochs=null", "trainer.max_steps=100") == []
    assert stretch_epochs(compose(["train_fraction=0.5"])) == []


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"fractions": [0.0, 1.0]}, "study.fractions: 0.0 must be above 0 and at most 1"),
        ({"fractions": [0.5, 2.0]}, "study.fractions: 2.0 must be above 0 and at most 1"),
        ({"fractions": [0.5]}, r"study.fractions=\[0.5\]: a curve needs two different shares or more, each once"),
        ({"fractions": [0.5, 0.5, 1]}, "two different shares or more, each once"),
        ({"fractions": [0.5, 1], "repeats": 0}, "study.repeats=0 must be at least 1"),
        ({"fractions": [0.5, 1], "level": 95}, "study.level=95 must be above 0 and below 1"),
        ({"fractions": [0.5, 1], "metric": "speed"}, "study.metric=speed: it is not known whether more"),
    ],
)
def test_options_out_of_range_are_one_line(given: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        DataRequirements(**given)


STUDY = ("-m", "study=data_requirements", *SMALL)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (STUDY[1:], "study=data_requirements: a study is a sweep, add -m"),
        ((*STUDY[:1], *SMALL, "study.repeats=2"), "study.repeats: of which study? add study=data_requirements"),
        ((*STUDY, "study.fractions=[0.5]"), "study.fractions=[0.5]: a curve needs two different shares"),
        ((*STUDY, "study.fraction=[0.5,1]"), "study.fraction: DataRequirements has no such option (did you mean fract"),
        ((*STUDY, "study.budget=step"), "study.budget: step is not known (did you mean steps?)"),
        ((*STUDY, "repeats=2"), "repeats: in this study study.repeats says so"),
        ((*STUDY, "train_fraction=0.5"), "train_fraction: in this study study.fractions says so"),
        ((*STUDY, "seed=1,2"), "seed: study.repeats draws so many seeds from one on: give one value"),
        ((*STUDY, "trainer.max_epochs=1,2"), "trainer.max_epochs: study.budget=steps sets it for each share"),
        ((*STUDY, "hydra/sweeper=search", "optimizer.lr=interval(0.1,1)"), "study: its jobs are a grid, a search has"),
        ((*SMALL, "train_fraction=2"), "train_fraction=2 must be above 0 and at most 1"),
    ],
)
def test_a_study_that_cannot_be_is_one_line(lab: Lab, arguments: tuple[str, ...], message: str) -> None:
    done = lab.train(*arguments)
    assert done.code == 2 and done.err.startswith(f"error: {message}") and done.err.count("\n") == 1
    assert not (lab.folder / "mlruns" / "sweeps").exists()


def test_a_study_is_a_sweep_that_is_gone_on_with(lab: Lab) -> None:
    command = (*STUDY, "study.fractions=[0.1,0.2,0.5,1]", "study.repeats=1", "n_jobs=2", "threads=1")
    done = lab.train(*command, kill=("epoch", 5))  # which shares of a half and more, being large, have none of
    assert done.code == 1 and "2 of the sweep's 4 jobs did not finish" in done.err
    done = lab.train(*command)
    assert done.code == 0 and ": 2 finished, 2 to resume, 0 to run" in done.out, done.err
    (found,), out = Ledger.all(lab.folder / "mlruns"), done.out
    assert found.counts() == {"finished": 4}
    names = [job.name for job in found.jobs]
    assert names == ["train_fraction=0.1", "train_fraction=0.2", "train_fraction=0.5", "train_fraction=1"]
    assert {run.data.params["train_fraction"] for run in lab.runs()} == {"0.1", "0.2", "0.5", "1"}
    for tag in ("labbook.data_sha256", "labbook.config_hash"):
        assert len({run.data.tags[tag] for run in lab.runs()}) == 4
    assert {run.data.params["study"] for run in lab.runs()} == {"None"}
    (own,) = lab.runs("sweep")
    assert (lab.artifacts(own.info.run_id) / "figures" / "data_requirements.png").exists()
    assert own.data.params["space.train_fraction"] == "0.1,0.2,0.5,1"
    assert "training rows" in out and re.search(r"│ +9 │ +0.1 │ +1 │ +0\.\d{4} │", out)
    said = sentence(curves_of(found)[0])
    assert said in out and said.split(":")[0] in own.data.tags["mlflow.note.content"]
    assert json.loads((found.folder / "sweep.json").read_text())["study"]["repeats"] == 1
    status = lab.run("sweep", "action=status", "sweep=last")
    assert status.code == 0 and said in status.out


def test_a_run_on_a_share_is_evaluated_to_the_last_bit(lab: Lab) -> None:
    done = lab.train(*SMALL, "train_fraction=0.4", "threads=1")
    assert done.code == 0 and "36 / 30 / 30 rows" in done.out
    done = lab.run("evaluate", "run=last", "resamples=0")
    assert done.code == 0 and "these figures equal those that the run logged, to the last bit" in done.out
    assert "is not what the run was trained on" not in done.out
