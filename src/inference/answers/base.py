"""What is asked of a trained run: its source of rows, its options, its output folders."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from src.analysis.explain import attribution
from src.data.audio import inputs as audio_inputs
from src.data.core import inputs
from src.data.images import inputs as image_inputs
from src.data.tables import inputs as table_inputs
from src.data.text import inputs as text_inputs
from src.errors import UserError, suggest
from src.inference.load import Trained
from src.runtime import output as outputs
from src.spec import AudioSpec, ImageSpec, TableSpec, TokenizedSpec

Columns = dict[str, list[Any]]


READING = ("separator", "header", "encoding", "missing")  # options of a table's file


NOTHING_ASKED = (
    "give what is to be predicted: data.path=FILE, text=TEXT for a model of texts, or num_samples=N for one that draws"
)


def reconstructed_folder(trained: Trained, config: DictConfig) -> Path:
    """Where pictures go that came back.

    Raises:
        UserError: the folder exists.
    """
    folder = sibling_folder(config, "reconstructed")
    trained.notes.append(f"the pictures that came back are in {folder}")
    return folder


def sibling_folder(config: DictConfig, what: str) -> Path:
    """A folder of pictures beside the output.

    Raises:
        UserError: it exists.
    """
    output = Path(config.output or "predictions.csv").expanduser().absolute()
    folder = output.with_name(f"{output.stem}_{what}")
    remedy = "give another output, or force=true to write over its pictures"
    outputs.check(folder, config.force, shown=str(folder), remedy=remedy)
    return folder


def row_names(rows: inputs.Rows) -> list[str]:
    """What tells the rows apart: their files, or their numbers and parts."""
    if "file" in rows.names:
        return rows.names["file"]
    parts = rows.names.get("split", [""] * len(rows.names["row"]))
    return [f"{part} row {row}".strip() for part, row in zip(parts, rows.names["row"], strict=True)]


def explained_columns(trained: Trained, config: DictConfig) -> Callable[[inputs.Rows], Columns]:
    """What predictions of some rows rest on, as columns beside them; of pictures, as files of the first ones.

    Raises:
        UserError: the folder of these files exists.
    """
    model = trained.model
    if not isinstance(model.spec.input, ImageSpec):
        return lambda rows: attribution.columns(model, rows.input)
    from src.analysis.explain import figures  # matplotlib: not before it is needed

    folder = sibling_folder(config, "explained")
    trained.notes.append(f"what the first {config.explain_rows} predictions rest on is in {folder}")
    done = 0

    def draw(rows: inputs.Rows) -> Columns:
        nonlocal done
        names = row_names(rows)[: config.explain_rows - done]
        if names:
            figures.save_pictures(folder, model, rows.input[: len(names)], names, done + 1)
        done += len(names)
        return {}

    return draw


# what is asked -------------------------------------------------------------------------------------------------------


def source_of(trained: Trained, config: DictConfig) -> inputs.Unseen:
    spec = trained.model.spec
    if isinstance(spec.input, TokenizedSpec):
        return text_inputs.Texts(spec, texts=given_texts(trained, config))
    if isinstance(spec.input, ImageSpec | TableSpec) and data_path(config).suffix == ".npz":
        given = {"inputs": trained.data_options.get("inputs")} | reading_options(config, ("inputs", "split"))
        return table_inputs.Arrays(spec, path=data_path(config), **given)
    if isinstance(spec.input, ImageSpec):
        on_bad = reading_options(config, ("on_bad",)).get("on_bad", "error")
        if on_bad not in (known := ("error", "skip")):
            raise UserError(f"data.on_bad={on_bad} is not known{suggest(str(on_bad), known)}")
        source = audio_inputs.Sounds if isinstance(spec.input, AudioSpec) else image_inputs.Pictures
        return source(spec, path=data_path(config), on_bad=on_bad)
    if isinstance(spec.input, TableSpec):
        reading = {name: trained.data_options.get(name) for name in READING}
        reading |= reading_options(config, ("keep", *READING))
        keep, target = reading.pop("keep", None), trained.data_options.get("target")
        if reading["missing"] is None:
            del reading["missing"]
        return table_inputs.Table(
            spec,
            path=data_path(config),
            target=None if target is None else str(target),
            keep=None if keep is None else [str(name) for name in keep],
            reading=reading,
        )
    what = f"{spec.modality} data of the task {trained.model.task.name}"
    raise UserError(f"run {trained.name}: {what} has no form as a file")


def given_texts(trained: Trained, config: DictConfig) -> Sequence[str]:
    given = reading_options(config, ("text",))
    if config.text is not None:
        if not config.text.strip():
            raise UserError("text= is empty: give at least one word")
        return [config.text]
    return text_inputs.read_lines(data_path(config), given.get("text") or trained.data_options.get("text") or "text")


def data_path(config: DictConfig) -> Path:
    return Path(config.data.path).expanduser().absolute()


def reading_options(config: DictConfig, known: Sequence[str]) -> dict[str, Any]:
    """What `data` says beside the path."""
    options: dict[str, Any] = OmegaConf.to_container(config.data, resolve=True)  # type: ignore[assignment]
    options.pop("path", None)
    for name in options:
        if name not in known:
            raise UserError(f"data.{name}: this model's data has no such option{suggest(name, known)}")
    return options
