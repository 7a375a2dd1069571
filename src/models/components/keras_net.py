"""A Keras 3 model on its torch backend as a torch module that is a function of its own parameters and buffers.

Keras models on that backend are torch modules already, but not ones to train here: `train()` and `eval()` do not reach
their Dropout, names in `state_dict` count how many models the process has made, and random state is a parameter.
"""

from __future__ import annotations

import importlib
import os
import random
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn

from src.errors import UserError
from src.runtime import optional, trust

BACKEND = "KERAS_BACKEND"
# where Keras itself keeps what the configuration of a net may name
HARMLESS = re.compile(
    r"builtins|keras(\.src)?(\.(layers|models|ops|initializers|regularizers|constraints|activations|dtype_policies)(\.\w+)*)?"
)
HOLD_CODE = ("Lambda", "__lambda__", "TorchModuleWrapper", "TFSMLayer", "JaxLayer", "FlaxLayer")
SEED = "seed_generator_state"  # variables of this name are random state
PROBABILITIES = {"softmax": "softmax", "sigmoid": "sigmoid", "Softmax": "softmax", "Sigmoid": "sigmoid"}
SCALING = ("Rescaling", "Normalization")


def torch_keras(for_: str) -> Any:  # noqa: ANN401 (a module without types)
    """Import Keras on its torch backend.

    Args:
        for_: what needs it, as the user gave it.

    Raises:
        UserError: it is not installed, or runs on another backend already.
    """
    optional.require("keras", optional.extra("keras"), for_=for_)
    if "keras" not in sys.modules:
        os.environ[BACKEND] = "torch"
    try:
        keras = importlib.import_module("keras")
        backend = keras.backend.backend()
    except ImportError as error:
        raise UserError(f"{for_}: Keras cannot be imported ({error}); it needs {BACKEND}=torch") from error
    if backend != "torch":
        raise UserError(f"{for_}: Keras was imported with the backend {backend} before; set {BACKEND}=torch")
    return keras


def reason(error: Exception) -> str:
    """The line of one of Keras's messages that says what is wrong."""
    lines = [line for line in re.sub(r"\x1b\[\d*m", "", str(error)).splitlines() if line.strip()]
    behind = [line.partition(": ")[2] for line in lines if line.startswith("Exception encountered: ")]
    telling = [line for line in lines if not line.startswith("Exception encountered when")]
    return (behind or telling or [type(error).__name__])[0].partition(" Full object config")[0].strip().rstrip(".")


# the configuration of a net as plain data -----------------------------------------------------------------------------


def check(architecture: object, where: str, *, foreign: bool = False) -> None:
    """Make sure that a net's configuration is of Keras's own parts and of trusted packages alone.

    Args:
        where: the net, at the beginning of a message.
        foreign: parts may be of any package, as the user has named the code that made the net.

    Raises:
        UserError: it names other code, or holds code itself.
    """
    for node in _nodes(architecture):
        title, module = str(node.get("class_name", "")), node.get("module")
        if title in HOLD_CODE:
            raise UserError(f"{where}: a {title.strip('_')} layer holds code, which no checkpoint does: write a Layer")
        if foreign or not isinstance(module, str) or HARMLESS.fullmatch(module):
            continue
        try:
            trust.check_named(f"{module}.{title}")
        except UserError as error:
            raise UserError(f"{where}: {error}") from error


def _nodes(part: object) -> Iterator[Mapping[str, Any]]:
    if isinstance(part, Mapping):
        if "class_name" in part or "module" in part:
            yield part
        for inner in part.values():
            yield from _nodes(inner)
    elif isinstance(part, list | tuple):
        for inner in part:
            yield from _nodes(inner)


def without_probabilities(architecture: dict[str, Any]) -> tuple[dict[str, Any], str | None]:
    """The same net without a softmax or sigmoid at its end, and the name of that; None: there is none to be seen."""
    changed = deepcopy(architecture)
    last = _last_layer(changed)
    if last is None:
        return architecture, None
    config = last["config"]
    name = config.get("activation") if last["class_name"] not in PROBABILITIES else last["class_name"]
    if not isinstance(name, str) or name not in PROBABILITIES:
        return architecture, None
    if last["class_name"] in PROBABILITIES:
        kept = {key: config[key] for key in ("name", "dtype", "trainable") if key in config}
        last |= {"module": "keras.layers", "class_name": "Activation", "config": kept, "registered_name": None}
        for node in last.get("inbound_nodes", ()):
            node["kwargs"] = {}  # which are the softmax layer's own
    last["config"]["activation"] = "linear"
    return changed, PROBABILITIES[name]


def _last_layer(node: dict[str, Any]) -> dict[str, Any] | None:
    """The layer that gives a net's one output; None where that cannot be read."""
    layers = node["config"].get("layers")
    if not layers:
        return None
    outputs = node["config"].get("output_layers")
    if outputs is None:
        last = layers[-1]
    else:
        names = [outputs[0]] if isinstance(outputs[0], str) else [output[0] for output in outputs]
        last = next(layer for layer in layers if layer["config"]["name"] == names[0])
        if len(names) > 1 or len(last.get("inbound_nodes", ())) > 1:
            return None
    return _last_layer(last) if "layers" in last["config"] else last


def scales_itself(architecture: dict[str, Any]) -> bool:
    """True if a net begins with Rescaling or Normalization, so that it takes raw values."""
    for layer in architecture["config"].get("layers") or ():
        if layer["class_name"] != "InputLayer":
            return layer["class_name"] in SCALING or ("layers" in layer["config"] and scales_itself(layer))
    return False


def rebuilt(keras: Any, architecture: dict[str, Any], where: str) -> Any:  # noqa: ANN401 (a net of Keras)
    """A net by its configuration, with random weights.

    Raises:
        UserError: Keras cannot make it.
    """
    try:
        with keras.device("cpu"):
            net = keras.saving.deserialize_keras_object(deepcopy(architecture), safe_mode=True)
    except Exception as error:
        raise UserError(
            f"{where}: Keras does not make the net again from its configuration ({reason(error)}); layers and "
            "functions of your own need get_config and @keras.saving.register_keras_serializable"
        ) from error
    if not isinstance(net, keras.Model) or not net.built:
        raise UserError(f"{where}: no keras.Model that knows its layers' sizes; begin it with keras.Input")
    return net


@contextmanager
def fresh_names_and_seeds(keras: Any) -> Iterator[None]:  # noqa: ANN401
    """Have Keras count its layers from the beginning, and draw initial weights from torch's random state."""
    policy, state = keras.config.dtype_policy(), random.getstate()
    keras.utils.clear_session(free_memory=False)
    keras.config.set_dtype_policy(policy)
    random.seed(int(torch.randint(2**31 - 1, ())))
    try:
        yield
    finally:
        random.setstate(state)


# the net as a module --------------------------------------------------------------------------------------------------


class KerasNet(nn.Module):
    """A Keras model whose trainable variables are this module's parameters, and the others its buffers.

    Random state is drawn anew from torch's in each training step, so it is no part of a checkpoint.

    Args:
        keras: the imported package.
        net: the model, built.
        of_images: the input has its channels first (B, C, ...), and Keras is given them last.

    Attributes:
        raw_input: the input is taken as it is, not in standard units.
        penalty: what regularisers of the layers added in the last training step; None: nothing.
    """

    def __init__(self, keras: Any, net: Any, *, of_images: bool, raw_input: bool) -> None:  # noqa: ANN401
        super().__init__()
        self.keras, self.of_images, self.raw_input = keras, of_images, raw_input
        self.penalty: Tensor | None = None
        with keras.device("cpu"), keras.StatelessScope():
            pass  # the first time such a scope ends it leaves a trace, and torch.compile would begin again for that
        self._net = (net,)  # in a tuple, so that torch sees the variables under the names below alone
        self._variables = dict(zip(_names(net), net.variables, strict=True))
        for name, variable in self._variables.items():
            value = variable.value.detach()
            if variable.trainable:
                self.register_parameter(name, nn.Parameter(value))
            else:
                self.register_buffer(name, value, persistent=variable.name != SEED)

    def forward(self, x: Tensor) -> Tensor:
        """Inputs (B, ...) to the net's outputs."""
        x = x.movedim(1, -1) if self.of_images else x
        scope = self.keras.StatelessScope(collect_losses=self.training)
        if self.training:
            self._draw_seeds(x.device)
        scope.state_mapping = {id(variable): getattr(self, name) for name, variable in self._variables.items()}
        with self.keras.device(x.device.type), scope:
            outputs = self._net[0](x, training=self.training)
            if self.training:
                self.penalty = self._penalty(scope.losses)
        if self.training:
            self._update(scope)
        return outputs

    def _draw_seeds(self, device: torch.device) -> None:
        for name, variable in self._variables.items():
            if variable.name == SEED:
                seed = torch.randint(2**31 - 1, variable.shape, device=device)
                setattr(self, name, seed.to(getattr(self, name).dtype))

    def _penalty(self, losses: list[Tensor]) -> Tensor | None:
        """Sum of the layers' own losses and of what their weights are regularised by."""
        terms = list(losses)
        for name, variable in self._variables.items():
            if variable.trainable and variable.regularizer is not None:
                terms.append(variable.regularizer(getattr(self, name)))
        return torch.stack([term.sum() for term in terms]).sum() if terms else None

    @torch.no_grad()
    def _update(self, scope: Any) -> None:  # noqa: ANN401
        """Take over what the layers have measured, such as the means of batch normalisation."""
        known = {id(variable) for variable in self._variables.values()}
        if strange := [id_ for id_ in scope.state_mapping if id_ not in known]:
            raise UserError(
                f"model: {self._net[0].name} changes {len(strange)} variables that are none of its layers', such as "
                "the random state that keras.random takes without seed=: a resumed run could not restore them; give "
                "the layer a keras.random.SeedGenerator of its own"
            )
        for name, variable in self._variables.items():
            value = scope.get_current_value(variable)
            if not variable.trainable and value is not getattr(self, name) and variable.name != SEED:
                getattr(self, name).copy_(value)

    def check_random_state(self, x: Tensor) -> None:
        """Take a training step's way through the net, and leave it as it is.

        Raises:
            UserError: random numbers come from where a resumed run could not restore them.
        """
        training, before = self.training, {name: value.clone() for name, value in self.named_buffers()}
        try:
            with torch.no_grad(), torch.random.fork_rng():
                self.train()(x)
        finally:
            self.train(training)
            for name, value in before.items():
                getattr(self, name).copy_(value)

    def weights(self) -> list[Any]:
        """Values of all variables that Keras saves, in the order of its `set_weights`."""
        by_variable = {id(variable): name for name, variable in self._variables.items()}
        return [getattr(self, by_variable[id(v)]).detach().cpu().numpy() for v in self._net[0].weights]


def _names(net: Any) -> list[str]:  # noqa: ANN401
    """Paths of a net's variables without its own name, each one once: `dense/kernel`."""
    names: list[str] = []
    for variable in net.variables:
        name = variable.path.removeprefix(f"{net.name}/").replace(".", "_")
        names.append(f"{name}_{len(names)}" if name in names else name)
    return names
