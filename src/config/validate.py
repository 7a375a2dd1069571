"""Checks a composed configuration before anything is imported: every key, type and choice against the signatures."""

from __future__ import annotations

import ast
import difflib
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from functools import cache
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import InterpolationKeyError, InterpolationResolutionError, OmegaConfBaseException

from src.config import schemas
from src.config.annotation import Kind, names_code, show, understand
from src.config.signature import Module, NotFound, Parameter, Signature, locate, signature
from src.config.task_options import accepted_by, common_data_options
from src.errors import UserError, suggest
from src.runtime import placeholders, renames

HYDRA_KEYS = {
    "_target_": "str",
    "_partial_": "bool",
    "_recursive_": "bool",
    "_args_": "list",
    "_convert_": "Literal['none', 'partial', 'object', 'all']",
}


class Problem(UserError):
    """A value that does not fit. `path` is its dotted key; the message is `path: what`, or with a value
    `path=value what`.
    """

    def __init__(self, path: str, what: str, value: object = ...) -> None:
        start = f"{path}: " if value is ... else f"{path}={show(value)} "
        super().__init__(f"{start}{what}" if path else what)
        self.path = path


def check(config: DictConfig, command: str = "train") -> None:
    """Raises a UserError for the first thing in a command's configuration that cannot work, and imports no target."""
    values = resolved(config)
    known = _root_kinds(command)
    for key, value in values.items():
        if key not in known:
            raise Problem(key, f"unknown option{_near_root(key, values, known, renames.keys(command))}")
        _check_given(key, value)
        kind = known[key]
        if kind is not None:
            _check_value(key, value, kind)
        elif not isinstance(value, dict) or "_target_" not in value:
            raise Problem(key, f"expects a node with _target_, as the files in conf/ have; got {_got(value)}")
    for key in known:
        if key not in values:
            raise Problem(key, "is missing")
    if command == "train":
        _check_given_by_code(values)
    for key, value in values.items():
        for path, node in nodes(key, value):
            check_node(path, node)


def _check_given_by_code(values: dict[str, Any]) -> None:
    """Refuses what a run would leave out without a word."""
    for path, instead in schemas.GIVEN.items():
        group, _, key = path.partition(".")
        if values[group].get(key) is not None:
            raise Problem(path, instead)
    for name, mode in values["metric_modes"].items():
        if mode not in ("min", "max"):
            raise Problem(f"metric_modes.{name}", "is max where more is better, or min", mode)
    made = {path: (node, "a callback of Lightning") for path, node in schemas.callbacks(values).items()}
    for group, what in (("metrics", "a metric of torchmetrics"), ("loggers", "a logger of Lightning")):
        made |= {f"{group}.{name}": (node, what) for name, node in values[group].items() if node is not None}
    for path, (node, what) in made.items():
        if not isinstance(node, dict) or "_target_" not in node:
            raise Problem(path, f"expects a node with _target_, {what}; got {_got(node)}")


def resolved(config: DictConfig) -> dict[str, Any]:
    """The configuration as plain containers without Hydra's own part, interpolations resolved, `???` left in."""
    values: dict[str, Any] = {}
    keys = [str(key) for key in config if key != "hydra"]
    for key in keys:
        if OmegaConf.is_missing(config, key):
            raise _not_given(key)
    for key in keys:
        try:
            value = config[key]
            values[key] = OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value
        except (InterpolationKeyError, InterpolationResolutionError) as error:
            path = str(error.full_key or key)
            missing = re.search(r"Missing mandatory value: (\S+)$", str(error.msg or ""), re.MULTILINE)
            if missing:
                raise _not_given(missing[1]) from error
            raise Problem(path, _interpolation(config, path, error)) from error
        except OmegaConfBaseException as error:
            raise Problem(str(error.full_key or key), str(error.msg or error).splitlines()[0]) from error
    return values


def check_node(path: str, node: dict[str, Any]) -> None:
    """Checks one node against the signature of its `_target_`."""
    target = node["_target_"]
    if not isinstance(target, str):
        raise Problem(f"{path}._target_", f"expects the dotted name of a class or function, got {_got(target)}")
    accepted = _accepted(path, target, node)
    for key, value in node.items():
        where = f"{path}.{key}"
        if key in HYDRA_KEYS:
            _check_value(where, value, understand(_expression(HYDRA_KEYS[key]), _here()))
            continue
        _check_given(where, value)
        if key in accepted.parameters:
            _check_parameter(where, value, accepted, key)
        elif not accepted.open:
            name = accepted.title or target.rsplit(".", 1)[-1]
            # what code hands over later (the data's spec) is no option of the configuration
            options = [k for k, p in accepted.parameters.items() if p.default is not None or k in node]
            raise Problem(where, f"{name} has no such option{_suggest(key, options, renames.options(target))}")
    filled = path in ("model", "task.loss") or path.startswith("metrics.")  # from the data, or once it is called
    if not node.get("_partial_") and not node.get("_args_") and not filled:
        for key, parameter in accepted.parameters.items():
            if parameter.default is None and key not in node:
                raise Problem(path, f"{key} is needed by {target.rsplit('.', 1)[-1]}")


def _accepted(path: str, target: str, node: dict[str, Any]) -> Signature:
    """Options of a node, with those that its place in the configuration adds."""
    try:
        accepted = accepted_by(node)
        added = common_data_options(target) if path == "data" else {}
        if path == "scheduler" and not target.startswith("src."):  # this project's say themselves when they are stepped
            kind = _expression("Literal['step', 'epoch'] | None")
            added = {"interval": Parameter("interval", kind, _expression("None"), _here())}
        return replace(accepted, parameters=added | accepted.parameters) if added else accepted
    except NotFound as missing:
        raise Problem(f"{path}._target_", f"{target} does not exist: {missing}") from missing
    except SyntaxError as broken:
        raise Problem(f"{path}._target_", f"{broken.filename}, line {broken.lineno}: {broken.msg}") from broken


def _check_parameter(path: str, value: object, accepted: Signature, key: str) -> None:
    parameter = accepted.parameters[key]
    none_by_default = isinstance(parameter.default, ast.Constant) and parameter.default.value is None
    if value is None and none_by_default:
        return
    _check_value(path, value, understand(parameter.annotation, parameter.module, value))
    if isinstance(value, str) and names_code(parameter.annotation):
        _check_exists(path, value)


def _check_exists(path: str, target: str) -> None:
    try:
        signature(target)
    except NotFound as missing:
        raise Problem(path, f"{target} does not exist: {missing}") from missing
    except SyntaxError as broken:
        raise Problem(path, f"{broken.filename}, line {broken.lineno}: {broken.msg}") from broken


def _check_value(path: str, value: object, kind: Kind) -> None:
    _check_given(path, value)
    if placeholders.is_placeholder(value) and path.startswith("model."):
        return
    if kind.accepts(value):
        _check_range(path, value, kind)
        return
    options = [str(option) for option in kind.options()]
    if isinstance(value, str) and options:
        near = difflib.get_close_matches(value, options, n=1, cutoff=0.6)
        if near:
            raise Problem(path, f"{value} is not known (did you mean {near[0]}?)")
    hint = ""
    if isinstance(value, int | float) and not isinstance(value, bool) and "text" in kind.words():
        hint = f"""; quote it: {path}="'{value}'" """.rstrip()
    raise Problem(path, f"expects {kind.words()}, got {_got(value)}{hint}")


def _check_range(path: str, value: object, kind: Kind) -> None:
    words = kind.outside(value)
    if words:
        raise Problem(path, words, value)


def _check_given(path: str, value: object) -> None:
    if value == "???":
        raise _not_given(path)
    if isinstance(value, dict):
        for key, item in value.items():
            _check_given(f"{path}.{key}", item)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            _check_given(f"{path}[{index}]", item)


def _not_given(path: str) -> Problem:
    return Problem(path, f"has no default, give one: {path}=...")


def _got(value: object) -> str:
    if isinstance(value, str):
        return f"'{value}'"
    return show(value)


def nodes(path: str, value: object) -> Iterator[tuple[str, dict[str, Any]]]:
    """All nodes with a `_target_` in a value, outer ones first."""
    if isinstance(value, dict):
        if "_target_" in value:
            yield path, value
        for key, item in value.items():
            yield from nodes(f"{path}.{key}", item)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from nodes(f"{path}[{index}]", item)


@cache
def _root_kinds(command: str) -> dict[str, Kind | None]:
    """Kind of the value of each root key of a command; None for a node."""
    module = locate(schemas.__name__)[0]
    assert module is not None
    return {
        key: None if kind == "Node" else understand(_expression(kind), module)
        for key, kind in schemas.keys(command).items()
    }


def _expression(text: str) -> ast.expr:
    return ast.parse(text, mode="eval").body


@cache
def _here() -> Module:
    return Module(__name__, __package__ or "", ast.Module([], []))


def _suggest(word: str, known: Collection[str], former: Mapping[str, str], cutoff: float = 0.6) -> str:
    """Suggests a known name, also where a name that it had before is nearest."""
    near = difflib.get_close_matches(word, [*known, *former], n=1, cutoff=cutoff)
    return f" (did you mean {former[near[0]]}?)" if near and near[0] in former else suggest(word, known)


def _near_root(key: str, values: dict[str, Any], known: Mapping[str, Any], former: Mapping[str, str]) -> str:
    """Suggests a root key, else the nested option of that or a near name: `lr` leads to optimizer.lr."""
    former = {old: new for old, new in former.items() if new in known}
    if difflib.get_close_matches(key, [*known, *former], n=1, cutoff=0.7):
        return _suggest(key, known, former, cutoff=0.7)
    nodes_ = {outer: node for outer, node in values.items() if isinstance(node, dict)}
    leaves = {leaf: f"{outer}.{leaf}" for outer, node in nodes_.items() for leaf in node}
    for outer, node in nodes_.items():
        leaves |= {old: f"{outer}.{new}" for old, new in renames.options(node.get("_target_")).items() if new in node}
    found = difflib.get_close_matches(key, leaves, n=1 if key in leaves else 2, cutoff=0.7)
    return f" (did you mean {' or '.join(leaves[leaf] for leaf in sorted(found))}?)" if found else suggest(key, known)


def _interpolation(config: DictConfig, path: str, error: OmegaConfBaseException) -> str:
    try:
        raw: Any = OmegaConf.to_container(config, resolve=False)
        for part in path.replace("[", ".").replace("]", "").split("."):
            raw = raw[int(part)] if isinstance(raw, list) else raw[part]
    except (KeyError, IndexError, ValueError, TypeError):
        raw = "interpolation"
    reason = re.sub(r"^\w+ raised while resolving interpolation: ", "", str(error.msg or error).splitlines()[0])
    if isinstance(error, InterpolationKeyError):
        return f"{raw} points to a key that does not exist"
    return f"{raw} cannot be resolved: {reason}"
