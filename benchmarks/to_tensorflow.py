"""Trained models in TensorFlow and LiteRT: largest difference to Labbook's own predictions, batches of 1, 3 and 64.

    make tensorflow

Each model is trained shortly, exported as `format=savedmodel` and `format=litert`, and run on rows in the range of the
data: by the TensorFlow of `.venv/tensorflow`, and by LiteRT here. Differences are shares of the largest prediction
where that is above 1. Without the two environments nothing is measured.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from src.inference import export, tensorflow
from src.inference.load import load

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
MODELS = ("model=cnn data=digits", "model=fnn data=iris", "model=fnn data=diabetes", "model=autoencoder data=digits")
MODELS += ("model=cnn data=tones", "model=gru data=digits", "model=vit data=digits")
RUN = """
import sys, numpy as np, tensorflow as tf
given = np.load("rows.npz")
net = tf.saved_model.load("net").signatures["serving_default"]
np.savez("found.npz", **{name: net(rows=tf.constant(given[name]))["output_0"].numpy() for name in given})
"""


def litert(file: Path, rows: np.ndarray) -> np.ndarray:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(file))
    interpreter.resize_tensor_input(interpreter.get_input_details()[0]["index"], rows.shape)
    return interpreter.get_signature_runner()(rows=rows)["predictions"]


def command(folder: Path, *words: str) -> str:
    """Run one of the project's commands; return the error that it ended with, or nothing."""
    env = os.environ | {"MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db", "PYTHONPATH": str(ROOT)}
    env["PATH"] = f"{VENV}/onnx2tf/bin{os.pathsep}{env['PATH']}"
    done = subprocess.run([sys.executable, "-m", *words], cwd=folder, env=env, capture_output=True, text=True)
    return done.stderr.strip().splitlines()[-1] if done.returncode else ""


def measured(folder: Path, options: str) -> list[str]:
    """Differences in TensorFlow and in LiteRT, and the seconds of an export; or why there are none."""
    training = ("trainer.max_epochs=5", "tracking.system_metrics=false")
    for entry in (
        ("src.train", *options.split(), *training),
        ("src.export", "run=last", "format=savedmodel", "output=net"),
    ):
        if error := command(folder, *entry):
            return [error.removeprefix("error: ")[:100], "", ""]
    start = time.perf_counter()
    if error := command(folder, "src.export", "run=last", "format=litert"):
        return [error, "", ""]
    seconds = time.perf_counter() - start
    trained = load("last", uri=f"sqlite:///{folder}/mlflow.db", device="cpu")
    answer, example = export._answer(trained)
    batches = {str(count): export._varied(trained.model, example, count) for count in tensorflow.BATCHES}
    np.savez(folder / "rows.npz", **{name: rows.numpy() for name, rows in batches.items()})
    quiet = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"}
    subprocess.run([VENV / "tensorflow" / "bin" / "python", "-c", RUN], cwd=folder, env=quiet, check=True)
    found = np.load(folder / "found.npz")
    worst = {"TensorFlow": 0.0, "LiteRT": 0.0}
    for name, rows in batches.items():
        with torch.no_grad():
            expected = answer(rows).numpy()
        for place, other in (("TensorFlow", found[name]), ("LiteRT", litert(folder / "model.tflite", rows.numpy()))):
            assert other.shape == expected.shape
            difference = np.abs(other - expected).max() / max(1, np.abs(expected).max())
            worst[place] = max(worst[place], float(difference))
    return [*(f"{value:.1e}" for value in worst.values()), f"{seconds:.0f} s"]


def main() -> None:
    console = Console()
    if not (VENV / ".tensorflow").exists():
        console.print("TensorFlow: not measured, `make tensorflow` installs what it takes (4 GB)")
        return
    table = Table("model", "TensorFlow", "LiteRT", "export")
    for options in MODELS:
        with tempfile.TemporaryDirectory(prefix="labbook-bench-") as folder:
            table.add_row(options, *measured(Path(folder), options))
    console.print(table)


if __name__ == "__main__":
    main()
