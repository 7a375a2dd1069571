"""A trained run asked about new rows: what cannot be asked is refused, answers go to a table or the terminal."""

from __future__ import annotations

from pathlib import Path

import torch
from omegaconf import DictConfig
from rich.console import Console

from src.analysis.explain import attribution, targets
from src.data.core.modality import modality_of
from src.errors import UserError
from src.inference import coco
from src.inference.answers import ANSWERS, control, generation
from src.inference.answers.base import NOTHING_ASKED
from src.inference.answers.rows import labelled
from src.inference.load import Trained, load
from src.inference.output import Output, print_rows
from src.runtime.console import say
from src.tasks.abilities import SearchesBeams

NOT_EXPLAINED = "explain=true: only answers of one class or number a row are explained"


def predict(config: DictConfig) -> None:
    """Answers for what is asked: rows of a file or one text, new samples, or an episode of what acts.

    Raises:
        UserError: a run, a file or an option that cannot be used; an output that exists. Nothing is written then.
    """
    nothing = config.data.get("path") is None and config.text is None
    answer = generation.draw if config.num_samples is not None else control.play if nothing else _rows
    answer(config)


def _rows(config: DictConfig) -> None:
    """Answers for all rows of a file, or for one text, to a table or the terminal.

    Raises:
        UserError: a run, a file or an option that cannot be used; an output that exists. Nothing is written then.
    """
    if (config.data.get("path") is None) == (config.text is None):
        raise UserError(NOTHING_ASKED)
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    name = config.output or ("predictions.csv" if config.text is None else None)
    written = coco.CocoResults if name and name.endswith(".json") else Output
    output = None if name is None else written(Path(name), force=config.force)
    if config.explain:
        attribution.require()
    console = Console()
    trained = load(config.run, uri=config.tracking.get("uri"), device=config.device)
    model = trained.model
    _check_asked(config, trained)
    if isinstance(output, coco.CocoResults):
        if model.task.name != "detection":
            raise UserError(f"output={name}: JSON is for boxes, the task of run {trained.name} is {model.task.name}")
        output.class_names = model.spec.class_names
    with torch.inference_mode():
        answer = ANSWERS.get(model.task.name, labelled)
        if config.explain and (problem := targets.incompatibility(model) if answer is labelled else NOT_EXPLAINED):
            trained.notes.append(problem)
            config.explain = False
        answers = answer(trained, config)
        if output is None:
            for columns in answers:
                print_rows(console, {name: values for name, values in columns.items() if name not in ("row", "id")})
        else:
            with output:
                for columns in answers:
                    output.write(columns)
            print_rows(console, output.head)
            say(console, f"{output.rows:,} rows in {output.path}")
    for note in trained.notes:
        say(console, note)


def _check_asked(config: DictConfig, trained: Trained) -> None:
    """Refuses what this model cannot be asked, and hands it the beams."""
    model = trained.model
    if model.task.name == "generation":
        raise UserError(f"run {trained.name} draws new rows and predicts none: num_samples=64 instead of data.path")
    if model.task.name == "control":
        raise UserError(
            f"run {trained.name} acts in {model.spec.name} and predicts no rows: leave data.path and text out"
        )
    if config.text is not None and not modality_of(model.spec).takes_text:
        raise UserError(f"text= is for a model of texts, run {trained.name} learned from {model.spec.modality} data")
    if config.context is not None and model.task.name != "question_answering":
        raise UserError(f"context= is of a question, the task of run {trained.name} is {model.task.name}")
    if config.beam_size is not None:
        if not isinstance(model, SearchesBeams):
            raise UserError(f"beam_size={config.beam_size}: {type(model).__name__} does not search with beams")
        model.beam_size = config.beam_size
