"""Ask a trained run about rows, for new samples, or for an episode: answers go to a table, files or the terminal."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from src.analysis.explain import attribution, targets
from src.config import task_overrides
from src.config.recipes import CONF
from src.data.core.modality import modality_of
from src.errors import UserError
from src.inference import answers, coco
from src.inference.answers.base import NOTHING_ASKED, Answer, Columns, Request
from src.inference.load import Trained, load
from src.inference.output import Output, print_rows
from src.runtime.console import say
from src.tasks.abilities import SearchesBeams

NOT_EXPLAINED = "explain=true: only answers of one class or number a row are explained"


def predict(config: DictConfig) -> None:
    """Answer what is asked: rows of a file or one text, new samples, or an episode of what acts.

    Raises:
        UserError: a run, a file or an option that cannot be used; an output that exists. Nothing is written then.
    """
    values: dict[str, Any] = OmegaConf.to_container(config, resolve=True)  # type: ignore[assignment]
    request = _request(values)
    samples, rows = values["num_samples"] is not None, request.path is not None or request.text is not None
    if request.path is not None and request.text is not None:
        raise UserError(NOTHING_ASKED)
    given = _given(values)
    if request.explain:
        attribution.require()
    elif "explain_rows" in given:
        raise UserError(f"explain_rows={request.explain_rows} is for explain=true")
    output = _output(request) if rows and not samples else None
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    trained = load(config.run, uri=config.tracking.get("uri"), device=config.device)
    answer = answers.answer_of(answers.SAMPLES if samples else trained.model.task.name)
    if rows and not samples:
        _check_rows(request, trained, answer, output)
    elif not samples and (not answer.no_rows or "num_samples" in answer.options):
        raise UserError(NOTHING_ASKED)
    options = answers.arguments(answer, trained, values, given)
    _search_beams(trained, values["beam_size"])
    if request.explain and (problem := _not_explained(trained, answer)):
        trained.notes.append(problem)
        request.explain = False
    console = Console()
    with torch.inference_mode():
        result = answer.call(trained, request, **options)
        if isinstance(result, str):
            say(console, result)
        else:
            _show(console, result, output)
    for note in trained.notes:
        say(console, note)


def _given(values: dict[str, Any]) -> set[str]:
    """Names of the options that were typed, or have another value than the command's own."""
    typed = {text.lstrip("+~").partition("=")[0] for text in task_overrides()}
    file = OmegaConf.load(CONF / "predict.yaml")
    defaults: dict[str, Any] = OmegaConf.to_container(file)  # type: ignore[assignment]
    return typed | {name for name, value in values.items() if value != defaults.get(name)}


def _request(values: dict[str, Any]) -> Request:
    reading = dict(values["data"])
    path = reading.pop("path", None)
    return Request(
        path=None if path is None else Path(path).expanduser().absolute(),
        text=values["text"],
        reading=reading,
        output=values["output"],
        force=values["force"],
        batch_size=values["batch_size"],
        explain=values["explain"],
        explain_rows=values["explain_rows"],
    )


def _output(request: Request) -> Output | coco.CocoResults | None:
    """The table that answers go to; None: the terminal. Refused before the model is loaded."""
    name = request.output or ("predictions.csv" if request.text is None else None)
    if name is None:
        return None
    return (coco.CocoResults if name.endswith(".json") else Output)(Path(name), force=request.force)


def _check_rows(request: Request, trained: Trained, answer: Answer, output: Output | coco.CocoResults | None) -> None:
    """Refuse rows that this run cannot be asked about, and an output that its answers do not fit."""
    model = trained.model
    if answer.no_rows:
        raise UserError(f"run {trained.name} {answer.no_rows.format(data=model.spec.name)}")
    if request.text is not None and not modality_of(model.spec).takes_text:
        raise UserError(f"text= is for a model of texts, run {trained.name} learned from {model.spec.modality} data")
    if isinstance(output, coco.CocoResults):
        if not answer.json:
            told = f"JSON is for boxes, the task of run {trained.name} is {model.task.name}"
            raise UserError(f"output={request.output}: {told}")
        output.class_names = model.spec.class_names


def _search_beams(trained: Trained, beam_size: int | None) -> None:
    if beam_size is None:
        return
    model = trained.model
    if not isinstance(model, SearchesBeams):
        raise UserError(f"beam_size={beam_size}: {type(model).__name__} does not search with beams")
    model.beam_size = beam_size


def _not_explained(trained: Trained, answer: Answer) -> str | None:
    """Reason why answers cannot be explained; None where they can."""
    return targets.incompatibility(trained.model) if answer is answers.answer_of(answers.ROWS) else NOT_EXPLAINED


def _show(console: Console, pieces: Iterator[Columns], output: Output | coco.CocoResults | None) -> None:
    """Print the answers, or write them and print the first ones."""
    if output is None:
        for columns in pieces:
            print_rows(console, {name: values for name, values in columns.items() if name not in ("row", "id")})
        return
    with output:
        for columns in pieces:
            output.write(columns)
    print_rows(console, output.head)
    say(console, f"{output.rows:,} rows in {output.path}")
