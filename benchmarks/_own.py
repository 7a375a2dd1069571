"""The beginner's net as a researcher brings it: a torch module, and a LightningModule with its own steps."""

from __future__ import annotations

import pytorch_lightning as pl
import torch
from _problems import Epochs, Problem
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset


def net(in_features: int, num_outputs: int) -> nn.Module:
    """20-64-32-1, as model=fnn of the recipe builds it."""
    first, second = nn.Linear(in_features, 64), nn.Linear(64, 32)
    return nn.Sequential(first, nn.ReLU(), second, nn.ReLU(), nn.Linear(32, num_outputs))


class Lit(pl.LightningModule):
    """Logs its losses once an epoch."""

    def __init__(self, in_features: int = 20, num_outputs: int = 1) -> None:
        super().__init__()
        self.net = net(in_features, num_outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)

    def loss(self, batch: tuple[Tensor, Tensor]) -> Tensor:
        return nn.functional.binary_cross_entropy_with_logits(self(batch[0]).squeeze(-1), batch[1].float())

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        loss = self.loss(batch)
        self.log("train/own_loss", loss, on_step=False, on_epoch=True)
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        self.log("val/own_loss", self.loss(batch))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=1e-3)


def lightning(problem: Problem, in_memory: bool) -> dict[str, float]:
    """Train it with Lightning's own Trainer, which records and saves nothing and shows no progress.

    Args:
        in_memory: batches are slices of tensors, as Labbook's are; else torch's DataLoader collates them row by row.
    """

    def loader(part: tuple[Tensor, Tensor], shuffle: bool) -> DataLoader:
        if in_memory:
            batches = list(zip(*(rows.split(problem.batch_size) for rows in part), strict=True))
            return DataLoader(batches, batch_size=None, shuffle=shuffle)
        return DataLoader(TensorDataset(*part), batch_size=problem.batch_size, shuffle=shuffle)

    epochs = Epochs(problem.steps)
    mark = pl.Callback()
    mark.on_train_epoch_start = mark.on_train_end = epochs.mark  # type: ignore[method-assign]
    nothing = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = pl.Trainer(
        max_epochs=problem.epochs, accelerator="cpu", callbacks=[mark], enable_model_summary=False, **nothing
    )
    trainer.fit(Lit(), loader(problem.train, True), loader(problem.val, False))
    return epochs.figures()
