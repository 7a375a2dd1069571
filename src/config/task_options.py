"""Options of a configured task, read from the source of its class and of its losses: what `make_task` hands on to them.

Of `name: auto` the options of all tasks, since only the data says which one it is; those that do not concern the chosen
one are refused then.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cache
from typing import Any

from src.config.signature import Module, NoSource, NotFound, Parameter, Signature, find, lineage, resolve, signature
from src.tasks import registry

TARGET = "src.tasks.make_task"
OWN_DATA = ("src.data.own.dataset.OwnData", "src.data.own.frames.Frames", "src.data.own.texts.OwnTexts")


def accepted_by(node: Mapping[str, Any]) -> Signature:
    """Options that a node accepts: those of its `_target_`, of a task's those of the task that it names.

    Raises:
        NotFound: the target leads nowhere.
    """
    return _of_task(node) if node["_target_"] == TARGET else signature(node["_target_"])


def common_data_options(target: str) -> dict[str, Parameter]:
    """Options of a user's own data, of whatever form it is, without those that its constructor takes itself."""
    accepted = signature(target)
    if target.startswith("src.") or accepted.open:
        return {}
    given = ("made", "title")
    common = {name: one for form in OWN_DATA for name, one in signature(form).parameters.items()}
    return {name: one for name, one in common.items() if name not in accepted.parameters and name not in given}


def _of_task(node: Mapping[str, Any]) -> Signature:
    """Options of a task's node. Open for a task that is not known yet: what registers it may come with the model.

    An option of another task is accepted with its default value alone.
    """
    common = {name: signature(TARGET).parameters[name] for name in registry.COMMON}
    task = node.get("name", registry.AUTO)
    names = registry.task_names()
    if task == registry.AUTO:
        options = {name: one for target in _targets(names) for name, one in _options(target).items()}
        losses = [loss for target in _targets(names) for loss in _losses(target)]
        return Signature(common | options | {"loss": _one_of(common["loss"], losses)})
    target = registry.target_of(task) if isinstance(task, str) else None
    if target is None:
        return Signature(common, open=True)
    options = _options(target)
    idle = {
        name: option
        for other in _targets(names)
        for name, option in _options(other).items()
        if name in node and name not in options and _is_default(option, node[name])
    }
    if losses := list(_losses(target)):
        common["loss"] = _one_of(common["loss"], losses)
    elif "loss" not in node or node["loss"] is not None:  # it is the model's own, and nothing can be asked for
        del common["loss"]
    return Signature(common | options | idle, title=f"the task {task}")


def _targets(names: tuple[str, ...]) -> list[str]:
    return [target for name in names if (target := registry.target_of(name))]


@cache
def _options(target: str) -> dict[str, Parameter]:
    """Options of a task, and of all its losses."""
    own = [signature(target), *(signature(loss) for loss in _losses(target).values() if loss)]
    parameters = {name: one for accepted in own for name, one in accepted.parameters.items()}
    return {name: one for name, one in parameters.items() if one.default is not None and name not in registry.COMMON}


@cache
def _losses(target: str) -> dict[str, str]:
    """Losses of a task, each with the dotted name of the class that makes it; empty for a plain function."""
    try:
        module, node = resolve(target)
        for owner, cls in lineage(module, node) if isinstance(node, ast.ClassDef) else ():
            for item in cls.body:
                if any(isinstance(at, ast.Name) and at.id == "losses" for at in _assigned(item)):
                    return dict(_named(owner, getattr(item, "value", None)))
    except (NoSource, NotFound):
        pass
    return {}


def _assigned(item: ast.stmt) -> list[ast.expr]:
    return item.targets if isinstance(item, ast.Assign) else [item.target] if isinstance(item, ast.AnnAssign) else []


def _named(module: Module, value: ast.expr | None) -> Iterator[tuple[str, str]]:
    pairs = zip(value.keys, value.values, strict=True) if isinstance(value, ast.Dict) else ()
    for key, loss in pairs:
        if isinstance(key, ast.Constant):
            # torch's own functions are attributes of a module, and have no options
            owner, found = find(loss.id, module) if isinstance(loss, ast.Name) else (module, None)
            yield str(key.value), f"{owner.name}.{found.name}" if isinstance(found, ast.ClassDef) else ""


def _one_of(parameter: Parameter, names: list[str]) -> Parameter:
    """The parameter with known names as its values; None where that is its default."""
    if not names:
        return parameter
    null = " | None" if isinstance(parameter.default, ast.Constant) and parameter.default.value is None else ""
    literal = f"Literal[{', '.join(map(repr, dict.fromkeys(names)))}]{null}"
    return replace(parameter, annotation=ast.parse(literal, mode="eval").body)


def _is_default(option: Parameter, value: object) -> bool:
    try:
        return bool(option.default is not None and ast.literal_eval(option.default) == value)
    except ValueError:
        return False
