"""Assembly: from a validated config to a trained, tested, tracked model. The only place that instantiates a config."""

from __future__ import annotations

import logging
import os
import sys
import warnings
from dataclasses import dataclass
from typing import Any, NamedTuple

import pytorch_lightning as pl
import torch
from hydra.utils import get_class, instantiate
from lightning_fabric.utilities.exceptions import MisconfigurationException
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.utilities import rank_zero_only
from rich.console import Console

from src import sweeps, tracking
from src.config import compose_saved, task_overrides
from src.config.sources import CONF
from src.data.base import DataModule
from src.earlier import check_data, check_resumable, find_start, saved_config
from src.errors import Interrupted, UserError
from src.models.base import Model
from src.reports import cost, finished, summary
from src.reports.pictures import Pictures
from src.reports.texts import Texts
from src.spec import DataSpec
from src.sweeps.study import judge
from src.text import Tokenizer
from src.tracking.logger import MLflowLogger
from src.training.averaging import WeightAveraging
from src.training.checkpoint import AtomicCheckpointIO, Checkpoint, read_checkpoint
from src.training.loop import EpochLoop
from src.training.progress import ProgressBar, Told
from src.training.pruning import Pruning
from src.training.randomness import StepRandomness, seed_everything
from src.training.recording import Recorder
from src.training.stopping import Signals, StopOnSignal
from src.training.transfer import Start


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
    origin: str | None = None  # what was taken over from which model


class Result(NamedTuple):
    """What came out of a run.

    Attributes:
        objective: best value of the metric that the task monitors, which a sweep optimises; None without validation.
        run: its id.
    """

    objective: float | None
    run: str


def train(config: DictConfig, *, overrides: list[str] | None = None, again: tracking.RunInfo | None = None) -> Result:
    """Trains, tests and tracks one run; the way from the command line to the result.

    Args:
        overrides: that led to the configuration; None: those of the command line.
        again: the run that this one repeats.

    Raises:
        UserError: the parts do not fit together; nothing was written.
        RunFailed: training diverged, or a file or the store could not be written. The run is FAILED.
        Interrupted: SIGINT or SIGTERM. The run is KILLED and can be resumed.
    """
    quieten()
    overrides = task_overrides() if overrides is None else overrides
    resumed = None
    if config.resume is not None:
        resumed = tracking.find_run(config.resume, uri=config.tracking.uri)
        if sweeps.current():  # its configuration is the ledger's
            config.threads = int(resumed.tags.get("labbook.threads", 0)) or config.threads
        else:
            config = compose_saved(saved_config(resumed), overrides)
    with Signals() as signals:
        start = find_start(config, resumed)
        parts = assemble(config, signals, start)
        if resumed:
            check_resumable(parts.model, config, resumed)
        if again:
            check_data(parts.data, config, again)
        with signals.held():  # until there is a run that can be marked as KILLED
            run = _start_run(parts, config, overrides, resumed, again)
        try:
            signals.check()
            _connect(parts, run, resumed)
            objective = execute(parts, config, run)
        except Interrupted as stop:
            run.finish("KILLED", str(stop))
            if rank_zero_only.rank == 0:
                print(f"to go on from the last checkpoint: python -m src.train resume={run.id}", file=sys.stderr)
            raise
        except BaseException as error:
            run.finish("FAILED", f"{type(error).__name__}: {error}".splitlines()[0])
            raise
        run.finish("FINISHED")
    for line in [*run.notes, f"run {run.id}", run.ui_hint]:
        parts.console.print(line, highlight=False, soft_wrap=True, markup=False)
    return Result(objective, run.id)


def assemble(config: DictConfig, signals: Signals, start: Start | None = None) -> Parts:
    """Builds all parts of a run in the order of the data's flow: data, spec, task, model, trainer.

    Args:
        start: a trained model whose tokenizer the data takes, and the model its weights where they fit.
    """
    threads = seed_everything(config.seed, config.threads)
    data: DataModule = _build(config.data)
    data.train_fraction = config.get("train_fraction", 1.0)  # a sweep begun before there was one
    if hasattr(data, "tokenizer") and (definition := _brought(config, data, start)):
        data.tokenizer = Tokenizer(definition)
    data.prepare_data()
    data.setup("fit")
    model = build_model(config, data.spec)
    origin = None if start is None else f"{start.name}: {start.hand_over(model)}"
    model.config = OmegaConf.to_container(config, resolve=True)  # type: ignore[assignment]
    model.config |= {"threads": threads, "resume": None}
    model.optimizer = _build(config.optimizer)
    model.scheduler = _build(config.scheduler)
    if config.channels_last:
        if not any(p.ndim == 4 for p in model.parameters()):
            raise UserError(f"channels_last=true is for convolutions on images; {type(model).__name__} has none")
        model.to(memory_format=torch.channels_last)
        model.memory_format = torch.channels_last
    _rehearse(model)
    if config.compile:
        try:
            model.compile(mode=None if config.compile is True else config.compile)
        except RuntimeError as error:
            raise UserError(f"compile={config.compile}: {str(error).splitlines()[0]}") from error

    console = Console(quiet=rank_zero_only.rank != 0)
    checkpoint: Checkpoint = _build(config.checkpoint)
    recorder = Recorder(config.trainer.log_every_n_steps)
    texts, pictures = Texts(config.texts), Pictures(config.pictures)
    callbacks = _callbacks(config, model, signals, checkpoint, recorder)
    callbacks += [texts, pictures, checkpoint, ProgressBar(console)]
    if job := sweeps.current():
        callbacks.append(Told(job.note))
        if judged := judge(job):
            callbacks.append(Pruning(*judged, job.note, job.state.pruned))
    try:
        trainer: pl.Trainer = _build(config.trainer)(callbacks=callbacks, plugins=[AtomicCheckpointIO()])
    except (MisconfigurationException, ValueError, RuntimeError) as error:
        raise UserError(f"trainer: {str(error).strip().splitlines()[0]}") from error
    if trainer.strategy.root_device.type == "cpu":
        # Lightning asks torch to look for GPUs through NVIDIA's library. Adam looks before every step, and where there
        # is no such library that is a search of the disk each time: 50 us, a tenth of a small net's step.
        os.environ.pop("PYTORCH_NVML_BASED_CUDA_CHECK", None)
    _check_loop(trainer, batches=len(data.train_dataloader()), fused=bool(config.optimizer.get("fused")))
    if not model.automatic_optimization:
        _check_own_step(trainer, config, type(model).__name__)
    EpochLoop.install(trainer)
    return Parts(data, model, trainer, checkpoint, recorder, texts, pictures, console, origin)


def _brought(config: DictConfig, data: DataModule, start: Start | None) -> str:
    """Definition of the tokenizer that comes with the model; empty where the data makes its own."""
    if start is None:
        factory = _build(config.model)
        return factory.func.brought(**factory.keywords)
    if not start.tokenizer:
        raise UserError(f"init_from={start.name}: that model has no tokenizer, the texts of data={data.name} need one")
    return start.tokenizer


def _rehearse(model: Model) -> None:
    """Builds optimizer and schedule once and drops them, so that a value they refuse is known before there is a run."""
    part = "optimizer"
    try:
        optimizer = model.optimizer(model.parameter_groups())
        part = "scheduler"
        if model.scheduler is not None:
            model.scheduler(optimizer, total_steps=100)
    except (ValueError, TypeError, ArithmeticError) as error:
        raise UserError(f"{part}: {error}") from error


def _check_loop(trainer: pl.Trainer, batches: int, fused: bool) -> None:
    """What Lightning notices in the middle of things, or not at all."""
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


def _check_own_step(trainer: pl.Trainer, config: DictConfig, model: str) -> None:
    """Options that work on Lightning's step, for a model that makes its own."""
    if trainer.world_size > 1:
        raise UserError(f"{model} trains in one process: set trainer.devices=1 and trainer.strategy=auto")
    for option, works in (
        ("trainer.gradient_clip_val", not trainer.gradient_clip_val),
        ("trainer.accumulate_grad_batches", trainer.accumulate_grad_batches == 1),
        ("trainer.precision", trainer.precision != "16-mixed"),
        ("weight_averaging.kind", config.weight_averaging.kind == "none"),
        ("predict", not config.predict),
    ):
        if not works:
            value = OmegaConf.select(config, option)
            raise UserError(f"{option}={value} does not go with {model}, which makes its own steps of training")


def _start_run(
    parts: Parts,
    config: DictConfig,
    overrides: list[str],
    resumed: tracking.RunInfo | None,
    again: tracking.RunInfo | None,
) -> tracking.Run | tracking.Untracked:
    """Begins (or reopens) the tracked run and returns at once; on further ranks, one that records nothing."""
    leads = rank_zero_only.rank == 0
    if not leads:
        # inherited from the process that started this one: a user's mlflow call here would end that run
        os.environ.pop("MLFLOW_RUN_ID", None)
    name = config.name
    if name is None and (job := sweeps.current()):  # what all jobs have in common tells none from the others
        name = tracking.default_name(parts.model.config, job.name.split())
    return _build(config.tracking)(
        config=parts.model.config,
        overrides=overrides,
        name=name,
        tags=dict(parts.model.config["tags"]) | ({"labbook.rerun_of": again.id} if again else {}),
        resume=resumed.id if resumed else None,
        **({} if leads else {"enabled": False}),
    )


def _connect(parts: Parts, run: tracking.Run | tracking.Untracked, resumed: tracking.RunInfo | None) -> None:
    """Ties the callbacks to the run, as soon as the store has it."""
    parts.texts.folder = parts.pictures.folder = (resumed or run).directory
    parts.pictures.announce = run.announce_images
    parts.checkpoint.directory = parts.texts.folder / "checkpoints"
    parts.recorder.log_points = run.log_points
    parts.trainer.logger = MLflowLogger(run)
    if (job := sweeps.current()) and not isinstance(run, tracking.Untracked):  # which could not be gone on with
        job.note(run=run.id)


def _build(node: DictConfig) -> Any:
    # plain lists and dicts: models and Lightning keep what they are given, and checkpoints must stay plain data
    return instantiate(node, _convert_="all")


def _callbacks(
    config: DictConfig, model: Model, signals: Signals, checkpoint: Checkpoint, recorder: Recorder
) -> list[pl.Callback]:
    """Those that come before the texts and the checkpoint."""
    averaging: WeightAveraging = _build(config.weight_averaging)
    checkpoint.signals = signals
    checkpoint.before_save = recorder.flush
    callbacks: list[pl.Callback] = [StepRandomness(config.seed), recorder, StopOnSignal(signals)]
    if averaging.kind != "none":
        checkpoint.evaluation_state = averaging.evaluation_state
        callbacks.append(averaging)
    if config.early_stopping.patience is not None:
        callbacks.append(_build(config.early_stopping)(monitor=model.monitor, mode=model.monitor_mode))
    return callbacks


def build_model(config: Any, spec: DataSpec) -> Model:
    """The config's model for data of this spec.

    Raises:
        UserError: they do not fit together; names the models that would.
    """
    factory = _build(config.model)
    family: type[Model] = factory.func
    misfit = family.misfit(spec)
    if misfit is not None:
        raise UserError(f"model {family.__name__} {misfit}; models that fit: {', '.join(fitting_models(spec))}")
    task = _build(config.task)(spec, family.served(**factory.keywords))
    return factory(spec, task).started()


def fitting_models(spec: DataSpec) -> list[str]:
    """Names of all models in conf/model that can learn from such data."""
    fitting = []
    for path in sorted((CONF / "model").glob("*.yaml")):
        target = OmegaConf.load(path).get("_target_")
        if target and get_class(target).misfit(spec) is None:
            fitting.append(path.stem)
    return fitting


def execute(parts: Parts, config: DictConfig, run: tracking.Run | tracking.Untracked) -> float | None:
    """Fits, tests the best weights, and reports; returns the best monitored value."""
    model, data, trainer = parts.model, parts.data, parts.trainer
    meter = cost.Meter()
    costs = {
        "cost/parameters": cost.parameters(model),
        "cost/flops": cost.flops(model, data.head("val", 1)),
    }
    device = _device_name(trainer)
    summary.print_start(parts.console, data.spec, type(model).__name__, model.task.name, costs, device)
    run.log_dataset(data.describe())
    tags = {
        "labbook.data_sha256": data.spec.sha256,
        "labbook.task": model.task.name,
        "labbook.monitor": model.monitor,
        "labbook.device": device,
        "labbook.threads": str(model.config["threads"]),
    }
    last = parts.checkpoint.last_path
    if last.exists():
        tags["labbook.resumed_from"] = f"step {read_checkpoint(last)['global_step']}"
    elif parts.origin is not None:
        tags["labbook.init_from"] = parts.origin
        parts.console.print(f"starts from {parts.origin}", highlight=False, soft_wrap=True, markup=False)
    run.set_tags(tags)
    trainer.fit(model, datamodule=data, ckpt_path=str(last) if last.exists() else None, weights_only=True)

    if (profile := trainer.profiler.summary()) and trainer.is_global_zero:
        path = run.artifact("profile.txt")
        path.write_text(profile)
        top = "\n".join(profile.strip().splitlines()[:25])
        parts.console.print(f"{top}\nthe rest is in {path}", highlight=False, soft_wrap=True, markup=False)

    best = parts.checkpoint.best_weights(model)
    if best is not None:
        model.load_state_dict(best)
        run.log_model({"model": model.config["model"]})
    job = sweeps.current()
    pruned = job is not None and job.state.pruned
    if pruned:
        run.set_tags({"labbook.pruned": f"epoch {pruned}"})
    if config.test and "test" in data.parts and not pruned:
        trainer.test(model, datamodule=data, verbose=False)
    tested = model.metrics["test"]
    # on all ranks: with several, all three gather from all of them
    shown, baseline, curves, hardest = "val", {}, {}, []
    if tested.losses:
        shown, baseline, curves, hardest = "test", tested.baseline(), tested.curves(), model.hardest.compute()
    if trainer.is_global_zero:
        peak = cost.peak_flops(device, config.trainer.precision, tf32=cost.takes_tf32(model))
        costs |= cost.measured(parts.recorder.fit_seconds, parts.recorder.rows, costs["cost/flops"], peak)
        used, energy = meter.read()
        costs |= used
        run.set_tags({"labbook.energy": energy})
        run.log_metrics(costs | {f"baseline/{name}": value for name, value in baseline.items()}, step=None)
        asked = data.head("predict", config.predict) if config.predict else None
        finished.report(parts.console, model, baseline, parts.checkpoint.best_epoch, asked)
        summary.print_cost(parts.console, costs, energy)
        run.notes += parts.texts.notes + parts.pictures.notes
        run.notes += finished.leave(run.directory, model, data.parts[shown], curves, hardest, shown)
    if job is not None:
        job.note(metrics=model.results() | costs | {"data/train_rows": data.spec.sizes["train"]})
    return model.best(model.monitor)[1] if model.monitor in model.history else None


def _device_name(trainer: pl.Trainer) -> str:
    device = trainer.strategy.root_device
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    return f"{trainer.world_size} x {name}" if trainer.world_size > 1 else name


def quieten() -> None:
    """Keeps Lightning's device lines, tips and warnings about itself away from the user."""
    for name in ("pytorch_lightning", "lightning_fabric", "lightning.pytorch", "torch.utils.cpp_extension"):
        logging.getLogger(name).setLevel(logging.ERROR)
    for module in ("pytorch_lightning", "lightning_fabric", "torchmetrics", "torch.utils.data", "torch.optim"):
        warnings.filterwarnings("ignore", module=module.replace(".", r"\."))
