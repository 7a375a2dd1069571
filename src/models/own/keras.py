"""Keras 3 models (https://keras.io) on the torch backend: a user's own, from a function or a `.keras` file."""

from __future__ import annotations

import inspect
import json
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning.utilities.types import STEP_OUTPUT
from torch import Tensor
from typing_extensions import override

from src.errors import UserError, suggest
from src.models.components import keras_net
from src.models.components.keras_net import KerasNet
from src.models.own.module import OwnModule, made
from src.runtime import output as outputs
from src.runtime.own_code import imported
from src.runtime.trust import CodeName
from src.spec import DataSpec, ImageSpec, Number, SeriesSpec, TableSpec, TextSpec
from src.tasks.base import Task
from src.tasks.own import facts

ENDS = {"classification": "softmax", "binary": "sigmoid"}  # what makes probabilities of a task's logits


class Keras(OwnModule):
    """A Keras model, trained by this project's loop. Images are given to it as Keras has them, (H, W, C).

    Its input is in standard units of the training split. A softmax or sigmoid at the end of a classifier is left out in
    training, as losses take logits, and is in the exported file again. What layers' regularisers add is added to the
    loss that is trained, not to the one that is logged. A checkpoint holds the net's configuration as plain data: it is
    read without the function and without the file.

    Args:
        spec: what the data is.
        task: gives the number of outputs.
        builder: dotted name of a function that makes the model. Its arguments are filled by name: from `options`, else
            `input_shape`, `in_features`, `num_classes`, `num_outputs` and others from the data; null, and no path: a
            small net.
        options: further arguments of the builder.
        path: of a `.keras` file, whose weights training starts from.
        raw_input: the input is given as it is; null: if the net begins with Rescaling or Normalization.
        architecture: configuration of the net as Keras serialises it, which wins over all others.

    Raises:
        UserError: Keras is missing or runs on another backend; a model that cannot be made, or made again from its
            configuration; layers that hold code.
    """

    inputs = (TableSpec, ImageSpec, SeriesSpec, TextSpec)
    tasks = ("classification", "binary", "regression", "forecasting")
    net: KerasNet

    def __init__(
        self,
        spec: DataSpec,
        task: Task,
        *,
        builder: CodeName | None = None,
        options: dict | None = None,
        path: str | None = None,
        raw_input: bool | None = None,
        architecture: dict | None = None,
    ) -> None:
        if builder is not None and path is not None and architecture is None:
            raise UserError(f"model.builder={builder} and model.path={path}: one of them makes the net")
        if options and builder is None and architecture is None:
            raise UserError("model.options are those of a builder: model.builder=mypackage.build")
        given = {"builder": builder, "options": options or {}, "path": path, "architecture": architecture}
        self.notes: list[str] = []
        super().__init__(spec, task, raw_input=raw_input, **given)

    @override
    def make(self, options: Mapping[str, Any]) -> KerasNet:
        keras = keras_net.torch_keras("model=keras")
        with keras_net.fresh_names_and_seeds(keras):
            self.where, first = self._first(keras, options)
            self.architecture = first if isinstance(first, dict) else _architecture(keras, first, self.where)
            keras_net.check(self.architecture, self.where, foreign=options["builder"] is not None)
            self.logits, self.end = self.architecture, None
            if self.task.name in ENDS:
                self.logits, self.end = keras_net.without_probabilities(self.architecture)
            net = keras_net.rebuilt(keras, self.logits, self.where)
        if not isinstance(first, dict):
            net.set_weights([variable.value.detach().cpu().numpy() for variable in first.weights])
        if self.end is not None:
            self.notes.append(self._told())
        raw = options["raw_input"]
        raw = keras_net.scales_itself(self.architecture) if raw is None else raw
        return KerasNet(keras, net, of_images=isinstance(self.spec.input, ImageSpec), raw_input=raw)

    def _first(self, keras: Any, options: Mapping[str, Any]) -> tuple[str, Any]:  # noqa: ANN401
        """Where the net comes from, in words, and the net as its maker gives it, or its configuration."""
        builder, path = options["builder"], options["path"]
        if options["architecture"] is not None:
            return "model.architecture", options["architecture"]
        if path is not None:
            compiled, net = _read(keras, Path(path).expanduser())
            if compiled:
                self.notes.append(f"{path}: the loss and optimizer that it was compiled with are not used")
            return f"model.path={path}", net
        known = facts(self.spec, self.task) | {"input_shape": self.input_shape}
        if builder is None:
            return "model=keras", _small(keras, known, ENDS.get(self.task.name))
        with keras.device("cpu"):
            net = made(builder, _function(builder, options["options"]), known, options["options"])
        if not isinstance(net, keras.Model):
            raise UserError(f"model.builder={builder} makes a {type(net).__name__}, which is no keras.Model")
        if not net.built:
            net.build((None, *self.input_shape))
        return f"model.builder={builder}", net

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Sizes of one example as Keras has them, channels last."""
        shape = self.spec.input_shape
        return (*shape[1:], shape[0]) if isinstance(self.spec.input, ImageSpec) else shape

    def _told(self) -> str:
        end = ENDS[self.task.name]
        back = "format=keras puts it back" if self.end == end else f"format=keras puts a {end} in its place"
        return f"the {self.end} at the net's end is left out, as the loss takes logits; {back}"

    @staticmethod
    @override
    def reason(error: Exception) -> str:
        return keras_net.reason(error)

    def remarks(self) -> list[str]:
        """What was made of the user's net, one line each."""
        return self.notes

    @override
    def training_step(self, batch: Mapping[str, Tensor], batch_idx: int) -> STEP_OUTPUT:
        loss: Any = super().training_step(batch, batch_idx)
        return loss if self.net.penalty is None else loss + self.net.penalty

    @override
    def check_outputs(self, batch: Mapping[str, Tensor]) -> None:
        super().check_outputs(batch)
        x = self.taken(batch["input"])
        self.net.check_random_state(x)
        if self.task.name not in ENDS or self.end is not None:
            return
        with torch.no_grad():
            extreme = self.net.eval()(1000 * x if x.is_floating_point() else x)
        self.net.train(self.training)
        if ((extreme >= 0) & (extreme <= 1)).all():
            raise UserError(
                f"{self.where}: its outputs look like probabilities, but it does not end with a softmax or sigmoid "
                "layer that could be left out; the loss takes logits"
            )

    @override
    def description(self) -> dict[str, Any]:
        described = super().description()
        if "model" in self.config:
            own = {"architecture": self.architecture, "builder": None, "options": None, "path": None}
            described["config"] = self.config | {"model": self.config["model"] | own}
        return described

    def write_keras(self, path: Path) -> None:
        """Write a `.keras` file of a net from raw inputs, images (H, W, C), to probabilities or values in their unit.

        Raises:
            UserError: the task's answers are no single pass of layers of Keras.
        """
        if self.task.name not in (*ENDS, "regression"):
            raise UserError(f"format=keras: for {', '.join(ENDS)} and regression; the task is {self.task.name}")
        keras, end = self.net.keras, ENDS.get(self.task.name)
        ends = end is not None and self.end == end
        with keras_net.fresh_names_and_seeds(keras), keras.device("cpu"):
            net = keras_net.rebuilt(keras, self.architecture if ends else self.logits, self.where)
            net.set_weights(self.net.weights())
            mean, std = self.spec.input.mean, self.spec.input.std
            inputs = keras.Input(self.input_shape, dtype="float32" if mean or self.net.raw_input else "int32")
            scaled = mean and not self.net.raw_input
            x = keras.layers.Normalization(mean=mean, variance=[s**2 for s in std])(inputs) if scaled else inputs
            y = net(x)
            if end is not None and not ends:
                y = keras.layers.Activation(end)(y)
            elif end is None:
                number = self.spec.target_as(Number)
                y = keras.layers.Rescaling(number.std, number.mean)(y)
            with outputs.replacing(path, suffix=".keras") as new:
                keras.Model(inputs, y).save(new)


def _architecture(keras: Any, net: Any, where: str) -> dict[str, Any]:  # noqa: ANN401 (of a package without types)
    """A net's configuration as plain data.

    Raises:
        UserError: it has none.
    """
    try:
        config = keras.saving.serialize_keras_object(net)
        return json.loads(json.dumps({key: part for key, part in config.items() if key != "compile_config"}))
    except Exception as error:
        raise UserError(
            f"{where}: the net has no configuration that a checkpoint could hold ({keras_net.reason(error)})"
        ) from error


def _read(keras: Any, path: Path) -> tuple[bool, Any]:  # noqa: ANN401
    """Whether a net in a file was compiled, and the net."""
    where = f"model.path={path}"
    if path.suffix != ".keras":
        raise UserError(f"{where}: expects a .keras file, as model.save of Keras 3 writes it")
    try:
        with zipfile.ZipFile(path) as file:
            config = json.loads(file.read("config.json"))
        compiled = config.pop("compile_config", None)
        keras_net.check(config, where)
        with keras.device("cpu"):
            net = keras.saving.load_model(path, compile=False, safe_mode=True)
    except UserError:
        raise
    except FileNotFoundError:
        raise UserError(f"{where}: there is no such file") from None
    except Exception as error:
        raise UserError(f"{where}: Keras cannot read it ({keras_net.reason(error)})") from error
    return compiled is not None, net


def _function(builder: str, options: Mapping[str, object]) -> Callable[..., Any]:
    """The builder of this name.

    Raises:
        UserError: there is none, or it has no such argument.
    """
    found = imported(builder)
    if not callable(found):
        raise UserError(f"model.builder={builder} is neither a function nor a class")
    parameters = inspect.signature(found).parameters
    if not any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters.values()):
        for name in options.keys() - parameters.keys():
            raise UserError(f"model.options.{name}: {builder} has no such argument{suggest(name, parameters)}")
    return found


def _small(keras: Any, known: Mapping[str, Any], end: str | None) -> Any:  # noqa: ANN401
    """The net of first examples, after an embedding of texts: layers of 64 and 32 units, then the outputs."""
    layers = keras.layers
    first = [layers.Flatten()] if len(known["input_shape"]) > 1 else []
    if "vocab_size" in known:
        first = [layers.Embedding(known["vocab_size"], 16, mask_zero=True), layers.GlobalAveragePooling1D()]
    return keras.Sequential(
        [
            keras.Input(known["input_shape"]),
            *first,
            layers.Dense(64, activation="relu"),
            layers.Dense(32, activation="relu"),
            layers.Dense(known["num_outputs"], activation=end),
        ]
    )
