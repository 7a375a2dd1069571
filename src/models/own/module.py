"""A torch module from outside this project as a model: its constructor is filled from the data, its outputs are judged.

The module needs no base class of this project: `forward` takes a batch of inputs, and gives what the task takes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from src.errors import UserError
from src.models.base import Model
from src.runtime import own_code
from src.runtime.placeholders import filled
from src.spec import DataSpec, InputSpec
from src.tasks.base import Task
from src.tasks.own import arguments_of, facts


class OwnModule(Model):
    """Base of the families that `wrapped` makes: the module is `self.net`.

    The input is in standard units of the training split, unless the module says `raw_input = True`; token ids stay what
    they are. Outputs are what the task takes: logits (B, C) of classes, of two also (B, 1) or (B,) of the second;
    (B, 1) or (B,) of a number, which is in standard units of the training target.

    Class attributes:
        factory: the module's class, or a function that makes one.
        target: its dotted name.
        own_steps: whether the steps of a LightningModule train it.
    """

    inputs: ClassVar[tuple[type[InputSpec], ...]] = (InputSpec,)
    tasks: tuple[str, ...] = ("classification", "binary", "regression", "forecasting", "causal_lm", "masked_lm")
    heads: tuple[str, ...] = ()
    factory: ClassVar[Callable[..., Any]]
    target: ClassVar[str]
    own_steps: ClassVar[bool] = False

    def __init__(self, spec: DataSpec, task: Task, **options: object) -> None:
        super().__init__(spec, task)
        self.net = self.make(options)
        if isinstance(self.net, pl.LightningModule) and not self.own_steps:
            name = type(self.net).__name__
            raise UserError(f"model: {self.target} makes a LightningModule: say so in its annotation (`-> {name}:`)")
        self.raw_input = bool(getattr(self.net, "raw_input", False))

    def make(self, options: Mapping[str, object]) -> nn.Module:
        """Make the module by these options.

        Raises:
            UserError: an option that nothing fills, an error of its constructor, or what it makes is no module.
        """
        net = made(self.target, self.factory, facts(self.spec, self.task), options)
        if not isinstance(net, nn.Module):
            raise UserError(f"model._target_={self.target} makes a {type(net).__name__}, which is no torch.nn.Module")
        return net

    def forward(self, x: Tensor) -> Tensor:
        """Raw inputs (B, ...) to the task's outputs (B, K)."""
        outputs = self.net(self.taken(x))
        if self.task.num_outputs == 1:
            if outputs.ndim == 1:
                return outputs.unsqueeze(1)
            if self.spec.num_classes == 2 and outputs.shape[1:] == (2,):
                return outputs.diff(dim=1)  # softmax of two logits is the sigmoid of their difference
        return outputs

    def taken(self, x: Tensor) -> Tensor:
        """Raw inputs as the module takes them."""
        if self.raw_input:
            return x
        is_count = not (x.is_floating_point() or self.spec.input.mean)
        return x.long() if is_count else self.normalize(x)

    def adapt_state_dict(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Weights of the module alone too, and of the layers alone that it keeps in one attribute: their names lack
        what stands before all names here.
        """
        own = self.state_dict()
        parts = [same[0] for same in zip(*(name.split(".")[:-1] for name in own), strict=False) if len(set(same)) == 1]
        places = [".".join([*parts[: length + 1], ""]) for length in range(len(parts))]
        return {
            name if name in own else next((f"{p}{name}" for p in places if f"{p}{name}" in own), name): tensor
            for name, tensor in state.items()
        }

    @staticmethod
    def reason(error: Exception) -> str:
        """What is wrong, in a line, when the module fails."""
        return f"{type(error).__name__}: {error}".splitlines()[0]

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
            raise UserError(f"model: {name} fails on an input of shape {shape} ({self.reason(error)})") from error
        finally:
            self.train(training)
        rows = batch["input"].shape[:2] if self.task.per_token else batch["input"].shape[:1]
        needed = (*rows, self.task.num_outputs)
        if not isinstance(outputs, Tensor) or tuple(outputs.shape) != needed:
            found = tuple(outputs.shape) if isinstance(outputs, Tensor) else type(outputs).__name__
            raise UserError(f"model: {name} gives outputs {found}, the task {self.task.name} takes {needed}")


def made(target: str, factory: Callable[..., Any], known: Mapping[str, Any], options: Mapping[str, object]) -> object:
    """Make what a user's own constructor makes; nodes among its options are made before, placeholders filled.

    Args:
        known: what fills its arguments where the options do not; see `facts`.

    Raises:
        UserError: a placeholder or an argument that nothing fills, or an error of its own.
    """
    plain = {name: value for name, value in known.items() if name not in ("spec", "task")}
    options = own_code.made(filled(dict(options), plain, "model"), "model")
    arguments = arguments_of(factory, options, known, path="model", target=target)
    try:
        return factory(**arguments)
    except Exception as error:
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise UserError(f"model: {target} cannot be made ({reason})") from error
