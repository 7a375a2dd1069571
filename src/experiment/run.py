"""Assembly: from a validated config to a trained, tested, tracked model. The only place that instantiates a config."""

from __future__ import annotations

import logging
import os
import sys
import traceback
import warnings
from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import pytorch_lightning as pl
import torch
from omegaconf import DictConfig
from pytorch_lightning.loggers.logger import Logger

from src import tracking
from src.config import compose_saved, task_overrides
from src.errors import Interrupted, RunFailed, UserError
from src.experiment import artifacts, terminal
from src.experiment.assemble import Parts, assemble
from src.experiment.build import build_node
from src.experiment.job import JobHooks
from src.experiment.resume import check_data, check_resumable, find_start, saved_config
from src.metrics import modes
from src.runtime import invocation
from src.runtime.compat.lightning import own_rank
from src.runtime.console import say
from src.runtime.signals import Signals
from src.tracking.logger import MLflowLogger
from src.training import cost
from src.training.callbacks.checkpoint import read_checkpoint
from src.training.callbacks.recording import Point
from src.training.loggers import log_points


class Result(NamedTuple):
    """Result of a run.

    Attributes:
        objective: best value of the metric that the task monitors, which a sweep optimises; None without validation.
        run: its id.
    """

    objective: float | None
    run: str


def train(
    config: DictConfig,
    *,
    overrides: list[str] | None = None,
    again: tracking.RunInfo | None = None,
    job: JobHooks | None = None,
) -> Result:
    """Train, test and track one run; the way from the command line to the result.

    Args:
        overrides: that led to the configuration; None: those of the command line.
        again: the run that this one repeats.
        job: the job of a sweep that the run is. Its configuration is complete: overrides change nothing of it.

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
        if job is not None:
            config.threads = int(resumed.tags.get("labbook.threads", 0)) or config.threads
        else:
            config = compose_saved(saved_config(resumed), overrides)
    with Signals() as signals:
        start = find_start(config, resumed)
        parts = assemble(config, signals, start, job.callbacks() if job else ())
        if resumed and (note := check_resumable(parts.model, config, resumed)):
            say(parts.console, note)
        if again:
            check_data(parts.data, config, again)
        with signals.held():  # until there is a run that can be marked as KILLED
            run = _start_run(parts, config, overrides, resumed, again, job)
        try:
            signals.check()
            _connect(parts, run, resumed, job)
            objective = execute(parts, config, run, job)
        except Interrupted as stop:
            run.finish("KILLED", str(stop))
            if own_rank() == 0:
                command = f"{invocation.command('train')} resume={run.id}"
                print(f"to go on from the last checkpoint: {command}", file=sys.stderr)
            raise
        except BaseException as error:
            place = _raised_by(parts, error)
            failed = f"{type(error).__name__}: {error}".splitlines()[0]
            run.finish("FAILED", f"{place}{failed}")
            if place:
                raise RunFailed(f"{place}{failed} (debug=true shows the traceback)") from error
            raise
        run.finish("FINISHED")
    for line in [*run.notes, f"run {run.id}", run.ui_hint]:
        say(parts.console, line)
    return Result(objective, run.id)


def _raised_by(parts: Parts, error: BaseException) -> str:
    """Beginning of a line about an error that a user's own callback raised: the callback, file and line; else empty."""
    if isinstance(error, UserError | RunFailed):
        return ""
    for frame, line in reversed(list(traceback.walk_tb(error.__traceback__))):
        for path, callback in parts.callbacks.items():
            if frame.f_locals.get("self") is callback:
                return f"{path} [{frame.f_code.co_filename}:{line}]: "
    return ""


def _start_run(
    parts: Parts,
    config: DictConfig,
    overrides: list[str],
    resumed: tracking.RunInfo | None,
    again: tracking.RunInfo | None,
    job: JobHooks | None,
) -> tracking.Run | tracking.Untracked:
    """Begin (or reopen) the tracked run and return at once; on further ranks, one that records nothing."""
    leads = own_rank() == 0
    if not leads:
        # inherited from the process that started this one: a user's mlflow call here would end that run
        os.environ.pop("MLFLOW_RUN_ID", None)
    name = config.name
    if name is None and job is not None:  # what all jobs have in common tells none from the others
        name = tracking.default_name(parts.model.config, job.overrides)
    return build_node(config.tracking)(
        config=parts.model.config,
        overrides=overrides,
        name=name,
        tags=dict(parts.model.config["tags"]) | ({"labbook.rerun_of": again.id} if again else {}),
        resume=resumed.id if resumed else None,
        **({} if leads else {"enabled": False}),
    )


def _connect(
    parts: Parts, run: tracking.Run | tracking.Untracked, resumed: tracking.RunInfo | None, job: JobHooks | None
) -> None:
    """Tie the callbacks to the run, as soon as the store has it."""
    parts.texts.folder = parts.pictures.folder = (resumed or run).directory
    parts.pictures.announce = run.announce_images
    parts.checkpoint.directory = parts.texts.folder / "checkpoints"
    parts.recorder.log_points = partial(_log_points, run, parts.loggers)
    parts.trainer.loggers = [MLflowLogger(run), *parts.loggers]
    for logger in parts.loggers:
        logger.log_hyperparams(parts.model.config)
    if job is not None and not isinstance(run, tracking.Untracked):  # which could not be gone on with
        job.update(run=run.id)


def _log_points(run: tracking.Run | tracking.Untracked, loggers: list[Logger], points: Sequence[Point]) -> None:
    run.log_points(points)
    log_points(loggers, points)


def execute(
    parts: Parts, config: DictConfig, run: tracking.Run | tracking.Untracked, job: JobHooks | None = None
) -> float | None:
    """Fit, test the best weights, and report; return the best monitored value."""
    model, data, trainer = parts.model, parts.data, parts.trainer
    meter = cost.Meter()
    costs: dict[str, float] = {
        "cost/parameters": cost.parameters(model),
        "cost/flops": cost.flops(model, data.head("val", 1)),
    }
    device = _device_name(trainer)
    terminal.print_start(parts.console, data.spec, type(model).__name__, model.task.name, costs, device)
    if model.task.monitor not in type(model.task).metric_modes:  # a name that is not this project's
        better = "more" if model.monitor_mode == "max" else "less"
        say(parts.console, f"{model.monitor} picks the best epoch: {better} is better")
    run.log_dataset(data.describe())
    run.set_tags(_tags(parts, device))
    if trainer.is_global_zero:
        artifacts.keep_files(run.directory, model)
    _fit(parts, config)
    _save_profile(parts, run)
    best = parts.checkpoint.best_weights(model)
    if best is not None:
        model.load_state_dict(best)
        run.log_model({"model": model.config["model"]})
    pruned = job.pruned if job else 0
    if pruned:
        run.set_tags({"labbook.pruned": f"epoch {pruned}"})
    if config.test and "test" in data.splits and not pruned:
        trainer.test(model, datamodule=data, verbose=False)
    tested = model.metrics["test"]
    # on all ranks: with several, all three gather from all of them
    shown, baseline, curves, worst = "val", {}, {}, []
    if tested.losses:
        shown, baseline, curves, worst = "test", tested.baseline(), tested.curves(), model.worst_examples.compute()
    if trainer.is_global_zero:
        peak = cost.peak_flops(device, config.trainer.precision, tf32=cost.takes_tf32(model))
        costs |= cost.measured(parts.recorder.fit_seconds, parts.recorder.rows, costs["cost/flops"], peak)
        used, energy = meter.read()
        costs |= used
        run.set_tags({"labbook.energy": energy})
        for logger in trainer.loggers:
            logger.log_metrics(costs | {f"baseline/{name}": value for name, value in baseline.items()}, None)
            logger.save()
        asked = data.head("predict", config.show_predictions) if config.show_predictions else None
        artifacts.report(parts.console, model, baseline, parts.checkpoint.best_epoch, asked)
        terminal.print_cost(parts.console, costs, energy)
        run.notes += parts.texts.notes + parts.pictures.notes
        run.notes += artifacts.save(run.directory, model, data.splits[shown], curves, worst, shown)
    if job is not None:
        job.update(metrics=model.results() | costs | {"data/train_rows": data.spec.splits["train"]})
    return model.best(model.monitor)[1] if model.monitor in model.history else None


def _fit(parts: Parts, config: DictConfig) -> None:
    last = parts.checkpoint.last_path
    where = str(last) if last.exists() else None
    parts.trainer.fit(parts.model, datamodule=parts.data, ckpt_path=where, weights_only=True)
    if config.trainer.max_epochs == 0:  # the weights that the model starts from are those to keep
        parts.trainer.validate(parts.model, datamodule=parts.data, verbose=False)
        parts.checkpoint.save(parts.trainer)


def _tags(parts: Parts, device: str) -> dict[str, str]:
    """Tags of a run as it starts; says where it starts from, if it takes over weights."""
    model, last = parts.model, parts.checkpoint.last_path
    tags = {
        "labbook.data_sha256": parts.data.spec.sha256,
        "labbook.task": model.task.name,
        "labbook.monitor": model.monitor,
        **modes.tags(model.task.metric_modes),
        "labbook.device": device,
        "labbook.threads": str(model.config["threads"]),
    }
    if last.exists():
        tags["labbook.resumed_from"] = f"step {read_checkpoint(last)['global_step']}"
    elif parts.origin is not None:
        tags["labbook.init_from"] = parts.origin
        say(parts.console, f"starts from {parts.origin}")
    return tags


def _save_profile(parts: Parts, run: tracking.Run | tracking.Untracked) -> None:
    """Save the profile as an artifact and print its first lines, if the trainer has a profiler."""
    profile = parts.trainer.profiler.summary()  # type: ignore[attr-defined]  # Lightning sets it
    if profile and parts.trainer.is_global_zero:
        path = run.artifact("profile.txt")
        path.write_text(profile)
        top = "\n".join(profile.strip().splitlines()[:25])
        say(parts.console, f"{top}\nthe rest is in {path}")


def _device_name(trainer: pl.Trainer) -> str:
    device = trainer.strategy.root_device
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    return f"{trainer.world_size} x {name}" if trainer.world_size > 1 else name


def quieten() -> None:
    """Keep Lightning's device lines, tips and warnings about itself away from the user."""
    for name in ("pytorch_lightning", "lightning_fabric", "lightning.pytorch", "torch.utils.cpp_extension"):
        logging.getLogger(name).setLevel(logging.ERROR)
    for module in ("pytorch_lightning", "lightning_fabric", "torchmetrics", "torch.utils.data", "torch.optim"):
        warnings.filterwarnings("ignore", module=module.replace(".", r"\."))
