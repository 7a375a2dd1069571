"""Labbook from Python: the notebook runs from its first cell to its last, and gives what the commands give."""

from __future__ import annotations

import re

import nbclient
import nbformat
import numpy as np
import pandas as pd
import pytest

import src
from src.api import list_runs, load_run, train_run
from src.errors import UserError
from tests.conftest import ROOT, Lab

SHORT = ("trainer.max_epochs=1", "threads=1", "tracking.system_metrics=false")


def executed(name: str, lab: Lab, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What each cell of a notebook shows in a real kernel, as text; pictures as their type."""
    for key, value in (lab.env | {"PYTHONPATH": str(ROOT), "JUPYTER_RUNTIME_DIR": str(lab.folder / "kernels")}).items():
        monkeypatch.setenv(key, value)
    notebook = nbformat.read(ROOT / "docs" / name, as_version=4)
    client = nbclient.NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(lab.folder)}})
    client.execute()
    shown = []
    for cell in notebook.cells:
        if cell.cell_type == "code":
            data = [output.get("data", {}) for output in cell.outputs]
            texts = [str(output.get("text", "")) for output in cell.outputs]
            texts += [found.get("text/plain", "") + " ".join(key for key in found if "image" in key) for found in data]
            shown.append("\n".join(texts))
    return shown


def test_the_notebook_runs(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    _, trained, history, table, answers = executed("notebook.ipynb", lab, monkeypatch)
    run = lab.runs()[0]
    assert run.info.run_id in trained and str(run.data.metrics["test/auroc"]) in trained
    assert f"{lab.points(run.info.run_id)['val/loss'][-1][1]:.6f}"[:8] in history
    assert "FINISHED" in table and "predicted" in answers and len(answers.strip().splitlines()) == 6
    assert run.info.run_name == "model=fnn,data=breast_cancer,max_epochs=5,seed=1"


def test_the_notebook_of_an_own_model_runs(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    _, _, trained, answers, table, compared, picture, evaluated = executed("own_model.ipynb", lab, monkeypatch)
    runs = [run for run in lab.runs() if "labbook.job" in run.data.tags or "model.hidden" not in run.info.run_name]
    assert "1,251 parameters" in trained and "Linear(in_features=32, out_features=3" in answers
    assert "9 finished" in table and "mean" in table and "image/png" in picture and "to the last bit" in evaluated
    assert {"2", "8", "32"} <= set(re.findall(r"│ +(\d+) +│", compared)) and len(runs) >= 10
    job = next((lab.folder / "mlruns" / "sweeps").glob("*/jobs/0001/output.txt"))
    assert "1,251 parameters" in job.read_text() or "21 parameters" in job.read_text()


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
