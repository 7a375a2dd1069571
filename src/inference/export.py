"""A trained model in a form that other programs take: exported program, ONNX, safetensors, or an MLflow model."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig
from rich.console import Console
from torch import Tensor, nn

from src.errors import UserError
from src.inference.load import Trained, load
from src.models.base import Model
from src.spec import TextSpec

# their answers are more than one pass of the net
WRITES = ("causal_lm", "masked_lm", "seq2seq", "question_answering", "detection")
DESCRIPTION = "labbook.json"


class Answer(nn.Module):
    """Raw rows in, predictions out: probabilities of classes, or values in the target's own unit; of a generator noise
    (N, latent_size) in, images in [0, 1] out.
    """

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.model = model

    def forward(self, rows: Tensor) -> Tensor:
        return self.model.predict_step({"input": rows}, 0)


def export(config: DictConfig) -> None:
    """Writes a run's model in another form.

    Raises:
        UserError: a run or an output that cannot be used, a model that has no graph, a package that is missing.
    """
    console = Console()
    if (config.register is not None or config.alias is not None) and config.format != "mlflow":
        raise UserError("register and alias are for format=mlflow, which the registry takes")
    if config.alias is not None and config.register is None:
        raise UserError("alias: of which registered model? register=NAME")
    if config.format == "mlflow" and config.output is not None:
        raise UserError(f"output={config.output}: an MLflow model lies in its run; output is for the other formats")
    output = Path(config.output or f"model.{config.format}").expanduser().absolute()
    if config.format != "mlflow" and output.exists() and not config.force:
        raise UserError(f"output={output} exists: give another name, or force=true to write over it")
    trained = load(config.run, uri=config.tracking.get("uri"), device="cpu")
    if config.format == "mlflow":
        for line in _mlflow(trained, config):
            console.print(line, highlight=False, soft_wrap=True, markup=False)
        return
    new = output.with_name(f".{output.name}.{os.getpid()}")
    try:
        FORMATS[config.format](trained, new)
        os.replace(new, output)
    except OSError as error:
        raise UserError(f"output={output}: {error.strerror or error}") from None
    finally:
        new.unlink(missing_ok=True)
    console.print(f"{output} ({output.stat().st_size / 1e6:.1f} MB)", highlight=False, soft_wrap=True)


def description(trained: Trained) -> dict[str, Any]:
    """What a program needs beside the net: the spec, the task, and how files of such data are read."""
    model = trained.model
    return {"spec": model.spec.to_dict(), "task": model.task.name, "data": trained.data_options, "run": trained.name}


def program(trained: Trained) -> torch.export.ExportedProgram:
    """The net's graph for any number of rows from two on (torch.export takes a size of one for a constant)."""
    answer, rows = _answer(trained)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.export.export(answer, (rows,), dynamic_shapes=({0: torch.export.Dim("rows", min=2)},))


def _answer(trained: Trained) -> tuple[Answer, Tensor]:
    """The net, and two rows of such input."""
    model = trained.model
    if model.task.name in WRITES:
        raise UserError(
            f"the task {model.task.name} is more than one pass of the net; format=safetensors has its weights"
        )
    if getattr(model, "conditional", False):
        raise UserError("a conditional generator takes noise and classes, a graph one input; use format=safetensors")
    shape = (model.latent_size,) if model.task.name == "generation" else model.spec.input_shape
    rows = torch.zeros(2, *shape)
    if isinstance(model.spec.input, TextSpec):
        rows = rows.long() + len(model.spec.input.token_counts) - 1
    return Answer(model).eval(), rows


def _pt2(trained: Trained, path: Path) -> None:
    with path.open("wb") as file:
        torch.export.save(program(trained), file, extra_files={DESCRIPTION: json.dumps(description(trained))})


def _onnx(trained: Trained, path: Path) -> None:
    _package("onnx", "onnxscript")
    answer, rows = _answer(trained)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        written = torch.onnx.export(
            answer,
            (rows,),
            dynamo=True,
            verbose=False,
            input_names=["rows"],
            output_names=["predictions"],
            dynamic_shapes=({0: torch.export.Dim("rows", min=2)},),
        )
    names = json.dumps(list(trained.model.spec.class_names))
    written.model.metadata_props.update({"labbook.run": trained.name, "labbook.class_names": names})
    written.save(path)


def _safetensors(trained: Trained, path: Path) -> None:
    _package("safetensors")
    from safetensors.torch import save_file

    # tensors that share their memory, such as tied embeddings, are written once a name
    state = {name: tensor.clone().contiguous() for name, tensor in trained.model.state_dict().items()}
    save_file(state, path, metadata={"labbook": json.dumps(description(trained) | {"config": trained.model.config})})


def _mlflow(trained: Trained, config: DictConfig) -> list[str]:
    if trained.run is None:
        raise UserError(f"format=mlflow: an MLflow model belongs to a run, {trained.name} is a file")
    if trained.model.task.name == "generation":
        raise UserError("format=mlflow serves rows of data; a generator takes noise: format=pt2 or onnx")
    from src.inference.serve import log  # imports MLflow

    uri = log(trained.run, program(trained), description(trained), config.register, config.alias)
    serve = f"MLFLOW_TRACKING_URI={trained.run.uri} mlflow models serve --env-manager local -m {uri}"
    return [f"{uri}; to serve it:", f"  {serve}"]


def _package(*names: str) -> None:
    import importlib.util

    for name in names:
        if importlib.util.find_spec(name) is None:
            raise UserError(f"this format needs {name}: install the extra `export`, pip install 'labbook[export]'")


FORMATS: dict[str, Callable[[Trained, Path], None]] = {"pt2": _pt2, "onnx": _onnx, "safetensors": _safetensors}
