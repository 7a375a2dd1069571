"""A model leaves for TensorFlow.

The stored file is what onnx2tf 1.29.24 made of the CNN whose checkpoint lies beside it: `model=cnn data=digits seed=1`.
The converter itself, 2.6 GB with TensorFlow, runs where `make tensorflow` put it.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from src.data import Digits
from src.errors import UserError
from src.inference import tensorflow
from src.models.load import load_model
from tests.conftest import ROOT, Lab

FILES = ROOT / "tests" / "fixtures" / "litert"
ONNX2TF = ROOT / ".venv" / "onnx2tf" / "bin"
PAGE = ROOT / "docs" / "how-to" / "export-to-tensorflow.md"
PROGRAM = shutil.which("onnx2tf", path=f"{ONNX2TF}{os.pathsep}{os.environ['PATH']}")
converter = pytest.mark.skipif(PROGRAM is None, reason="no onnx2tf: `make tensorflow` installs it")


@pytest.fixture(scope="module", autouse=True)
def runtime() -> None:
    pytest.importorskip("ai_edge_litert", reason="the extra `litert`")


@pytest.fixture(scope="module")
def digits() -> tuple[Tensor, Tensor]:
    data = Digits()
    data.setup()
    rows = data.splits["test"]
    return rows["input"].float(), rows["target"]


def answers(file: Path, rows: Tensor) -> np.ndarray:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(file))
    interpreter.resize_tensor_input(interpreter.get_input_details()[0]["index"], rows.shape)
    runner = interpreter.get_signature_runner()
    return runner(rows=rows.numpy())["predictions"]


def program(folder: Path, text: str) -> dict[str, str]:
    """An environment in which `onnx2tf` is a script of the shell."""
    path = folder / "bin" / "onnx2tf"
    path.parent.mkdir()
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return {"PATH": f"{path.parent}{os.pathsep}{os.environ['PATH']}"}


def test_litert_gives_what_the_checkpoint_gives_for_any_number_of_rows(digits: tuple[Tensor, Tensor]) -> None:
    rows, target = digits
    model = load_model(FILES / "cnn.ckpt")
    with torch.no_grad():
        expected = model.predict_step({"input": rows}, 0).numpy()
    for count in (1, 3, 64, len(rows)):
        np.testing.assert_allclose(answers(FILES / "cnn.tflite", rows[:count]), expected[:count], atol=1e-6)
    assert (answers(FILES / "cnn.tflite", rows).argmax(1) == target.numpy()).mean() > 0.98
    about = json.loads(zipfile.ZipFile(FILES / "cnn.tflite").read("labbook.json"))
    assert about["spec"]["target"]["names"] == [str(digit) for digit in range(10)]


def test_the_documented_lines_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    block = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)[0]
    shutil.copy(FILES / "cnn.tflite", tmp_path / "model.tflite")
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    exec(compile(block, PAGE.name, "exec"), names)
    assert np.shape(names["predictions"]) == (3, 10) and names["names"] == [str(digit) for digit in range(10)]


class Other(nn.Module):
    """Answers that are no model's."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.classes = classes

    def forward(self, rows: Tensor) -> Tensor:
        return torch.full((len(rows), self.classes), 1 / self.classes)


@pytest.mark.parametrize(("classes", "message"), [(10, "wrongly: answers differ by"), (9, "1 rows give (1, 10), not")])
def test_other_answers_are_refused(classes: int, message: str, digits: tuple[Tensor, Tensor]) -> None:
    with pytest.raises(UserError, match=re.escape(message)):
        tensorflow.check(FILES / "cnn.tflite", Other(classes), lambda count: digits[0][:count])


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        # of 1.29.24, then of 2.6.9, for a GRU
        (
            "ValueError: no such state\n\x1b[31mERROR:\x1b[0m onnx_op_name: node_gru__1",
            "at node_gru__1, ValueError: no",
        ),
        (
            "a.b.NodeError: W\nNotImplementedError: failed: op=GRU node=n_1 W",
            "at n_1, NotImplementedError: failed: op=GRU",
        ),
        ("killed", "killed"),
        ("", "no message"),
    ],
)
def test_what_the_converter_cannot_do_is_named(tmp_path: Path, lines: str, reason: str) -> None:
    program(tmp_path, f"printf '%b' '{lines}'; exit 1")
    with pytest.raises(UserError, match=rf"^onnx2tf cannot convert this model: {re.escape(reason)}"):
        tensorflow.convert(str(tmp_path / "bin" / "onnx2tf"), tmp_path / "model.onnx", True)


def test_the_command_writes_what_the_converter_made(lab: Lab) -> None:
    pytest.importorskip("onnxscript")
    with zipfile.ZipFile(FILES / "cnn.tflite") as archive:
        size = archive.infolist()[0].header_offset
    copy = f'[ "$*" = "-i model.onnx -o converted -n -k rows" ] && mkdir converted && head -c {size} {FILES}/cnn.tflite'
    env = program(lab.folder, f"{copy} > converted/model_float32.tflite")
    command = ("export", f"run={FILES}/cnn.ckpt")
    done = lab.run(*command, "format=litert", env=env)
    assert done.code == 0 and "model.tflite (0.1 MB)" in done.out, done.err
    assert (lab.folder / "model.tflite").read_bytes()[:size] == (FILES / "cnn.tflite").read_bytes()[:size]
    assert zipfile.ZipFile(lab.folder / "model.tflite").namelist() == ["labbook.json"]
    done = lab.run(*command, "format=savedmodel", env=env)
    assert done.code == 2 and "this version of onnx2tf writes LiteRT files only" in done.err
    done = lab.run(*command, "format=savedmodel", env={"PATH": ""})
    assert (done.code, done.err.count("\n")) == (2, 1) and "needs the program onnx2tf" in done.err
    (lab.folder / "mine").mkdir()
    done = lab.run(*command, "format=savedmodel", "output=mine", "force=true", env=env)
    assert done.code == 2 and "output=" in done.err and "not one that an export wrote" in done.err
    assert sorted(path.name for path in lab.folder.iterdir() if path.is_dir()) == [
        "bin",
        "mine",
    ]  # nothing half-written


@converter
@pytest.mark.slow
def test_trained_models_through_the_converter(lab: Lab) -> None:
    assert PROGRAM is not None
    env = {"PATH": f"{Path(PROGRAM).parent}{os.pathsep}{os.environ['PATH']}"}
    for options in (("model=cnn", "data=digits"), ("model=fnn", "data=iris"), ("model=cnn", "data=tones")):
        assert lab.train(*options, "trainer.max_epochs=1", "tracking.system_metrics=false").code == 0
        done = lab.run("export", "run=last", "format=litert", "force=true", env=env)
        assert done.code == 0, done.err
        model = load_model(lab.artifacts(lab.runs()[0].info.run_id) / "checkpoints" / "best.ckpt")
        rows = torch.rand(7, *model.spec.input_shape)
        with torch.no_grad():
            expected = model.predict_step({"input": rows}, 0).numpy()
        np.testing.assert_allclose(answers(lab.folder / "model.tflite", rows), expected, atol=1e-4)
    for options in ((), ("force=true",)):
        done = lab.run("export", f"run={FILES}/cnn.ckpt", "format=savedmodel", "output=net", *options, env=env)
        assert done.code == 0, done.err
    assert {"saved_model.pb", "variables", "assets.extra"} <= {path.name for path in (lab.folder / "net").iterdir()}
    assert not list((lab.folder / "net").glob("*.tflite"))
    assert lab.train("model=gru", "data=digits", "trainer.max_epochs=1", "tracking.system_metrics=false").code == 0
    done = lab.run("export", "run=last", "format=litert", "output=gru.tflite", env=env)
    assert done.code == 2 and "onnx2tf cannot convert this model: at node_gru" in done.err
    assert not (lab.folder / "gru.tflite").exists()
