"""A torch module from outside this project as a model: its constructor is filled from the data, its outputs are judged.

The module needs no base class of this project: `forward` takes a batch of inputs, and gives what the task takes.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from src.errors import UserError
from src.models.base import Model
from src.spec import DataSpec, InputSpec
from src.tasks.base import Task

# constructor arguments that data and task may fill, whatever the modality; see InputSpec.arguments for the others
OF_TARGET = ("num_classes", "num_outputs", "out_features")


class OwnModule(Model):
    """Base of the families that `wrapped` makes: the module is `self.net`.

    The input is in standard units of the training split, unless the module says `raw_input = True`; token ids stay what
    they are. Outputs are what the task takes: logits (B, C) of classes, (B, 1) or (B,) of two classes or of a number,
    which is in standard units of the training target.

    Class attributes:
        factory: the module's class, or a function that makes one.
        target: its dotted name.
    """

    inputs: ClassVar[tuple[type[InputSpec], ...]] = (InputSpec,)
    tasks: tuple[str, ...] = ("classification", "binary", "regression", "forecasting", "causal_lm", "masked_lm")
    heads: tuple[str, ...] = ()
    factory: ClassVar[Callable[..., Any]]
    target: ClassVar[str]

    def __init__(self, spec: DataSpec, task: Task, **options: object) -> None:
        super().__init__(spec, task)
        self.net = made(self.target, self.factory, spec, task, options)

    def forward(self, x: Tensor) -> Tensor:
        """Raw inputs (B, ...) to the task's outputs (B, K)."""
        outputs = self.net(self.taken(x))
        return outputs.unsqueeze(1) if outputs.ndim == 1 and self.task.num_outputs == 1 else outputs

    def taken(self, x: Tensor) -> Tensor:
        """Raw inputs as the module takes them."""
        if getattr(self.net, "raw_input", False):
            return x
        is_count = not (x.is_floating_point() or self.spec.input.mean)
        return x.long() if is_count else self.normalize(x)

    def check_outputs(self, batch: Mapping[str, Tensor]) -> None:
        """Try the module on some rows, and leave it as it is.

        Raises:
            UserError: it fails on them, or gives something else than the task takes: both shapes.
        """
        name, training = type(self).__name__, self.training
        self.eval()
        try:
            with torch.no_grad(), torch.random.fork_rng():
                batch = self.task.prepare(batch)
                outputs = self.outputs(batch)
        except Exception as error:
            shape = tuple(batch["input"].shape)
            reason = f"{type(error).__name__}: {error}".splitlines()[0]
            raise UserError(f"model: {name} fails on an input of shape {shape} ({reason})") from error
        finally:
            self.train(training)
        rows = batch["input"].shape[:2] if self.task.per_token else batch["input"].shape[:1]
        needed = (*rows, self.task.num_outputs)
        if not isinstance(outputs, Tensor) or tuple(outputs.shape) != needed:
            found = tuple(outputs.shape) if isinstance(outputs, Tensor) else type(outputs).__name__
            raise UserError(f"model: {name} gives outputs {found}, the task {self.task.name} takes {needed}")


def made(
    target: str, factory: Callable[..., Any], spec: DataSpec, task: Task, options: Mapping[str, object]
) -> nn.Module:
    """Make the module of a user's own.

    Raises:
        UserError: an argument that nothing fills, an error of its constructor, or what it makes is no module.
    """
    known = {
        **spec.input.arguments,
        **({"num_classes": spec.num_classes} if spec.num_classes else {}),
        "num_outputs": task.num_outputs,
        "out_features": task.num_outputs,
        "spec": spec,
        "task": task,
    }
    parameters = inspect.signature(factory).parameters
    filled = {name: known[name] for name in parameters if name in known and name not in options}
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    for name, parameter in parameters.items():
        needed = parameter.kind in named and parameter.default is parameter.empty
        if needed and name not in options and name not in filled:
            fills = ", ".join(sorted(known.keys() - {"spec", "task"}))
            raise UserError(f"model.{name}: {target} needs it, and data and task do not tell (they tell: {fills})")
    try:
        net = factory(**filled, **options)
    except Exception as error:
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise UserError(f"model: {target} cannot be made ({reason})") from error
    if not isinstance(net, nn.Module):
        raise UserError(f"model._target_={target} makes a {type(net).__name__}, which is no torch.nn.Module")
    return net
