"""What a training step costs: Labbook beside a plain PyTorch loop, and the usual template beside both.

    python benchmarks/step.py                    the beginner's net: 20-64-32-1 on 1,000 rows, batches of 32
    python benchmarks/step.py --problem mnist    model=cnn on 8,000 MNIST images, batches of 64

All train the same net on the same rows with Adam, take the same metrics on the training and the validation part once an
epoch, validate once an epoch, and keep the losses. The plain loop is what a careful person writes by hand: rows in
memory, a permutation an epoch, slices, a list for the losses, torchmetrics once an epoch. The template is written as
the common Lightning-Hydra template has it: a `DataLoader`, torchmetrics and `self.log` in the step, ModelCheckpoint,
rich progress bar, MLFlowLogger on SQLite.

A figure is the time of whole epochs (validation included) over their training steps, without the first epoch.
"""

from __future__ import annotations

import argparse
import logging
import os
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from _rounds import PROJECT, Column, alternate, clocks, show

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")

import pytorch_lightning as pl  # noqa: E402
import torch  # noqa: E402
import torch.nn.functional as F  # noqa: E402
import torchmetrics as tm  # noqa: E402
from torch import Tensor, nn  # noqa: E402
from torch.utils.data import DataLoader, TensorDataset  # noqa: E402

from src import tracking  # noqa: E402
from src.config import compose  # noqa: E402
from src.experiment import assemble, quieten  # noqa: E402
from src.tracking.logger import MLflowLogger  # noqa: E402
from src.training.stopping import Signals  # noqa: E402

SCRATCH = Path(tempfile.mkdtemp(prefix="labbook-bench-"))
MNIST_ROWS = 8000


class Problem:
    """One of the two: its configuration, and net, metrics and loss as somebody writes them by hand."""

    def __init__(self, name: str, options: list[str]) -> None:
        self.name, self.epochs = name, 40 if name == "beginner" else 3
        overrides = [*OVERRIDES[name], *options, f"trainer.max_epochs={self.epochs}", "trainer.accelerator=cpu"]
        if name == "mnist":
            overrides.append(f"data.root={mnist_folder()}")
        self.config = compose(overrides)
        parts = assemble(self.config, Signals())
        self.model, self.data = parts.model, parts.data
        limit = MNIST_ROWS if name == "mnist" else None
        for part in ("train", "val"):
            self.data.parts[part] = {key: rows[:limit] for key, rows in self.data.parts[part].items()}
        self.train, self.val = self.data.parts["train"], self.data.parts["val"]
        self.batch_size = self.config.data.batch_size
        self.steps = -(-len(self.train["target"]) // self.batch_size)
        self.lr = self.config.optimizer.lr

    def net(self) -> nn.Module:
        """A fresh net of plain layers, with the weights of Labbook's."""
        if self.name == "beginner":
            net = nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 1))
        else:
            mean, std = self.data.spec.input_mean[0], self.data.spec.input_std[0]
            net = nn.Sequential(_Scale(mean, std), *_layers(self.model.body), nn.Linear(576, 10))
        weights = [w.detach().clone() for w in assemble(self.config, Signals()).model.parameters()]
        with torch.no_grad():
            for mine, theirs in zip(net.parameters(), weights, strict=True):
                mine.copy_(theirs)
        return net

    def loss(self, outputs: Tensor, target: Tensor) -> Tensor:
        if self.name == "beginner":
            return F.binary_cross_entropy_with_logits(outputs.squeeze(-1), target.float())
        return F.cross_entropy(outputs, target)

    def predict(self, outputs: Tensor) -> Tensor:
        return outputs.squeeze(-1).sigmoid() if self.name == "beginner" else outputs.softmax(-1)

    def metrics(self) -> tm.MetricCollection:
        return self.model.task.metrics()


class _Scale(nn.Module):
    def __init__(self, mean: float, std: float) -> None:
        super().__init__()
        self.mean, self.std = mean, std

    def forward(self, x: Tensor) -> Tensor:
        return (x.float() - self.mean) / self.std


def _layers(module: nn.Module) -> list[nn.Module]:
    import copy

    return [copy.deepcopy(child) for child in module.children()]


OVERRIDES = {
    "beginner": ["experiment=keras_example", "predict=0"],
    "mnist": ["model=cnn", "data=mnist", "optimizer=adam", "scheduler=none", "data.augment.crop=0"],
}


def mnist_folder() -> Path:
    for folder in (os.environ.get("LABBOOK_DATA"), PROJECT.parent / "shared" / "data"):
        if folder and (Path(folder) / "mnist").is_dir():
            return Path(folder) / "mnist"
    return PROJECT / "data"


class Epochs:
    """Marks the beginning of every epoch; what the steady ones cost a step."""

    def __init__(self, steps: int) -> None:
        self.steps, self.marks = steps, []

    def mark(self) -> None:
        self.marks.append(clocks())

    def figures(self) -> dict[str, float]:
        (wall, cpu), (wall_end, cpu_end) = self.marks[1], self.marks[-1]
        steps = self.steps * (len(self.marks) - 2)
        return {"cpu": (cpu_end - cpu) / steps * 1e6, "wall": (wall_end - wall) / steps * 1e6}


# the contestants -----------------------------------------------------------------------------------------------------


def plain(problem: Problem, fused: bool) -> dict[str, float]:
    os.environ.pop("PYTORCH_NVML_BASED_CUDA_CHECK", None)  # Lightning's, and it slows Adam: not a plain loop's business
    torch.manual_seed(0)
    net, train, val = problem.net(), problem.train, problem.val
    optimizer = torch.optim.Adam(net.parameters(), lr=problem.lr, fused=fused or None)
    train_metrics, val_metrics = problem.metrics(), problem.metrics()
    x, y, n = train["input"], train["target"], len(train["target"])
    epochs, history, step_losses = Epochs(problem.steps), [], []
    for _ in range(problem.epochs):
        epochs.mark()
        net.train()
        order = torch.randperm(n)
        losses, outputs, targets = [], [], []
        for start in range(0, n, problem.batch_size):
            index = order[start : start + problem.batch_size]
            batch, target = x[index], y[index]
            output = net(batch)
            loss = problem.loss(output, target)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.detach())
            outputs.append(output.detach())
            targets.append(target)
        step_losses += torch.stack(losses).tolist()
        train_metrics.update(problem.predict(torch.cat(outputs)), torch.cat(targets))
        net.eval()
        with torch.inference_mode():
            output = torch.cat([net(rows) for rows in val["input"].split(1024)])
            val_loss = problem.loss(output, val["target"]).item()
            val_metrics.update(problem.predict(output), val["target"])
        history.append((val_loss, train_metrics.compute(), val_metrics.compute()))
        train_metrics.reset()
        val_metrics.reset()
    epochs.mark()
    return epochs.figures()


class Mark(pl.Callback):
    def __init__(self, epochs: Epochs) -> None:
        self.on_train_epoch_start = self.on_train_end = lambda *_: epochs.mark()


def labbook(problem: Problem, recorded: bool = False, short: bool | None = None) -> dict[str, float]:
    """As `python -m src.train` runs it; `recorded` in a SQLite store; `short=False` with Lightning's own step."""
    parts = assemble(problem.config, Signals())
    parts.data.parts = problem.data.parts
    run: Any = tracking.start(
        config=parts.model.config, overrides=[], enabled=recorded, root=SCRATCH, uri=None, system_metrics=False
    )
    _ = run.id
    parts.checkpoint.directory = run.directory / "checkpoints"
    parts.recorder.log_points = run.log_points
    parts.trainer.logger = MLflowLogger(run)
    epochs = Epochs(problem.steps)
    parts.trainer.callbacks.append(Mark(epochs))
    parts.trainer.fit_loop.epoch_loop.short = short
    parts.trainer.fit(parts.model, datamodule=parts.data)
    run.finish("FINISHED")
    return epochs.figures()


class TemplateModule(pl.LightningModule):
    """A LightningModule in the template's style: metrics and `self.log` in every step."""

    def __init__(self, problem: Problem) -> None:
        super().__init__()
        self.problem, self.net = problem, problem.net()
        self.train_metrics = problem.metrics().clone(prefix="train/")
        self.val_metrics = problem.metrics().clone(prefix="val/")
        self.train_loss, self.val_loss = tm.MeanMetric(), tm.MeanMetric()

    def model_step(self, batch: list[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        x, y = batch
        outputs = self.net(x)
        return self.problem.loss(outputs, y), self.problem.predict(outputs), y

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        loss, prediction, y = self.model_step(batch)
        self.train_loss(loss)
        self.log("train/loss", self.train_loss, on_step=False, on_epoch=True, prog_bar=True)
        for name, metric in self.train_metrics.items():
            metric(prediction, y)
            self.log(name, metric, on_step=False, on_epoch=True, prog_bar=True)
        return loss

    def validation_step(self, batch: list[Tensor], batch_idx: int) -> None:
        loss, prediction, y = self.model_step(batch)
        self.val_loss(loss)
        self.log("val/loss", self.val_loss, on_step=False, on_epoch=True, prog_bar=True)
        for name, metric in self.val_metrics.items():
            metric(prediction, y)
            self.log(name, metric, on_step=False, on_epoch=True, prog_bar=True)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=self.problem.lr)


def template(problem: Problem) -> dict[str, float]:
    from pytorch_lightning.loggers import MLFlowLogger

    os.environ["PYTORCH_NVML_BASED_CUDA_CHECK"] = "1"  # as importing Lightning leaves it
    folder = SCRATCH / "template"
    epochs = Epochs(problem.steps)

    def loader(part: dict[str, Tensor], shuffle: bool) -> DataLoader:
        return DataLoader(TensorDataset(part["input"], part["target"]), batch_size=problem.batch_size, shuffle=shuffle)

    trainer = pl.Trainer(
        max_epochs=min(problem.epochs, 8),
        accelerator="cpu",
        default_root_dir=folder,
        num_sanity_val_steps=0,
        callbacks=[
            pl.callbacks.ModelCheckpoint(monitor="val/accuracy", mode="max", save_last=True, dirpath=folder / "ckpt"),
            pl.callbacks.RichModelSummary(max_depth=-1),
            pl.callbacks.RichProgressBar(),
            Mark(epochs),
        ],
        logger=MLFlowLogger("template", tracking_uri=f"sqlite:///{SCRATCH}/mlflow.db"),
    )
    with open(os.devnull, "w") as nothing:
        from contextlib import redirect_stdout

        with redirect_stdout(nothing):
            trainer.fit(TemplateModule(problem), loader(problem.train, True), loader(problem.val, False))
    return epochs.figures()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--problem", choices=["beginner", "mnist"], default="beginner")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--template", action=argparse.BooleanOptionalAction, default=True)
    options = parser.parse_args()
    quieten()
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    problem = Problem(options.problem, [f"threads={options.threads}"])
    contestants: dict[str, Callable[[], dict[str, float]]] = {
        "plain loop": lambda: plain(problem, False),
        "plain loop, fused Adam": lambda: plain(problem, True),
        "Labbook, untracked": lambda: labbook(problem),
        "Labbook, untracked, Lightning's own step": lambda: labbook(problem, short=False),
        "Labbook, tracked": lambda: labbook(problem, recorded=True),
    }
    if options.template:
        contestants["template"] = lambda: template(problem)
    began = time.time()
    medians = alternate(contestants, options.rounds)
    columns = {"cpu": Column("CPU, µs a step"), "wall": Column("wall, µs a step")}
    note = f"{options.rounds} rounds, {options.threads} threads, {time.time() - began:.0f} s"
    show(f"{options.problem}: a training step", medians, columns, note)


if __name__ == "__main__":
    main()
