"""Export to TensorFlow: an ONNX graph through onnx2tf, compared in LiteRT with the model's own answers.

onnx2tf asks for exact versions of its packages, others than ours, so it is a program in an environment of its own.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from src.errors import UserError
from src.runtime import optional

PROGRAM = "onnx2tf"
INSTALL = "uv tool install --python 3.11 'onnx2tf<2' (or the same with pipx)"
LITERT = "model_float32.tflite"
GRAPH = "saved_model.pb"
BATCHES = (1, 3, 64)
TOLERANCE = 1e-4  # of the largest answer, where that is above 1


def require() -> str:
    """Path of the converter.

    Raises:
        UserError: it is missing, or what runs its files is.
    """
    optional.require("ai_edge_litert", f"install the extra `litert`, {optional.extra('litert')}", for_="this format")
    program = shutil.which(PROGRAM)
    if program is None:
        raise UserError(f"this format needs the program {PROGRAM} in an environment of its own: {INSTALL}")
    return program


def convert(program: str, graph: Path, channels_first: bool) -> Path:
    """Convert `model.onnx`; return the folder of the results.

    Args:
        channels_first: rows have axes that TensorFlow has in another order; they are taken as they are here.

    Raises:
        UserError: an operator that the converter does not know, or not for any number of rows.
    """
    folder = graph.with_name("converted")
    names = ["-k", "rows"] if channels_first else []
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    # its helper programs lie beside it, and a tool's own folder is on nobody's path
    environment["PATH"] = f"{Path(program).resolve().parent}{os.pathsep}{os.environ.get('PATH', '')}"
    command = [program, "-i", graph.name, "-o", folder.name, "-n", *names]
    done = subprocess.run(
        command,
        cwd=graph.parent,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
    )
    if done.returncode or not (folder / LITERT).is_file():
        raise UserError(f"{PROGRAM} cannot convert this model: {_reason(done.stdout)}")
    return folder


def _reason(log: str) -> str:
    """The operator that the converter names, if it does, and its last error."""
    node = re.search(r"onnx_op_name: (\S+)", log) or re.search(r"\bnode=(\S+)", log)
    errors = re.findall(r"^(?:\w+\.)*\w*Error: .*", log, flags=re.MULTILINE) or log.splitlines()[-1:] or ["no message"]
    return f"{f'at {node[1]}, ' if node else ''}{errors[-1].strip()}"


def check(file: Path, answer: nn.Module, rows: Callable[[int], Tensor]) -> None:
    """Compare a file's answers with the model's, for batches of several sizes.

    Args:
        rows: gives so many rows of input.

    Raises:
        UserError: they differ, or the file takes only batches of one size.
    """
    from ai_edge_litert.interpreter import Interpreter  # noqa: PLC0415 - an extra

    interpreter = Interpreter(str(file))
    (taken,), (given,) = interpreter.get_input_details(), interpreter.get_output_details()
    for count in BATCHES:
        batch = rows(count)
        with torch.no_grad():
            expected = answer(batch).numpy()
        try:
            interpreter.resize_tensor_input(taken["index"], batch.shape)
            interpreter.allocate_tensors()
            interpreter.set_tensor(taken["index"], batch.numpy().astype(taken["dtype"]))
            interpreter.invoke()
        except (RuntimeError, ValueError) as error:
            reason = str(error).strip().splitlines()[-1]
            raise UserError(f"{PROGRAM} converted this model, but not for {count} rows: {reason}") from None
        found = interpreter.get_tensor(given["index"])
        if found.shape != expected.shape:
            raise UserError(
                f"{PROGRAM} converted this model, but {count} rows give {found.shape}, not {expected.shape}"
            )
        difference = np.abs(found - expected).max() / max(1, np.abs(expected).max())
        if not difference <= TOLERANCE:
            raise UserError(f"{PROGRAM} converted this model wrongly: answers differ by {difference:.1g}")


def save_litert(folder: Path, path: Path, name: str, about: str) -> None:
    """Write one file for LiteRT. As TensorFlow's own metadata is, the description is a zip archive at its end."""
    shutil.copyfile(folder / LITERT, path)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(name, about)


def save_model(folder: Path, path: Path, name: str, about: str) -> None:
    """Write a SavedModel, with the description in its `assets.extra`.

    Raises:
        UserError: a converter that writes none.
    """
    if not (folder / GRAPH).is_file():
        raise UserError(f"format=savedmodel: this version of {PROGRAM} writes LiteRT files only: {INSTALL}")
    shutil.copytree(folder, path, ignore=shutil.ignore_patterns("*.tflite"))
    (path / "assets.extra").mkdir()
    (path / "assets.extra" / name).write_text(about, encoding="utf-8")
