"""Questions to a trained run: the source of rows, the options, the output folders."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from src.analysis.explain import attribution
from src.data.core import inputs
from src.data.core.modality import Modality, Source, modality_of
from src.data.text.modality import texts_of
from src.errors import UserError, suggest
from src.inference.load import Trained
from src.runtime import output as outputs

Columns = dict[str, list[Any]]


NOTHING_ASKED = (
    "give what is to be predicted: data.path=FILE, text=TEXT for a model of texts, or num_samples=N for one that draws"
)


@dataclass(frozen=True)
class Answer:
    """Way in which runs of some tasks answer.

    Attributes:
        call: `(trained, request, *, options of its own)`; its result is columns of some rows at a time, or, where it
            takes no rows, a line that says what was made.
        no_rows: why rows cannot be asked for, as the end of a sentence with {data} for its name; empty where they can.
        json: whether its columns can be written as JSON in COCO's format.
    """

    call: Callable[..., Iterator[Columns] | str]
    no_rows: str = ""
    json: bool = False

    @property
    def options(self) -> tuple[str, ...]:
        """Names of its own options as they are typed: the keyword-only arguments of `call`."""
        return tuple(name.rstrip("_") for name in keywords(self.call))


def keywords(call: Callable[..., Any]) -> list[str]:
    """Names of a function's keyword-only arguments."""
    parameters = inspect.signature(call).parameters.values()
    return [parameter.name for parameter in parameters if parameter.kind is parameter.KEYWORD_ONLY]


_ANSWERS: dict[str, Answer] = {}
Function = TypeVar("Function", bound=Callable[..., Any])


def register_answer(*tasks: str, no_rows: str = "", json: bool = False) -> Callable[[Function], Function]:
    """Make a function the answer of runs of these tasks; see `Answer`.

    An argument whose name is a word of Python (`class`) has an underscore behind it.
    """

    def register(call: Function) -> Function:
        _ANSWERS.update(dict.fromkeys(tasks, Answer(call, no_rows, json)))
        return call

    return register


def registered() -> Mapping[str, Answer]:
    """The answers that were registered so far, by task."""
    return _ANSWERS


@dataclass
class Request:
    """Question to a trained run: rows of a file or one text, and where answers go.

    Attributes:
        path: `data.path`, absolute; None where no file is asked about.
        text: instead of a file.
        reading: how the file is read: `data` beside its path.
        output: as it was given; None: the answer's own name, or the terminal.
        force: write over an output that exists.
        batch_size: rows at a time; no answer depends on it.
        explain, explain_rows: whether what answers rest on is shown beside them, and for so many pictures.
    """

    path: Path | None
    text: str | None = None
    reading: Mapping[str, Any] = field(default_factory=dict)
    output: str | None = None
    force: bool = False
    batch_size: int = 256
    explain: bool = False
    explain_rows: int = 16

    @property
    def file(self) -> Path:
        """The file that is asked about.

        Raises:
            UserError: there is none.
        """
        if self.path is None:
            raise UserError(NOTHING_ASKED)
        return self.path

    def options(self, *known: str) -> dict[str, Any]:
        """Options of how the file is read.

        Raises:
            UserError: an option that is none of these.
        """
        for name in self.reading:
            if name not in known:
                raise UserError(f"data.{name}: this model's data has no such option{suggest(name, known)}")
        return dict(self.reading)


def reconstructed_folder(trained: Trained, request: Request) -> Path:
    """Folder that reconstructed pictures go to.

    Raises:
        UserError: the folder exists.
    """
    folder = sibling_folder(request, "reconstructed")
    trained.notes.append(f"the pictures that came back are in {folder}")
    return folder


def sibling_folder(request: Request, what: str) -> Path:
    """Folder of pictures beside the output.

    Raises:
        UserError: it exists.
    """
    output = Path(request.output or "predictions.csv").expanduser().absolute()
    folder = output.with_name(f"{output.stem}_{what}")
    remedy = "give another output, or force=true to write over its pictures"
    outputs.check(folder, request.force, shown=str(folder), remedy=remedy)
    return folder


def row_names(rows: inputs.Rows) -> list[str]:
    """Names of the rows: their files, or their numbers and splits."""
    if "file" in rows.names:
        return rows.names["file"]
    splits = rows.names.get("split", [""] * len(rows.names["row"]))
    return [f"{split} row {row}".strip() for split, row in zip(splits, rows.names["row"], strict=True)]


def explained_columns(trained: Trained, request: Request) -> Callable[[inputs.Rows], Columns]:
    """Make a function from rows to the attributions of their predictions: columns beside them, or of the first pictures
    files.

    Raises:
        UserError: the folder of these files exists.
    """
    model = trained.model
    if not modality_of(model.spec).is_image:
        return lambda rows: attribution.columns(model, rows.input)
    from src.analysis.explain import figures  # noqa: PLC0415 - imports matplotlib, which only pictures need

    folder = sibling_folder(request, "explained")
    trained.notes.append(f"what the first {request.explain_rows} predictions rest on is in {folder}")
    done = 0

    def draw(rows: inputs.Rows) -> Columns:
        nonlocal done
        names = row_names(rows)[: request.explain_rows - done]
        if names:
            figures.save_pictures(folder, model, rows.input[: len(names)], names, done + 1)
        done += len(names)
        return {}

    return draw


# questions -----------------------------------------------------------------------------------------------------------


def source_of(trained: Trained, request: Request) -> inputs.Inputs:
    """Rows that are asked about, as their modality reads them.

    Raises:
        UserError: an option that it does not take, a value that cannot be, or it has no form as a file.
    """
    modality = modality_of(trained.model.spec)
    return modality.inputs(_source(trained, request, modality))


def given_texts(trained: Trained, request: Request) -> Sequence[str]:
    """Texts that are asked about.

    Raises:
        UserError: as `source_of`, or a text is empty.
    """
    return texts_of(_source(trained, request, modality_of(trained.model.spec)))


def _source(trained: Trained, request: Request, modality: Modality) -> Source:
    spec, path = trained.model.spec, request.file if request.text is None else Path()
    return Source(
        path,
        text=request.text,
        options=request.options(*modality.options(path)),
        trained=trained.data_options,
        whose=f"run {trained.name}: {spec.modality} data of the task {trained.model.task.name}",
    )
