"""A trained model in other forms gives what `src.predict` gives, also over HTTP from MLflow's own server."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from tests.conftest import Lab

SHORT = ("trainer.max_epochs=1", "threads=1", "tracking.system_metrics=false")
ROWS = ["23,red,2024-01-05,no", "41,blue,2023-11-30,yes", "35,,2024-03-01,yes", ",green,2023-12-24,no"] * 12


@pytest.fixture
def table(lab: Lab) -> Path:
    path = lab.folder / "own.csv"
    path.write_text("age,colour,day,bought\n" + "\n".join(ROWS))
    options = ("data=csv", f"data.path={path}", "data.target=bought", "model=fnn")
    done = lab.train(*options, *SHORT)
    assert done.code == 0, done.err
    return path


def predicted(lab: Lab, path: Path) -> pd.DataFrame:
    done = lab.run("predict", "run=last", f"data.path={path}", "output=answers.csv", "force=true")
    assert done.code == 0, done.err
    return pd.read_csv(lab.folder / "answers.csv")


def test_programs_and_weights_give_the_same_numbers(lab: Lab) -> None:
    runtime = pytest.importorskip("onnxruntime")
    assert lab.train("model=cnn", "data=digits", *SHORT).code == 0
    for form in ("pt2", "onnx", "safetensors"):
        done = lab.run("export", "run=last", f"format={form}")
        assert done.code == 0, done.err
    from src.models.load import load_model

    run = lab.runs()[0].info.run_id
    model = load_model(lab.artifacts(run) / "checkpoints" / "best.ckpt")
    rows = torch.randint(0, 17, (5, 1, 8, 8)).float()
    with torch.no_grad():
        expected = model.predict_step({"input": rows}, 0)
    files: dict[str, str] = {"labbook.json": ""}
    program = torch.export.load(lab.folder / "model.pt2", extra_files=files).module()
    assert torch.equal(program(rows), expected)
    about = json.loads(files["labbook.json"])
    assert about["spec"]["target"]["names"] == [str(i) for i in range(10)] and about["run"] == run
    (answer,) = runtime.InferenceSession(lab.folder / "model.onnx").run(None, {"rows": rows.numpy()})
    np.testing.assert_allclose(answer, expected.numpy(), atol=1e-5)
    from safetensors.torch import load_file

    weights = load_file(lab.folder / "model.safetensors")
    assert all(torch.equal(weights[name], value) for name, value in model.state_dict().items())
    assert len(weights) == len(model.state_dict())


class Served:
    """`mlflow models serve` on loopback."""

    def __init__(self, lab: Lab, uri: str) -> None:
        with socket.socket() as found:
            found.bind(("127.0.0.1", 0))
            self.port = found.getsockname()[1]
        command = [str(Path(sys.executable).parent / "mlflow"), "models", "serve", "-m", uri, "--env-manager", "local"]
        env = os.environ | lab.env | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
        env |= {"MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false"}
        self.log = lab.folder / "serve.log"
        with self.log.open("w") as output:
            options = {"cwd": lab.folder, "env": env, "stdout": output, "stderr": output, "start_new_session": True}
            self.process = subprocess.Popen([*command, "--port", str(self.port), "--workers", "1"], **options)
        end = time.monotonic() + 180
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{self.port}/ping", timeout=1).close()
                return
            except OSError:
                assert self.process.poll() is None and time.monotonic() < end, self.log.read_text()
                time.sleep(0.1)

    def ask(self, rows: dict) -> pd.DataFrame:
        address = f"http://127.0.0.1:{self.port}/invocations"
        request = urllib.request.Request(address, json.dumps(rows).encode(), {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=60) as answer:
            return pd.DataFrame(json.load(answer)["predictions"])

    def stop(self) -> None:
        os.killpg(self.process.pid, 15)
        self.process.wait(30)


@pytest.mark.slow
def test_mlflow_serves_a_table_with_the_probabilities_of_predict(lab: Lab, table: Path) -> None:
    expected = predicted(lab, table)
    done = lab.run("export", "run=last", "format=mlflow", "register=buyers", "alias=champion")
    assert done.code == 0, done.err
    assert "models:/buyers@champion" in done.out and "Warning" not in done.err
    (model,) = lab.client.search_logged_models(["1"])  # the one that the run's end made known
    assert "mlflow.model.isExternal" not in model.tags
    folder = next((lab.folder / "mlruns").rglob("MLmodel")).parent
    assert not [path for path in folder.rglob("*") if path.suffix in (".pkl", ".pickle", ".pth")]
    served = Served(lab, "models:/buyers@champion")
    try:
        rows = pd.read_csv(table).drop(columns="bought").head(7)
        plain = json.loads(rows.to_json(orient="split", index=False))
        found = served.ask({"dataframe_split": plain})
        one = served.ask({"dataframe_split": plain | {"data": plain["data"][:1]}})
    finally:
        served.stop()
    assert list(found["predicted"]) == list(expected["predicted"][:7]) and set(found["predicted"]) <= {"no", "yes"}
    assert found["P(yes)"].to_numpy() == pytest.approx(expected["P(yes)"][:7].to_numpy(), abs=1e-6)
    assert one["P(yes)"][0] == pytest.approx(expected["P(yes)"][0], abs=1e-6)
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    done = lab.run("export", "run=last", "format=mlflow", "register=buyers")
    assert done.code == 0, done.err
    first, second = sorted(lab.client.search_model_versions("name = 'buyers'"), key=lambda one: int(one.version))
    assert first.source != second.source and first.run_id == second.run_id  # what is registered stays as it was
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
    done = lab.run("runs", "delete", "last")
    assert done.code == 2 and "registered model buyers was made from it" in done.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run=last", "format=onx"], "format: onx is not known (did you mean onnx?)"),
        (["run=last", "register=x"], "register and alias are for format=mlflow, which the registry takes"),
        (["run=last", "format=mlflow", "alias=x"], "alias: of which registered model? register=NAME"),
        (["run=last", "format=mlflow", "output=x"], "output=x: an MLflow model lies in its run"),
        (["run=last"], "no runs yet"),
        (["run=none.ckpt"], "{folder}/none.ckpt: No such file or directory"),
        ([], "run: "),
    ],
)
def test_an_export_that_cannot_be_is_one_line(lab: Lab, arguments, message) -> None:
    done = lab.run("export", *arguments)
    expected = f"error: {message.format(folder=lab.folder)}"
    assert done.code == 2 and done.err.startswith(expected) and len(done.err.splitlines()) == 1, done.err


def test_what_writes_has_no_single_graph(lab: Lab) -> None:
    assert lab.train("model=gpt", "trainer.limit_train_batches=2", "trainer.limit_val_batches=1", *SHORT).code == 0
    done = lab.run("export", "run=last")
    assert done.code == 2 and "the task causal_lm is more than one pass of the net" in done.err
    assert lab.run("export", "run=last", "format=safetensors").code == 0
    done = lab.run("export", "run=last", "format=safetensors")
    assert done.code == 2 and "model.safetensors exists: give another name, or force=true to write over it" in done.err
