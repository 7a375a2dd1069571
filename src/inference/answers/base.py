"""What is asked of a trained run: its source of rows, its options, its output folders."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

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
    if not modality_of(model.spec).is_image:
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
    """The rows that are asked about, as their modality reads them.

    Raises:
        UserError: an option that it does not take, a value that cannot be, or it has no form as a file.
    """
    modality = modality_of(trained.model.spec)
    return modality.inputs(_source(trained, config, modality))


def given_texts(trained: Trained, config: DictConfig) -> Sequence[str]:
    """The texts that are asked about.

    Raises:
        UserError: as `source_of`, or a text is empty.
    """
    return texts_of(_source(trained, config, modality_of(trained.model.spec)))


def _source(trained: Trained, config: DictConfig, modality: Modality) -> Source:
    spec = trained.model.spec
    path = Path() if config.data.get("path") is None else data_path(config)
    return Source(
        path,
        text=config.text,
        options=reading_options(config, modality.options(path)),
        trained=trained.data_options,
        whose=f"run {trained.name}: {spec.modality} data of the task {trained.model.task.name}",
    )


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
