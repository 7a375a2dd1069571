"""Assembly of a run from its config: data, spec, task, model, callbacks, trainer."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import pytorch_lightning as pl
import torch
from lightning_fabric.utilities.exceptions import MisconfigurationException
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.loggers.logger import Logger
from rich.console import Console
from torch import Tensor

from src.config import schemas
from src.data.core.module import DataModule, TakesTokenizer
from src.errors import UserError
from src.experiment.build import build_data, build_model, build_node, model_options
from src.experiment.checks import check_loop, check_own_step
from src.models.base import Model
from src.models.components import schedule
from src.models.family import family
from src.models.own.module import OwnModule
from src.runtime.compat.lightning import own_rank
from src.runtime.console import say
from src.runtime.signals import Signals
from src.tasks.abilities import BringsTokenizer, Remarks
from src.training.callbacks.averaging import WeightAveraging
from src.training.callbacks.checkpoint import AtomicCheckpointIO, Checkpoint
from src.training.callbacks.log_images import Pictures
from src.training.callbacks.log_texts import Texts
from src.training.callbacks.progress import ProgressBar
from src.training.callbacks.recording import Recorder
from src.training.callbacks.stopping import StopOnSignal
from src.training.init_from import InitFrom
from src.training.loggers import guarded
from src.training.loop import EpochLoop
from src.training.seeding import OwnRandomness, StepRandomness, seed_everything

T = TypeVar("T")
TRIED_ROWS = 32  # by a loss and metrics of the user's own, before training
OWN_STEPS = "steps are Lightning's own, slower on small nets: {reason}"  # of a run


@dataclass
class Parts:
    """Everything that one run consists of, built and not yet started."""

    data: DataModule
    model: Model
    trainer: pl.Trainer
    checkpoint: Checkpoint
    recorder: Recorder
    texts: Texts
    pictures: Pictures
    console: Console
    callbacks: dict[str, pl.Callback]  # the user's own, by where they stand in the config
    loggers: list[Logger]  # the user's own, beside MLflow's
    origin: str | None = None  # what was taken over from which model


def assemble(
    config: DictConfig, signals: Signals, start: InitFrom | None = None, further: Sequence[pl.Callback] = ()
) -> Parts:
    """Build all parts of a run in the order of the data's flow: data, spec, task, model, trainer.

    Args:
        start: a trained model whose tokenizer the data takes, and the model its weights where they fit.
        further: callbacks that come after all others.

    Raises:
        UserError: the parts do not fit together.
    """
    threads = seed_everything(config.seed, config.threads)
    data = build_data(config.data, seed=config.seed, task=config.task.name)
    data.train_fraction = config.get("train_fraction", 1.0)  # a sweep begun before there was one
    if isinstance(data, TakesTokenizer) and (definition := _brought(config, data, start)):
        data.take_tokenizer(definition)
    data.prepare_data()
    data.setup("fit")
    model = build_model(config, data.spec)
    if isinstance(model, OwnModule):
        model.check_outputs(data.head("train", 2))
    if model.task.has_own:
        _try_own(model, data.head("train", TRIED_ROWS))
    origin = None if start is None else f"{start.name}: {start.hand_over(model)}"
    if config.channels_last and not any(p.ndim == 4 for p in model.parameters()):
        raise UserError(f"channels_last=true is for convolutions on images; {type(model).__name__} has none")
    plain: Any = OmegaConf.to_container(config, resolve=True)
    model.attach(
        config=plain | {"threads": threads, "resume": None},
        optimizer=build_node(config.optimizer),
        scheduler=build_node({key: value for key, value in plain["scheduler"].items() if key != "interval"}),
        interval=config.scheduler.get("interval"),
        channels_last=config.channels_last,
    )
    _rehearse(model)
    _compile(model, config)
    console = Console(quiet=own_rank() != 0)
    checkpoint: Checkpoint = build_node(config.checkpoint)
    recorder = Recorder(config.trainer.log_every_n_steps)
    texts, pictures = Texts(config.log_texts), Pictures(config.log_images)
    callbacks = _callbacks(config, model, signals, checkpoint, recorder)
    own = _own_callbacks(config)
    callbacks += [*own.values(), texts, pictures, checkpoint, ProgressBar(console), *further]
    trainer = _trainer(config, callbacks)
    check_loop(trainer, batches=len(data.train_dataloader()), fused=bool(config.optimizer.get("fused")))
    if model.owns_training_step:
        check_own_step(trainer, config, type(model).__name__)
    for remark in model.remarks() if isinstance(model, Remarks) else ():
        say(console, remark)
    if reason := EpochLoop.install(trainer):
        say(console, OWN_STEPS.format(reason=reason))
    return Parts(
        data, model, trainer, checkpoint, recorder, texts, pictures, console, own, _own_loggers(config), origin
    )


def _try_own(model: Model, batch: Mapping[str, Tensor]) -> None:
    """Try a loss and metrics of the user's own on some rows.

    Raises:
        UserError: they fail, or give what cannot be used.
    """
    training = model.training
    model.eval()
    with torch.random.fork_rng():
        batch = model.task.prepare(batch)
        model.task.check_own(model.outputs(batch), batch)
    model.train(training)


def _compile(model: Model, config: DictConfig) -> None:
    """Have torch compile the model's steps, if the config asks for it.

    Raises:
        UserError: a mode that torch does not know.
    """
    if not config.compile:
        return
    try:
        model.compile(mode=None if config.compile is True else config.compile)
    except RuntimeError as error:
        raise UserError(f"compile={config.compile}: {str(error).splitlines()[0]}") from error


def _trainer(config: DictConfig, callbacks: Sequence[pl.Callback]) -> pl.Trainer:
    """Build the trainer.

    Raises:
        UserError: options that Lightning refuses, or a device that is not there.
    """
    options: dict[str, Any] = OmegaConf.to_container(config.trainer, resolve=True)  # type: ignore[assignment]
    options.pop("callbacks", None)  # which are among these
    try:
        trainer: pl.Trainer = build_node(options)(callbacks=callbacks, plugins=[AtomicCheckpointIO()])
    except (MisconfigurationException, ValueError, RuntimeError) as error:
        raise UserError(f"trainer: {str(error).strip().splitlines()[0]}") from error
    if trainer.strategy.root_device.type == "cpu":
        # Lightning asks torch to look for GPUs through NVIDIA's library. Adam looks before every step, and where there
        # is no such library that is a search of the disk each time: 50 us, a tenth of a small net's step.
        os.environ.pop("PYTORCH_NVML_BASED_CUDA_CHECK", None)
    return trainer


def _brought(config: DictConfig, data: DataModule, start: InitFrom | None) -> str:
    """Definition of the tokenizer that comes with the model; empty where the data makes its own."""
    if start is None:
        chosen = family(config.model._target_)
        if not issubclass(chosen, BringsTokenizer):
            return ""
        return chosen.pretrained_tokenizer(**model_options(config.model))
    if not start.tokenizer:
        raise UserError(f"init_from={start.name}: that model has no tokenizer, the texts of data={data.name} need one")
    return start.tokenizer


def _rehearse(model: Model) -> None:
    """Build optimizer and schedule once and drop them, so that a value they refuse is known before there is a run."""
    part = "optimizer"
    try:
        optimizer = model.optimizer(model.parameter_groups())
        part = "scheduler"
        if model.scheduler is not None:
            schedule.make(model.scheduler, optimizer, total_steps=100, mode=model.monitor_mode)
    except (ValueError, TypeError, ArithmeticError) as error:
        raise UserError(f"{part}: {error}") from error


def _callbacks(
    config: DictConfig, model: Model, signals: Signals, checkpoint: Checkpoint, recorder: Recorder
) -> list[pl.Callback]:
    """Build the callbacks that come before the texts and the checkpoint."""
    averaging: WeightAveraging = build_node(config.weight_averaging)
    checkpoint.signals = signals
    checkpoint.before_save = recorder.flush
    callbacks: list[pl.Callback] = [StepRandomness(config.seed), recorder, StopOnSignal(signals)]
    if isinstance(model, OwnModule):  # ahead, as it seeds torch's generators too
        callbacks.insert(0, OwnRandomness(config.seed, type(model).__name__, model.net))
    if averaging.kind != "none":
        checkpoint.evaluation_state = averaging.evaluation_state
        callbacks.append(averaging)
    if config.early_stopping.patience is not None:
        callbacks.append(build_node(config.early_stopping)(monitor=model.monitor, mode=model.monitor_mode))
    return callbacks


def _own_callbacks(config: DictConfig) -> dict[str, pl.Callback]:
    """Build the user's own callbacks, in the order of their names' appearance, by their paths in the config.

    Raises:
        UserError: one cannot be made, or is no callback.
    """
    return {path: _made(path, node, pl.Callback, "callback") for path, node in schemas.callbacks(config).items()}


def _own_loggers(config: DictConfig) -> list[Logger]:
    """Build the user's own loggers, which a run goes on without where they fail.

    Raises:
        UserError: one cannot be made, or is no logger.
    """
    found = []
    for name, node in (config.get("loggers") or {}).items():
        if node is not None:
            path = f"loggers.{name}"
            found.append(guarded(_made(path, node, Logger, "logger"), path))  # type: ignore[type-abstract]
    return found


def _made(path: str, node: DictConfig, kind: type[T], what: str) -> T:
    try:
        made = build_node(node)
    except Exception as error:
        reason = str(error.__cause__ or error).strip().splitlines()[0]
        raise UserError(f"{path}: {node['_target_']}: {reason}") from error
    if not isinstance(made, kind):
        raise UserError(f"{path}: {node['_target_']} is no {what} of Lightning")
    return made
