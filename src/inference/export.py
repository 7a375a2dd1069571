"""Export of a trained model: exported program, ONNX, TensorFlow, safetensors, Keras, or an MLflow model."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

import torch
from torch import Tensor, nn
from typing_extensions import override

from src.data.core.modality import modality_of
from src.errors import UserError
from src.inference import tensorflow
from src.inference.load import Trained
from src.models.base import Model
from src.runtime import optional
from src.runtime import output as outputs
from src.tasks.abilities import WritesKeras, is_conditional

DESCRIPTION = "labbook.json"
SUFFIXES = {"litert": "tflite"}  # where it is not the format's name


class Answer(nn.Module):
    """Net from raw rows to predictions: probabilities of classes, or values in the target's own unit; of a generator
    from noise (N, latent_size) to images in [0, 1].
    """

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.model = model

    @override
    def forward(self, rows: Tensor) -> Tensor:
        return self.model.predict_step({"input": rows}, 0)


def write(trained: Trained, form: str, path: Path) -> None:
    """Write the model as one of `FORMATS`, under another name first.

    Raises:
        UserError: a model that has no graph, a package that is missing, a file that cannot be written.
    """
    if path.is_dir() and not (path / tensorflow.GRAPH).is_file():
        raise UserError(f"output={path} is a folder, and not one that an export wrote: give another name")
    try:
        with outputs.replacing(path, suffix="") as new:
            FORMATS[form](trained, new)
    except OSError as error:
        raise UserError(f"output={path}: {error.strerror or error}") from None


def description(trained: Trained) -> dict[str, Any]:
    """Describe what a program needs beside the net: the spec, the task, and how files of such data are read."""
    model = trained.model
    return {"spec": model.spec.to_dict(), "task": model.task.name, "data": trained.data_options, "run": trained.name}


def program(trained: Trained) -> torch.export.ExportedProgram:
    """Export the net's graph for any number of rows from two on (torch.export takes a size of one for a constant)."""
    answer, rows = _answer(trained)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.export.export(answer, (rows,), dynamic_shapes=({0: torch.export.Dim("rows", min=2)},))


def _answer(trained: Trained) -> tuple[Answer, Tensor]:
    """The net, and two rows of such input."""
    model = trained.model
    if not model.task.one_pass:
        raise UserError(
            f"the task {model.task.name} is more than one pass of the net; format=safetensors has its weights"
        )
    if is_conditional(model):
        raise UserError("a conditional generator takes noise and classes, a graph one input; use format=safetensors")
    rows = torch.zeros(2, cast(int, model.latent_size)) if model.task.from_noise else modality_of(model.spec).example(2)
    return Answer(model).eval(), rows


def _pt2(trained: Trained, path: Path) -> None:
    with path.open("wb") as file:
        torch.export.save(program(trained), file, extra_files={DESCRIPTION: json.dumps(description(trained))})


def _onnx(trained: Trained, path: Path) -> None:
    _package("onnx", "onnxscript")
    graph = program(trained)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        written = torch.onnx.export(
            graph, dynamo=True, verbose=False, input_names=["rows"], output_names=["predictions"]
        )
    assert written is not None  # a program, for dynamo=True
    names = json.dumps(list(trained.model.spec.class_names))
    written.model.metadata_props.update({"labbook.run": trained.name, "labbook.class_names": names})
    written.save(path)


def _tensorflow(trained: Trained, path: Path, save: Callable[[Path, Path, str, str], None]) -> None:
    program = tensorflow.require()
    answer, rows = _answer(trained)
    with TemporaryDirectory(prefix="labbook-") as folder:
        graph = Path(folder, "model.onnx")
        _onnx(trained, graph)
        converted = tensorflow.convert(program, graph, channels_first=rows.ndim > 2)
        tensorflow.check(converted / tensorflow.LITERT, answer, partial(_varied, trained.model, rows))
        save(converted, path, DESCRIPTION, json.dumps(description(trained)))


def _varied(model: Model, rows: Tensor, count: int) -> Tensor:
    """Rows (count, ...) like an example's, with values in the range of the training split's."""
    noise = torch.rand(count, *rows.shape[1:], generator=torch.Generator().manual_seed(0))
    if not rows.is_floating_point():
        return (noise * (rows[:1] + 1)).to(rows.dtype)  # tokens: the example has the last one everywhere
    if model.task.from_noise or model.input_mean is None or model.input_scale is None:
        return noise
    return model.input_mean + noise / model.input_scale  # at most a deviation above the mean; codes of categories: 0


def _safetensors(trained: Trained, path: Path) -> None:
    _package("safetensors")
    from safetensors.torch import save_file  # noqa: PLC0415 - an extra

    # tensors that share their memory, such as tied embeddings, are written once a name
    state = {name: tensor.clone().contiguous() for name, tensor in trained.model.state_dict().items()}
    save_file(state, path, metadata={"labbook": json.dumps(description(trained) | {"config": trained.model.config})})


def _keras(trained: Trained, path: Path) -> None:
    if not isinstance(trained.model, WritesKeras):
        raise UserError(f"format=keras is for models of Keras, model=keras; this is {type(trained.model).__name__}")
    trained.model.write_keras(path)


def log(trained: Trained, register: str | None = None, alias: str | None = None) -> str:
    """Add an MLflow model to the run, and register it if it gets a name; return its URI.

    Args:
        register: a name in MLflow's registry.
        alias: of this version there.

    Raises:
        UserError: a checkpoint of no run, a model that MLflow cannot serve.
    """
    if trained.run is None:
        raise UserError(f"format=mlflow: an MLflow model belongs to a run, {trained.name} is a file")
    if trained.model.task.from_noise:
        raise UserError("format=mlflow serves rows of data; a generator takes noise: format=pt2 or onnx")
    from src.inference import serve  # noqa: PLC0415 - imports MLflow

    return serve.log(trained.run, program(trained), description(trained), register, alias)


def _package(*names: str) -> None:
    for name in names:
        optional.require(name, f"install the extra `export`, {optional.extra('export')}", for_="this format")


FORMATS: dict[str, Callable[[Trained, Path], None]] = {
    "pt2": _pt2,
    "onnx": _onnx,
    "litert": partial(_tensorflow, save=tensorflow.save_litert),
    "savedmodel": partial(_tensorflow, save=tensorflow.save_model),
    "safetensors": _safetensors,
    "keras": _keras,
}
