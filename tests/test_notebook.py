"""Labbook from Python: the notebook runs from its first cell to its last, and gives what the commands give."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

import src
from src.api import list_runs, load_run, train_run
from src.errors import UserError
from tests.conftest import ROOT, Lab

SHORT = ("trainer.max_epochs=1", "threads=1", "tracking.system_metrics=false")


def test_the_notebook_runs(lab: Lab) -> None:
    cells = json.loads((ROOT / "docs" / "notebook.ipynb").read_text())["cells"]
    code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    # what a notebook shows of a cell is its last expression
    shown = f"import ast\nfor cell in {code!r}:\n    tree = ast.parse(cell)\n    last = tree.body[-1]\n"
    shown += "    value = isinstance(last, ast.Expr) and tree.body.pop() and ast.Expression(last.value)\n"
    shown += "    exec(compile(tree, 'cell', 'exec'))\n"
    shown += "    if value: print('>>>', eval(compile(value, 'cell', 'eval')), sep='\\n')\n"
    env = os.environ | lab.env | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", shown], cwd=lab.folder, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    _, trained, history, table, answers = done.stdout.split(">>>")
    run = lab.runs()[0]
    assert run.info.run_id in trained and str(run.data.metrics["test/auroc"]) in trained
    assert f"{lab.points(run.info.run_id)['val/loss'][-1][1]:.6f}"[:8] in history
    assert "FINISHED" in table and "predicted" in answers and len(answers.strip().splitlines()) == 6
    assert run.info.run_name == "model=fnn,data=breast_cancer,max_epochs=5,seed=1"


def test_a_loaded_run_answers_as_the_command_does(lab: Lab) -> None:
    table = pd.DataFrame({"a": [1.5, None, 3.0, 4.0] * 10, "b": ["x", "y", None, "z"] * 10, "c": ["no", "yes"] * 20})
    table.to_csv(lab.folder / "own.csv", index=False)
    assert lab.train("model=fnn", "data=csv", f"data.path={lab.folder}/own.csv", "data.target=c", *SHORT).code == 0
    assert lab.run("predict", "run=last", f"data.path={lab.folder}/own.csv").code == 0
    expected = pd.read_csv(lab.folder / "predictions.csv")
    run = load_run("last", uri=lab.uri)
    answers = run.predict(table.drop(columns="c"))
    assert list(answers["predicted"]) == list(expected["predicted"])
    assert answers["P(yes)"].to_numpy() == pytest.approx(expected["P(yes)"].to_numpy())
    assert run.metrics["test/loss"] == lab.runs()[0].data.metrics["test/loss"]
    with pytest.raises(UserError, match="has no column a"):
        run.predict(table[["b"]])
    with pytest.raises(UserError, match="has no metric val/nothing"):
        run.history("val/nothing")
    with pytest.raises(UserError, match="run 'zzz' is not in"):
        load_run("zzz", uri=lab.uri)


def test_pictures_are_arrays(lab: Lab) -> None:
    assert lab.train("model=cnn", "data=digits", *SHORT).code == 0
    pictures = np.random.default_rng(0).integers(0, 17, (3, 1, 8, 8)).astype(np.float32)
    answers = load_run("last", uri=lab.uri).predict(pictures)
    assert len(answers) == 3 and answers.filter(like="P(").sum(axis=1).to_numpy() == pytest.approx(1)


def test_the_names_of_before_are_still_there_and_say_what_to_import() -> None:
    for old, new in {"train": train_run, "runs": list_runs, "load_run": load_run}.items():
        vars(src).pop(old, None)  # the module of that name, where a test has imported it
        with pytest.warns(DeprecationWarning, match=rf"^src\.{old}: import {new.__name__} from src\.api instead$"):
            assert getattr(src, old) is new
    assert not src.__all__
    with pytest.raises(AttributeError, match="module 'src' has no attribute 'nothing'"):
        _ = src.nothing
