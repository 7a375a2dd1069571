"""Whole commands: from start to first step beside importing the libraries, and the beginner's example beside Keras 3.

    python benchmarks/process.py

Each figure is one fresh process. The Keras example is what its first tutorials show, without validation, test, pictures
or tracking, all of which Labbook's run has. `make bench` installs Keras and JAX, its fastest backend here, into an
environment of their own, .venv/bench. Fit time is what `fit` takes, compilation included.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

from _rounds import PROJECT, Column, alternate, show

PEERS = PROJECT / ".venv" / "bench" / "bin" / "python"
SCRATCH = Path(tempfile.mkdtemp(prefix="labbook-bench-"))

SPY = """
import time
from src.models.fnn import FNN

class Spy(FNN):
    def training_step(self, batch, batch_idx):
        if self.trainer.global_step == 0:
            print("first", time.monotonic(), time.process_time(), flush=True)
        return super().training_step(batch, batch_idx)

    def on_train_start(self):
        self.began = time.monotonic()
        super().on_train_start()

    def on_train_end(self):
        print("fit", time.monotonic() - self.began, flush=True)
"""

KERAS = """
import time
import numpy as np
import keras

random = np.random.default_rng(0)
x, y = random.random((1000, 20), dtype="float32"), random.integers(0, 2, 1000)
model = keras.Sequential([
    keras.Input((20,)),
    keras.layers.Dense(64, activation="relu"),
    keras.layers.Dense(32, activation="relu"),
    keras.layers.Dense(1, activation="sigmoid"),
])
model.compile(optimizer=keras.optimizers.Adam(0.001), loss="binary_crossentropy", metrics=["accuracy"])
began = time.monotonic()
model.fit(x, y, epochs=20, batch_size=32, verbose=0)
print("fit", time.monotonic() - began, flush=True)
model.predict(random.random((5, 20), dtype="float32"), verbose=0)
"""


def process(
    *arguments: str, env: dict[str, str] | None = None, python: str | Path = sys.executable
) -> dict[str, float]:
    """Wall and CPU seconds of a Python process, and what it printed about itself."""
    began = time.monotonic()
    child = subprocess.Popen(
        [python, *arguments], cwd=PROJECT, env=os.environ | (env or {}), stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    lines = [line.split() for line in child.stdout]
    _, status, usage = os.wait4(child.pid, 0)
    if status:
        raise SystemExit(f"{' '.join(arguments)[:80]} ended with {status}")
    figures = {"wall": time.monotonic() - began, "cpu": usage.ru_utime + usage.ru_stime}
    for word, *numbers in filter(None, lines):
        if word == "first":
            figures |= {"first_wall": float(numbers[0]) - began, "first_cpu": float(numbers[1])}
        elif word == "fit":
            figures["fit"] = float(numbers[0])
    return figures


def train(*overrides: str) -> dict[str, float]:
    env = {"PYTHONPATH": str(SCRATCH), "MLFLOW_TRACKING_URI": f"sqlite:///{SCRATCH}/mlflow.db"}
    return process("-m", "src.train", "model._target_=spying.Spy", *overrides, env=env)


def first_step() -> dict[str, float]:
    figures = train("model=fnn", "trainer.max_epochs=1")
    return {"wall": figures["first_wall"], "cpu": figures["first_cpu"]}


def keras(backend: str) -> dict[str, float]:
    return process("-c", KERAS, env={"KERAS_BACKEND": backend}, python=PEERS)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    (SCRATCH / "spying.py").write_text(SPY)
    seconds = {"wall": Column("wall, s", ".2f"), "cpu": Column("CPU, s", ".2f")}
    starts = {
        "import torch, pytorch_lightning": lambda: process("-c", "import torch, pytorch_lightning"),
        "import torch, one step of Adam": lambda: process(
            "-c", "import torch; w = torch.ones(1, requires_grad=True); o = torch.optim.Adam([w]); w.sum().backward();"
            "o.step()",
        ),
        "labbook-train model=fnn, to its first step": first_step,
    }  # fmt: skip
    show("from start to first step", alternate(starts, options.rounds), seconds, f"{options.rounds} rounds")
    wholes = {"labbook-train experiment=keras_example": lambda: train("experiment=keras_example")}
    wholes["the same, untracked"] = lambda: train("experiment=keras_example", "tracking=none")
    if PEERS.exists():
        wholes["Keras 3 on JAX"] = partial(keras, "jax")
    columns = {"fit": Column("fit, s", ".2f"), "wall": Column("whole process, wall, s", ".2f"), "cpu": seconds["cpu"]}
    show("the beginner's example", alternate(wholes, options.rounds), columns, f"{options.rounds} rounds")


if __name__ == "__main__":
    main()
