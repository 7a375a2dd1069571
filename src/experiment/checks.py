"""Options that do not go together, refused before training."""

from __future__ import annotations

import pytorch_lightning as pl
from omegaconf import DictConfig, OmegaConf

from src.errors import UserError


def check_loop(trainer: pl.Trainer, batches: int, fused: bool) -> None:
    """Refuse options that Lightning notices in the middle of training, or not at all."""
    every = trainer.accumulate_grad_batches
    if every < 1:
        raise UserError(f"trainer.accumulate_grad_batches={every} must be at least 1")
    if trainer.gradient_clip_val is not None and trainer.gradient_clip_val < 0:
        raise UserError(f"trainer.gradient_clip_val={trainer.gradient_clip_val} must be at least 0")
    if trainer.gradient_clip_val and fused and trainer.precision in ("16-mixed", "bf16-mixed"):
        precision = trainer.precision
        raise UserError(f"trainer.gradient_clip_val with trainer.precision={precision}: set optimizer.fused=false")
    interval = trainer.val_check_interval
    if isinstance(interval, int) and interval > batches and trainer.check_val_every_n_epoch is not None:
        raise UserError(f"trainer.val_check_interval={interval}: an epoch has {batches} batches, no validation is due")


def check_own_step(trainer: pl.Trainer, config: DictConfig, model: str) -> None:
    """Options that work on Lightning's step, for a model that makes its own."""
    if trainer.world_size > 1:
        raise UserError(f"{model} trains in one process: set trainer.devices=1 and trainer.strategy=auto")
    for option, works in (
        ("trainer.gradient_clip_val", not trainer.gradient_clip_val),
        ("trainer.accumulate_grad_batches", trainer.accumulate_grad_batches == 1),
        ("trainer.precision", trainer.precision != "16-mixed"),
        ("weight_averaging.kind", config.weight_averaging.kind == "none"),
        ("show_predictions", not config.show_predictions),
    ):
        if not works:
            value = OmegaConf.select(config, option)
            raise UserError(f"{option}={value} does not go with {model}, which makes its own steps of training")
