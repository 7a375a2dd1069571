"""Comparing tracked runs: groups, figures, files and pages, on SQLite and on a real server."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from mlflow import MlflowClient
from mlflow.entities import Metric, Param
from scipy import stats

from src import tracking
from src.comparison.groups import groups
from src.comparison.leaderboard import leaderboard
from src.errors import UserError
from src.metrics.modes import TAG
from src.tracking import store
from tests.conftest import Lab
from tests.tracking.test_server import Server

# by width and learning rate, test accuracies of seeds 1, 2, 3
FIGURES = {
    ("64", "0.01"): (0.95, 0.97, 0.96),
    ("64", "0.1"): (0.90, 0.93, 0.91),
    ("8", "0.01"): (0.70, 0.75, 0.71),
}
COMMON = {"model._target_": "src.models.FNN", "data._target_": "src.data.Digits", "trainer.max_epochs": "5"}


def add(client: MlflowClient, experiment: str, params: dict, metrics: dict, status="FINISHED", tags=None) -> str:
    run = client.create_run(experiment, tags={"labbook.monitor": "val/accuracy"} | (tags or {})).info.run_id
    now = int(time.time() * 1000)
    points = [Metric(key, value, now, 0) for key, value in metrics.items()]
    client.log_batch(run, points, [Param(key, str(value)) for key, value in params.items()])
    client.set_terminated(run, status)
    return run


def fill(uri: str, folder: Path) -> dict[tuple[str, str, int], str]:
    """Three groups of three seeds, one run that failed, and a sweep's own run."""
    where = store.resolve(uri)
    client = store.connect(where)
    experiment = store.experiment_id(where, client, "labbook")
    found = {}
    for (width, lr), values in FIGURES.items():
        for seed, value in enumerate(values, start=1):
            params = COMMON | {"model.width": width, "optimizer.lr": lr, "seed": str(seed), "data.seed": str(seed)}
            metrics = {"test/accuracy": value, "val/accuracy": value, "val/accuracy_best": value + 0.01}
            metrics |= {"baseline/accuracy": 0.1, "cost/parameters": int(width) * 100.0, "cost/seconds": 2.0 + seed}
            params |= {"tags": f"{seed}", "n_jobs": width}  # how it was run, not what it is
            found[width, lr, seed] = add(client, experiment, params, metrics, tags={"purpose": f"w{width}"})
    params = COMMON | {"model.width": "64", "optimizer.lr": "9", "seed": "1"}
    add(client, experiment, params, {"val/accuracy": float("nan")}, status="FAILED")
    add(client, experiment, {}, {"jobs": 9.0}, tags={"labbook.kind": "sweep"})
    return found


@pytest.fixture(scope="module")
def shared(tmp_path_factory) -> tuple[str, dict[tuple[str, str, int], str]]:
    """A store that no test changes, and its runs."""
    folder = tmp_path_factory.mktemp("shared")
    uri = Lab(folder).uri
    return uri, fill(uri, folder)


@pytest.fixture
def filled(lab: Lab, shared) -> dict[tuple[str, str, int], str]:
    """Runs of the shared store, which the commands of this test find while they write into a folder of its own."""
    lab.uri, found = shared
    lab.env["MLFLOW_TRACKING_URI"] = lab.uri
    return found


def compared(lab: Lab, *arguments: str) -> pd.DataFrame:
    done = lab.run("compare", *arguments, "format=csv")
    assert done.code == 0, done.err
    return pd.read_csv(io.StringIO(done.out))


def test_groups_are_what_differs_in_its_seed_only(lab: Lab, filled) -> None:
    board = leaderboard(tracking.table(lab.uri, constants=False))
    assert board.metric == "test/accuracy" and board.settings == ["model.width", "optimizer.lr"]
    names = [row.group.name for row in board.rows]
    assert names == [
        "model.width=64 optimizer.lr=0.01",
        "model.width=64 optimizer.lr=0.1",
        "model.width=8 optimizer.lr=0.01",
        "baseline",
    ]
    assert board.left_out == {"FAILED": 1}
    for row, values in zip(board.rows, FIGURES.values(), strict=False):
        assert row.n == 3 and row.mean == pytest.approx(sum(values) / 3)
        assert row.interval == pytest.approx(stats.t.interval(0.95, 2, row.mean, stats.sem(values)))
    values = [*FIGURES.values(), (0.1, 0.1, 0.1)]
    pairs = sorted((stats.ttest_rel(values[i], values[j]).pvalue, i, j) for j in range(4) for i in range(j))
    stepped = np.maximum.accumulate([p * (len(pairs) - i) for i, (p, *_) in enumerate(pairs)])  # Holm's, by hand
    expected = {j: p for p, (_, i, j) in zip(stepped, pairs, strict=True) if i == 0}
    assert [row.p for row in board.rows[1:]] == pytest.approx([expected[j] for j in (1, 2, 3)])
    assert [row.pareto for row in board.rows] == [True, False, True, False]
    assert set(board.rows[0].group.runs) == {filled["64", "0.01", seed] for seed in (1, 2, 3)}


def test_settings_that_are_asked_for_make_the_rows(lab: Lab, filled) -> None:
    frame = compared(lab, "by=model.width", "metric=val/accuracy_best")
    assert list(frame["model.width"]) == [64, 8] and list(frame["n"]) == [
        3,
        3,
    ]  # of a seed that was run twice the newest
    done = lab.run("compare", "by=model.width")
    assert "runs within a row differ in optimizer.lr" in done.out and "left out: 1 FAILED" in done.out
    frame = compared(lab, "filter=tags.purpose = 'w8'")
    assert list(frame["group"]) == ["all runs", "baseline"]
    some = [filled["64", "0.01", 1], filled["8", "0.01", 1], filled["8", "0.01", 2]]
    assert list(compared(lab, f"runs=[{','.join(one[:12] for one in some)}]")["n"]) == [1, 2, 2]


def test_settings_of_one_class_do_not_set_apart_two_classes() -> None:
    rows = []
    for model, own in (("A", {"params.model.depth": "2"}), ("B", {"params.model.heads": "4"})):
        for seed in "12":
            for lr in ("1", "2"):
                row = {
                    "params.model._target_": f"x.{model}",
                    "params.seed": seed,
                    "params.lr": lr,
                    "metrics.val/f1": 0.5,
                }
                rows.append(row | own)
    found, pooled = groups(pd.DataFrame(rows), "val/f1")
    assert [dict(group.settings) for group in found] == [
        {"model": model, "lr": lr} for model, lr in (("a", "1"), ("a", "2"), ("b", "1"), ("b", "2"))
    ]
    assert pooled == []


def test_a_comparison_as_files(lab: Lab, filled) -> None:
    for name in ("c.csv", "c.json", "c.md", "c.html"):
        done = lab.run("compare", f"output={lab.folder}/{name}")
        assert done.code == 0, done.err
    assert list(pd.read_csv(lab.folder / "c.csv")["mean"]) == pytest.approx([0.96, 0.91333333, 0.72, 0.1])
    assert [row["n"] for row in json.loads((lab.folder / "c.json").read_text())] == [3] * 4
    assert (lab.folder / "c.md").read_text().startswith("| model.width | optimizer.lr | n | test/accuracy |")
    done = lab.run("compare", f"output={lab.folder}/c.csv")
    assert done.code == 2 and "c.csv exists: give another name, or force=true to write over it" in done.err


@pytest.mark.skipif(shutil.which("chromium") is None, reason="no headless browser: apt-get install chromium")
def test_the_page_sorts_and_shows_its_pictures_in_a_browser(lab: Lab, filled) -> None:
    page = lab.folder / "c.html"
    assert lab.run("compare", f"output={page}").code == 0
    text = page.read_text()
    assert "http://" not in text.replace("http://www.w3.org", "") and "https://" not in text  # needs nothing beside it
    click = "<script>document.querySelectorAll('th')[3].click()</script></body>"  # by the metric, the least first
    page.write_text(text.replace("</body>", click))
    command = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={lab.folder}/browser"]
    done = subprocess.run([*command, "--dump-dom", f"file://{page}"], capture_output=True, text=True, timeout=120)
    body = done.stdout[done.stdout.index("<tbody>") : done.stdout.index("</tbody>")]
    found = [body.index(value) for value in (">0.1000 ± 0<", ">0.7200 ± ", ">0.9133 ± ", ">0.9600 ± ")]
    assert found == sorted(found)
    # the runs have one value each: no curves, but cost and parallel coordinates
    assert done.stdout.count("<svg") == 2 and "test/accuracy by all settings" in done.stdout
    shot = lab.folder / "c.png"
    subprocess.run([*command, f"--screenshot={shot}", f"file://{page}"], capture_output=True, timeout=120)
    assert shot.stat().st_size > 10_000


@pytest.mark.slow
def test_on_a_server_it_is_the_same(lab: Lab, filled, tmp_path) -> None:
    server = Server(tmp_path)
    server.start()
    try:
        fill(server.uri, tmp_path)
        here, there = (leaderboard(tracking.table(uri, constants=False)) for uri in (lab.uri, server.uri))
        columns = ["model.width", "optimizer.lr", "n", "mean", "std", "low", "high", "p", "seconds", "parameters"]
        pd.testing.assert_frame_equal(here.frame()[columns], there.frame()[columns])
        assert there.left_out == here.left_out
        run = there.rows[0].group.runs[0]
        assert list(tracking.points(server.uri, [run], "test/accuracy")[run]["value"]) == [0.96]
    finally:
        server.stop()


def test_how_two_runs_differ(lab: Lab) -> None:
    for arguments in (["model.width=8", "seed=1"], ["model.width=16", "seed=1", "tags.note=x"]):
        assert lab.train("model=fnn", "data=iris", "trainer.max_epochs=1", *arguments).code == 0
    other, one = (run.info.run_id for run in lab.runs())
    done = lab.run("compare", f"runs=[{one[:10]},{other[:10]}]", "format=json")
    assert done.code == 0, done.err
    found = {(line["kind"], line["what"]): (line["one"], line["other"]) for line in json.loads(done.out)["differences"]}
    assert found["setting", "model.width"] == ("8", "16") and ("bookkeeping", "tags.note") in found
    assert ("metric", "test/loss") in found and ("cost", "cost/parameters") in found
    assert not {kind for kind, _ in found} & {"code", "data", "environment", "machine"}
    assert next(iter(found)) == ("setting", "model.width")
    done = lab.run("compare", f"runs=[{one},{other}]")
    assert "the figures differ, and so do settings" in done.out
    assert "the same figures" in lab.run("compare", f"runs=[{one},{one}]").out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["metric=test/accurac"], "metric=test/accurac: no run has it (did you mean test/accuracy?)"),
        (["by=model.widht"], "by=model.widht: no run has such a setting (did you mean model.width?)"),
        (["sweep=last", "filter=x"], "sweep and filter: give one of them"),
        (["sweep=nothing"], "sweep=nothing: there are no such runs"),
        (["filter=metrics.loss >"], "tracking store"),
        (["runs=[zzz]"], "run 'zzz' is not in"),
        (["level=95"], "level=95: between 0 and 1, such as 0.95"),
        (["format=html"], "format=html: give a file, output=comparison.html"),
        (["output=x.pdf"], "output=x.pdf: ends in .csv, .json, .md, .html, or give the format"),
        (["output=nowhere/x.csv"], "output=nowhere/x.csv: there is no folder nowhere"),
        (["format=xml"], "format: expects one of table, csv, json, markdown, html or null, got 'xml'"),
        (["metrik=test/accuracy"], "metrik: unknown option (did you mean metric?)"),
    ],
)
def test_a_comparison_that_cannot_be_is_one_line(lab: Lab, filled, arguments, message) -> None:
    done = lab.run("compare", *arguments)
    assert done.code == 2 and len(done.err.strip().splitlines()) == 1, done.err
    assert done.err.startswith(f"error: {message}"), done.err


def test_nothing_to_compare(lab: Lab) -> None:
    done = lab.run("compare")
    assert done.code == 2 and "no runs yet" in done.err
    with pytest.raises(UserError, match="no runs to compare"):
        leaderboard(pd.DataFrame({"status": []}))


def test_a_metric_of_ones_own_is_compared_by_the_mode_that_its_runs_recorded(lab: Lab) -> None:
    where = store.resolve(lab.uri)
    client = store.connect(where)
    experiment = store.experiment_id(where, client, "labbook")
    own = {TAG: json.dumps({"brier": "min"})}
    found = {}
    for width, value in (("8", 0.3), ("64", 0.1)):
        metrics = {"test/brier": value, "val/brier_best": value}
        found[width] = add(client, experiment, COMMON | {"model.width": width, "seed": "1"}, metrics, tags=own)
    board = leaderboard(tracking.table(lab.uri, constants=False), "test/brier")
    assert board.direction == "min" and [row.group.name for row in board.rows] == ["model.width=64", "model.width=8"]
    for metric in ("test/brier", "val/brier"):
        assert tracking.find_run(f"best:{metric}", uri=lab.uri).id == found["64"]
    for metric in ("test/brie", "test/%", "test/it's"):
        with pytest.raises(UserError, match="is no metric of a task"):
            tracking.find_run(f"best:{metric}", uri=lab.uri)


def test_runs_of_before_and_after_a_move_are_one_group(lab: Lab) -> None:
    where = store.resolve(lab.uri)
    client = store.connect(where)
    experiment = store.experiment_id(where, client, "labbook")
    before = {"model._target_": "src.models.fnn.FNN", "data._target_": "src.data.images.Digits"}
    before |= {"data.unseen_classes": "2", "texts": "4"}
    after = {"model._target_": "src.models.FNN", "data._target_": "src.data.Digits"}
    after |= {"data.held_out_classes": "2", "log_texts": "4", "callbacks": "{}"}
    for seed, params in enumerate((before, after, after)):
        add(client, experiment, params | {"model.width": "8", "seed": str(seed)}, {"test/accuracy": 0.5 + seed / 10})
    add(client, experiment, after | {"model.width": "64", "seed": "0"}, {"test/accuracy": 0.9})
    board = leaderboard(tracking.table(lab.uri, constants=False), "test/accuracy")
    assert board.settings == ["model.width"] and board.pooled == [] and [row.n for row in board.rows] == [1, 3]
