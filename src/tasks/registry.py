"""Registry of tasks, and the task of a configuration for a dataset and a model.

A task is found by its name: those of this package in its folders, which are read and not imported for it, as is the
folder `tasks` of a user's own project and of a plugin; others once the module that registers them is imported. Imports
no torch, so that a configuration can be checked early.
"""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeVar

from src.errors import UserError, suggest
from src.metrics.modes import Mode, mode_of, without_stage
from src.runtime import plugins

if TYPE_CHECKING:
    from src.spec import DataSpec
    from src.tasks.base import Task

AUTO = "auto"  # the first task that data and model have in common
COMMON = ("name", "loss", "monitor")  # options of every task
REGISTRATION = re.compile(r'^@register_task\("(\w+)"\)\nclass (\w+)', re.MULTILINE)

T = TypeVar("T", bound="type[Task]")
_registered: dict[str, type[Task]] = {}


def register_task(name: str) -> Callable[[T], T]:
    """Make a subclass of Task known by a name, for `task=NAME` and for datasets and models that name it.

    Raises:
        ValueError: another class has that name.
    """

    def register(cls: T) -> T:
        known = target_of(name)
        if known not in (None, dotted(cls)):
            raise ValueError(f"the task {name} is {known}: {dotted(cls)} needs a name of its own")
        cls.name = name
        _registered[name] = cls
        return cls

    return register


def dotted(cls: type) -> str:
    """Module and name of a class: `src.tasks.detection.task.Detection`."""
    return f"{cls.__module__}.{cls.__qualname__}"


@cache
def built_in() -> dict[str, str]:
    """Names of the tasks in the folders beside this file, with the dotted names of their classes; imports none."""
    return _read(__package__ or "", sorted(Path(__file__).parent.glob("*/task.py")), Path(__file__).parent)


@cache
def own() -> dict[str, str]:
    """The same of the tasks in the folders `tasks` of the user's own project and of plugins."""
    found: dict[str, str] = {}
    for package, folder in plugins.packages():
        found = _read(f"{package}.tasks", sorted((folder / "tasks").rglob("*.py")), folder / "tasks") | found
    return found


def from_outside() -> tuple[str, ...]:
    """Names of the tasks that are not of this package, as far as they are known by now."""
    return tuple(name for name in task_names() if name not in built_in())


def _read(package: str, paths: Iterable[Path], folder: Path) -> dict[str, str]:
    """Tasks that files of a package register, by their names."""
    found = {}
    for path in paths:
        module = ".".join([package, *path.relative_to(folder).with_suffix("").parts]).removesuffix(".__init__")
        for name, cls in REGISTRATION.findall(path.read_text(encoding="utf-8", errors="replace")):
            found[name] = f"{module}.{cls}"
    return found


def task_names() -> tuple[str, ...]:
    """Names of all tasks: those of this package, and those from outside."""
    return tuple(dict.fromkeys([*built_in(), *own(), *_registered]))


def target_of(name: str) -> str | None:
    """Dotted name of a task's class; None for a task that is not known, or not yet."""
    known = built_in().get(name) or own().get(name)
    return known or (dotted(_registered[name]) if name in _registered else None)


def task_class(name: str) -> type[Task]:
    """Class of a task; imports its module.

    Raises:
        UserError: there is no such task.
    """
    if name not in _registered:
        if target := target_of(name):
            importlib.import_module(target.rpartition(".")[0])
        else:
            plugins.load()
    if name not in _registered:
        raise UserError(f"task={name}: there is no such task{suggest(name, task_names())}")
    return _registered[name]


def offered_tasks(spec: DataSpec) -> tuple[str, ...]:
    """Tasks that data of this spec offers, its usual one first; then those of elsewhere that such data serves too."""
    others = [name for name, cls in _registered.items() if name not in built_in() and cls.offered_by(spec)]
    return tuple(dict.fromkeys([*spec.tasks, *others]))


def common_tasks(spec: DataSpec, supported: tuple[str, ...], wanted: str = AUTO) -> list[str]:
    """Tasks that both data of this spec offers and a model supports, in the order of the data.

    Where the data names none of them, or not the wanted one, those follow that take up such data themselves
    (`Task.offered_by`); others are not asked, since that imports them.
    """
    named = [task for task in offered_tasks(spec) if task in supported]
    if named and wanted in (AUTO, *named):
        return named
    others = [task for task in supported if task not in named and target_of(task) is not None]
    return named + [task for task in others if task_class(task).offered_by(spec)]


def make_task(
    spec: DataSpec,
    supported: tuple[str, ...],
    *,
    name: str = AUTO,
    loss: str | Mapping[str, Any] | None = None,
    monitor: str | None = None,
    metrics: Mapping[str, Any] | None = None,
    metric_modes: Mapping[str, Mode] | None = None,
    logs: bool = False,
    **options: object,
) -> Task:
    """Make the first task that both the data offers and the model supports, or the one asked for.

    Args:
        spec: description of the data.
        supported: tasks that the model can serve.
        name: a task, or `auto`.
        loss: one of the task's losses, or a node of the user's own; None is the usual one.
        monitor: validation metric that picks the best checkpoint, stops early and is the objective; None is the
            task's own.
        metrics: nodes of metrics of the user's own, by name.
        metric_modes: whether `max` or `min` is better, by name, of metrics of which that is not known.
        logs: whether the model logs metrics of its own, which may be monitored as well.
        options: options of the task and of its loss. One of other tasks or losses may be given with its default value,
            which asks for nothing.

    Raises:
        UserError: no common task, a loss, a metric or an option that the task does not have, a value that it cannot
            take.
    """
    cls = task_class(_chosen(spec, supported, name))
    own_loss = None if loss is None or isinstance(loss, str) else loss
    chosen = _loss_of(cls, spec, loss)
    factory = None if own_loss else cls.losses.get(chosen)
    own, of_loss = options_of(cls), options_of(factory)
    for option, value in options.items():
        if option not in own | of_loss and not is_default(option, value):
            raise UserError(_foreign(cls, chosen, option, own | of_loss))
    made = factory(**_picked(options, of_loss)) if isinstance(factory, type) else factory
    task = cls(spec, made, **_picked(options, own))
    task.take_own(own_loss, metrics or {}, metric_modes or {})
    task.monitor = cls.monitor if monitor is None else _monitored(task, monitor, logs)
    return task


def _monitored(task: Task, monitor: str, logs: bool) -> str:
    """Name of the metric to be monitored, whose mode is known then.

    Raises:
        UserError: there is none of that name, or nobody has said whether more of it is better.
    """
    name = monitor if monitor in task.metric_modes else without_stage(monitor)
    if name in task.metric_modes:
        return name
    if name in task.own_metrics:
        raise UserError(
            f"task.monitor={monitor}: say whether more or less of it is better, metric_modes.{name}=max or min"
        )
    if logs and (mode := mode_of(name)):
        task.metric_modes = {**task.metric_modes, name: mode}
        return name
    advice = f"; of what the model logs itself, say which is better: metric_modes.{name}=max or min" if logs else ""
    known = ", ".join(task.metric_modes)
    raise UserError(f"task.monitor={monitor} is no metric of {task.name} (known: {known}){advice}")


def saved_task(
    spec: DataSpec,
    supported: tuple[str, ...],
    name: str,
    node: Mapping[str, Any],
    *,
    metrics: Mapping[str, Any] | None = None,
    metric_modes: Mapping[str, Mode] | None = None,
    logs: bool = False,
) -> Task:
    """Make the task of a saved configuration anew.

    Args:
        name: the task that was chosen.
        metrics, metric_modes, logs: as of `make_task`.
        node: its saved options. Those that do not concern it are left out: earlier releases wrote the options of all
            tasks, and ignored some.
    """
    cls = task_class(name)
    loss = node.get("loss")
    known: Mapping[str, Any] = options_of(cls)
    if loss is None or isinstance(loss, str):
        known = known | options_of(cls.losses.get(loss or cls.default_loss(spec)))
    kept = _picked(node, known) | {"loss": loss, "monitor": node.get("monitor")}
    return make_task(spec, supported, name=name, metrics=metrics, metric_modes=metric_modes, logs=logs, **kept)


def options_of(owner: object) -> MappingProxyType[str, Any]:
    """Options of a task or a loss with their default values: the keyword arguments of its constructor that have one.

    A loss that is a plain function has none.
    """
    return _defaults(owner) if isinstance(owner, type) else MappingProxyType({})


@cache
def _defaults(owner: type) -> MappingProxyType[str, Any]:
    parameters = inspect.signature(owner).parameters.values()
    found = {p.name: p.default for p in parameters if p.default is not p.empty and p.name != "loss"}
    return MappingProxyType(found)


def is_default(option: str, value: object) -> bool:
    """True if an option of some task or loss is given with its default value, and so asks for nothing."""
    return any(value == known[option] for _, known in _known_options() if option in known)


def _known_options() -> Iterator[tuple[str, dict[str, Any]]]:
    """Name of each task with the options of it and of all its losses; first those that are imported already."""
    for name in sorted(task_names(), key=lambda name: name not in _registered):
        cls = task_class(name)
        of_losses = [options_of(loss) for loss in cls.losses.values()]
        yield name, {option: default for known in [options_of(cls), *of_losses] for option, default in known.items()}


def _chosen(spec: DataSpec, supported: tuple[str, ...], name: str) -> str:
    common = common_tasks(spec, supported, name)
    if name == AUTO:
        if not common:
            offered = ", ".join(offered_tasks(spec))
            raise UserError(f"data={spec.name} offers {offered}; the model serves {', '.join(supported)}")
        return common[0]
    if name not in common:
        raise UserError(f"task={name} does not fit data={spec.name} and this model{suggest(name, common)}")
    return name


def _loss_of(cls: type[Task], spec: DataSpec, loss: str | Mapping[str, Any] | None) -> str:
    if isinstance(loss, Mapping):  # of the user's own
        loss = str(loss.get("_target_"))
        if cls.losses and cls.takes_own_loss:
            return loss
        if cls.losses:
            raise UserError(f"task.loss: {cls.name} takes no loss but its own{suggest('', cls.losses)}")
    if loss and not cls.losses:
        raise UserError(f"task.loss={loss}: the loss of {cls.name} is the model's own")
    chosen = loss or cls.default_loss(spec)
    if cls.losses and chosen not in cls.losses:
        raise UserError(f"task.loss={chosen} is no loss of this task{suggest(chosen, cls.losses)}")
    return chosen


def _picked(options: Mapping[str, Any], known: Mapping[str, Any]) -> dict[str, Any]:
    return {option: value for option, value in options.items() if option in known}


def _foreign(cls: type[Task], loss: str, option: str, known: Mapping[str, Any]) -> str:
    """One line about an option that does not concern the task or its loss."""
    losses = [name for name, factory in cls.losses.items() if option in options_of(factory)]
    if losses:
        return f"task.{option} is for {' or '.join(losses)}, not for task.loss={loss}"
    owners = [name for name, options in _known_options() if option in options]
    own = sorted({*known, *COMMON[1:]})
    if not owners:
        return f"task.{option} is no option of {cls.name}{suggest(option, own)}"
    return f"task.{option} is for {', '.join(owners)}, not for {cls.name} (its options: {', '.join(own)})"
