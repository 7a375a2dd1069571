"""Loss and metrics of a user's own, made from nodes of the configuration; data and task fill their arguments."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Mapping
from functools import partial
from typing import Any

import torch
import torchmetrics as tm
from torch import Tensor, nn

from src.errors import UserError
from src.metrics.modes import Mode, mode_of
from src.runtime.own_code import imported, made
from src.spec import DataSpec

NAMED = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


class OwnLoss(nn.Module):
    """Loss of a user's own as a task calls its own: (outputs, target), and by name what it takes beyond.

    It gives a scalar, or a value for each row, of which the mean is taken. What a task gives by name, such as weights
    of classes, may be an attribute instead of an argument, as in torch.nn's losses. Its parameters are trained as well.

    Args:
        target: its dotted name.
        function: takes the outputs and the target.
    """

    def __init__(self, target: str, function: Callable[..., Any]) -> None:
        super().__init__()
        self.target, self.function = target, function
        parameters = inspect.signature(function.forward if isinstance(function, nn.Module) else function).parameters
        self._open = any(one.kind is inspect.Parameter.VAR_KEYWORD for one in parameters.values())
        self._names = set(parameters)

    def forward(self, outputs: Tensor, *arguments: Tensor, reduction: str | None = None, **options: Any) -> Tensor:  # noqa: ANN401
        """Loss of outputs (B, ...): a scalar, with reduction="none" (B, ...).

        Raises:
            UserError: it gives something else, or takes no such option.
        """
        given = {name: value for name, value in (options | {"reduction": reduction}).items() if value is not None}
        ahead = {name: value for name, value in given.items() if self._open or name in self._names}
        loss = self._called(given.keys() - ahead.keys(), given, outputs, *arguments, **ahead)
        shape = tuple(loss.shape) if isinstance(loss, Tensor) else type(loss).__name__
        if isinstance(loss, Tensor) and loss.shape[:1] == outputs.shape[:1]:
            return loss if reduction == "none" else loss.mean()
        if isinstance(loss, Tensor) and loss.numel() == 1 and reduction != "none":
            return loss.reshape(())
        wanted = f"({len(outputs)},)" if reduction == "none" else f"one number, or one for each row ({len(outputs)},)"
        raise UserError(f"task.loss: {self.target} gives {shape} for outputs {tuple(outputs.shape)}, expected {wanted}")

    def _called(self, by_attribute: Collection[str], given: Mapping[str, Any], *arguments: Any, **ahead: Any) -> Any:  # noqa: ANN401
        missing = sorted(name for name in by_attribute if not hasattr(self.function, name))
        if missing:
            why = " (class_weights)" if missing == ["weight"] else ""
            raise UserError(f"task.loss: {self.target} takes no {', '.join(missing)}, which the task gives{why}")
        before = {name: getattr(self.function, name) for name in by_attribute}
        try:
            for name in by_attribute:
                setattr(self.function, name, given[name])
            return self.function(*arguments, **ahead)
        finally:
            for name, value in before.items():
                setattr(self.function, name, value)


def loss_of(node: Mapping[str, Any], spec: DataSpec, task: nn.Module) -> OwnLoss:
    """Make the loss that a node names: a class, or a function of (outputs, target) with its options.

    Raises:
        UserError: it cannot be made.
    """
    target, options = _read("task.loss", node)
    found = imported(target)
    if not callable(found):
        raise UserError(f"task.loss._target_={target} is neither a class nor a function")
    is_class = isinstance(found, type)
    known = facts(spec, task)
    filled = arguments_of(found, options, known, path="task.loss", target=target, skip=0 if is_class else 2)
    built = _make("task.loss", target, found, filled) if is_class else partial(found, **filled) if filled else found
    if not callable(built):
        raise UserError(f"task.loss._target_={target} makes a {type(built).__name__}, which cannot be called as a loss")
    return OwnLoss(target, built)


def metrics_of(nodes: Mapping[str, Any], spec: DataSpec, task: nn.Module) -> dict[str, tm.Metric]:
    """Make the metrics that nodes name, by their names.

    Raises:
        UserError: one cannot be made, or is none of torchmetrics' kind.
    """
    known = facts(spec, task)
    # what torchmetrics calls a task; a metric that takes the whole description knows too much
    known["task"] = "binary" if known["num_outputs"] == 1 else "multiclass"
    del known["spec"]
    found = {}
    for name, node in nodes.items():
        path = f"metrics.{name}"
        if node is None:  # a recipe's, taken out again
            continue
        target, options = _read(path, node)
        factory = imported(target)
        filled = arguments_of(factory, options, known, path=path, target=target)
        built = _make(path, target, factory, filled)
        if not isinstance(built, tm.Metric):
            raise UserError(f"{path}._target_={target} makes a {type(built).__name__}, which is no torchmetrics.Metric")
        found[str(name)] = built
    return found


def direction(name: str, metric: tm.Metric) -> Mode | None:
    """Whether more of a metric is better, as it says itself, else as its name tells; None where neither does."""
    higher = metric.higher_is_better
    return mode_of(name) if higher is None else "max" if higher else "min"


def check_metric(name: str, metric: tm.Metric, prediction: Tensor, target: Tensor) -> None:
    """Try a metric on some rows, and leave it as it is.

    Raises:
        UserError: it fails on them, or gives more than one number.
    """
    path, tried = f"metrics.{name}: {type(metric).__name__}", metric.clone().to(prediction.device)
    try:
        tried.update(prediction, target)
        value = tried.compute()
    except Exception as error:
        shapes = f"predictions {tuple(prediction.shape)} and targets {tuple(target.shape)}"
        raise UserError(f"{path} fails on {shapes} ({reason(error)})") from error
    if not isinstance(value, int | float) and not (isinstance(value, Tensor) and value.numel() == 1):
        shape = f"values {tuple(value.shape)}" if isinstance(value, Tensor) else f"a {type(value).__name__}"
        raise UserError(f"{path} gives {shape}, a metric of a run is one number")


def facts(spec: DataSpec, task: nn.Module) -> dict[str, Any]:
    """What data and task tell the arguments of a user's own class or function, by their names."""
    outputs = task.num_outputs
    return {
        **spec.input.arguments,
        **({"num_classes": spec.num_classes} if spec.num_classes else {}),
        **{"num_outputs": outputs, "out_features": outputs, "spec": spec, "task": task},
    }


def arguments_of(
    factory: Callable[..., Any],
    options: Mapping[str, object],
    known: Mapping[str, Any],
    *,
    path: str,
    target: str,
    skip: int = 0,
) -> dict[str, Any]:
    """Options of a user's own class or function, and beside them what is known, by name.

    Args:
        known: as `facts` gives it.
        path: where the options stand in the configuration.
        target: the factory's dotted name.
        skip: arguments that it is called with later, the first ones.

    Raises:
        UserError: an argument without a default that neither fills.
    """
    parameters = dict(list(inspect.signature(factory).parameters.items())[skip:])
    filled = {name: known[name] for name in parameters if name in known and name not in options}
    for name, parameter in parameters.items():
        needed = parameter.kind in NAMED and parameter.default is parameter.empty
        if needed and name not in options and name not in filled:
            fills = ", ".join(sorted(known.keys() - {"spec", "task"}))
            raise UserError(f"{path}.{name}: {target} needs it, and data and task do not tell (they tell: {fills})")
    return filled | dict(options)


def reason(error: BaseException) -> str:
    """Kind and first line of an error."""
    return f"{type(error).__name__}: {error}".splitlines()[0]


def _read(path: str, node: Any) -> tuple[str, dict[str, Any]]:  # noqa: ANN401 (any part of a configuration)
    if not isinstance(node, Mapping) or "_target_" not in node:
        raise UserError(f"{path}: expects a node with _target_, the dotted name of a class or function")
    return str(node["_target_"]), made({key: value for key, value in node.items() if not key.startswith("_")}, path)


def _make(path: str, target: str, factory: Callable[..., Any], options: Mapping[str, Any]) -> Any:  # noqa: ANN401
    try:
        return factory(**options)
    except Exception as error:
        raise UserError(f"{path}: {target} cannot be made ({reason(error)})") from error


def check_loss(loss: OwnLoss, value: Tensor, rows: int) -> None:
    """Make sure that a loss of some rows can be trained with.

    Raises:
        UserError: it has no gradient, or is not finite.
    """
    if not value.requires_grad:
        raise UserError(
            f"task.loss: {loss.target} has no gradient: it must be made of the outputs by operations of torch, without"
            " detach(), item(), argmax() or no_grad()"
        )
    if not torch.isfinite(value):
        raise UserError(f"task.loss: {loss.target} is {value.item()} for the first {rows} rows of the training split")
