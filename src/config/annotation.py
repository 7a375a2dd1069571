"""Annotations as far as a configuration can meet them: does a plain value fit, and how is that said in words."""

from __future__ import annotations

import ast
from dataclasses import dataclass, replace
from typing import Any

from src.config.signature import Module, NoSource, find
from src.runtime import trust
from src.runtime.ranges import MARKERS, each, outside

MAX_DEPTH = 12  # aliases inside aliases

SCALARS = {"int": int, "float": float, "bool": bool, "str": str, "Path": str, "PathLike": str, "None": type(None)}
ARTICLES = {"int": "an integer", "float": "a number", "bool": "true, false", "str": "text", "Path": "a path"}
SEQUENCES = {"list", "List", "Sequence", "Iterable", "Collection", "MutableSequence", "set", "frozenset"}
MAPPINGS = {"dict", "Dict", "Mapping", "MutableMapping", "OrderedDict"}
OBJECTS = {"Tensor", "Generator", "Optimizer"}  # never plain values; known by name, so that torch need not be read


@dataclass(frozen=True)
class Kind:
    """One annotation, understood. `name` is a scalar's, or any, literal, list, tuple, dict, object, union; `limits` are
    the markers of an `Annotated` number.
    """

    name: str
    items: tuple[Any, ...] = ()
    limits: tuple[Any, ...] = ()

    def accepts(self, value: object) -> bool:
        """True if a plain value (scalars, lists, dicts) fits. An integer is a number; true and false are not."""
        if isinstance(value, dict) and "_target_" in value:
            return True  # an object made from its own node, which is checked there
        if self.name == "any":
            return True
        if self.name == "union":
            return any(item.accepts(value) for item in self.items)
        if self.name == "literal":
            return any(type(value) is type(item) and value == item for item in self.items)
        if self.name == "list":
            return isinstance(value, list) and all(self.items[0].accepts(item) for item in value)
        if self.name == "tuple":
            return isinstance(value, list) and self._accepts_tuple(value)
        if self.name == "dict":
            return isinstance(value, dict) and all(self.items[0].accepts(item) for item in value.values())
        if self.name == "object":
            return False
        if isinstance(value, bool):
            return self.name == "bool"
        return isinstance(value, (int, float) if self.name == "float" else SCALARS[self.name])

    def _accepts_tuple(self, value: list[Any]) -> bool:
        if not self.items:
            return True
        return len(value) == len(self.items) and all(k.accepts(v) for k, v in zip(self.items, value, strict=True))

    def outside(self, value: object) -> str | None:
        """Range that an accepted value is outside of, as `must be at least 1`; None where it fits."""
        if self.limits and isinstance(value, int | float) and not isinstance(value, bool):
            return outside(value, self.limits)
        if self.name == "union":
            found = [item.outside(value) for item in self.items if item.accepts(value)]
            return None if None in found else next(iter(found), None)
        if self.name in ("list", "tuple") and self.items and isinstance(value, list):
            kinds = self.items if self.name == "tuple" else self.items * len(value)
            return each(kind.outside(item) for kind, item in zip(kinds, value, strict=False))
        return None

    def options(self) -> list[Any]:
        """All values of the literals in it, in order."""
        if self.name == "literal":
            return list(self.items)
        return [option for item in self.items if isinstance(item, Kind) for option in item.options()]

    def words(self) -> str:
        """Describe it in a user's words: `an integer or null`."""
        if self.name == "union":
            others = [item.words() for item in self.items if item.name not in ("object", "None", "literal")]
            names = list(dict.fromkeys(show(option) for option in self.options()))
            parts = [*([f"one of {', '.join(names)}"] if names else []), *dict.fromkeys(others)]
            parts += ["null"] if any(item.name == "None" for item in self.items) else []
            return " or ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)
        if self.name == "literal":
            return f"one of {', '.join(show(item) for item in self.items)}"
        if self.name in ("list", "tuple"):
            kinds = dict.fromkeys(item.words() for item in self.items if item.name != "any")
            inner = f" of {' and '.join(_PLURALS.get(k, k) for k in kinds)}" if kinds else ""
            return f"a list{inner}"
        if self.name == "dict":
            return "a mapping {key: value}"
        if self.name == "object":
            return "a node with _target_"
        return "null" if self.name == "None" else ARTICLES.get(self.name, self.name)


_PLURALS = {"an integer": "integers", "a number": "numbers", "a path": "paths"}
ANY = Kind("any")


def show(value: object) -> str:
    """A value as the command line writes it."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return f"[{','.join(show(item) for item in value)}]"
    if isinstance(value, dict):
        return f"{{{','.join(f'{k}:{show(v)}' for k, v in value.items())}}}"
    return str(value)


def understand(node: ast.expr | None, module: Module, value: object = ..., depth: int = 0) -> Kind:
    """The kind of an annotation; whatever is not understood accepts everything.

    Args:
        node: the annotation.
        module: where its names are looked up.
        value: if given, looking stops at the first part of a union that accepts it, which spares reading files.
        depth: aliases followed so far.
    """
    if node is None or depth > MAX_DEPTH:
        return ANY
    if isinstance(node, ast.Constant):
        if node.value is None:
            return Kind("None")
        return understand(_parse(node.value), module, value, depth + 1) if isinstance(node.value, str) else ANY
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
        return _union([node.left, node.right], module, value, depth)
    if isinstance(node, ast.Subscript):
        return _subscript(node, module, value, depth)
    if isinstance(node, ast.Name | ast.Attribute):
        return _name(node, module, value, depth)
    return ANY


def names_code(node: ast.expr | None) -> bool:
    """True if the values of such an annotation are names of functions or classes: `CodeName`, or that or null."""
    return node is not None and any(isinstance(part, ast.Name) and part.id == trust.CODE for part in ast.walk(node))


def _parse(text: str) -> ast.expr | None:
    try:
        return ast.parse(text, mode="eval").body
    except SyntaxError:
        return None


def _union(nodes: list[ast.expr], module: Module, value: object, depth: int) -> Kind:
    kinds: list[Kind] = []
    # plain names first: an alias may need another file to be read
    for node in sorted(nodes, key=lambda n: not isinstance(n, ast.Name) or n.id not in SCALARS):
        kind = understand(node, module, value, depth + 1)
        if kind.name == "any" or (value is not ... and kind.accepts(value)):
            return kind
        kinds += kind.items if kind.name == "union" else [kind]
    return Kind("union", tuple(kinds))


def _subscript(node: ast.Subscript, module: Module, value: object, depth: int) -> Kind:
    name = node.value.id if isinstance(node.value, ast.Name) else getattr(node.value, "attr", "")
    arguments = list(node.slice.elts) if isinstance(node.slice, ast.Tuple) else [node.slice]
    if name == "Literal":
        return Kind("literal", tuple(a.value for a in arguments if isinstance(a, ast.Constant)))
    if name in ("Optional", "Union"):
        return _union([*arguments, *([ast.Constant(None)] if name == "Optional" else [])], module, value, depth)
    if name in ("Annotated", "Final"):
        kind = understand(arguments[0], module, value, depth + 1)
        limits = tuple(limit for argument in arguments[1:] for limit in _limits(argument))
        return replace(kind, limits=limits) if limits else kind
    inner = [understand(a, module, ..., depth + 1) for a in arguments]
    if name in SEQUENCES:
        return Kind("list", (inner[0],))
    if name in ("tuple", "Tuple"):
        endless = isinstance(arguments[-1], ast.Constant) and arguments[-1].value is ...
        return Kind("list", (inner[0],)) if endless else Kind("tuple", tuple(inner))
    if name in MAPPINGS:
        return Kind("dict", (inner[-1],))
    return ANY


def _limits(node: ast.expr) -> list[Any]:
    """The marker that `Ge(1)` or `Interval(ge=0, le=1)` makes; none where it is another, or no plain numbers."""
    name = ast.unparse(node.func).rpartition(".")[2] if isinstance(node, ast.Call) else ""
    if not isinstance(node, ast.Call) or name not in MARKERS:
        return []
    try:
        given = [ast.literal_eval(argument) for argument in node.args]
        return [MARKERS[name](*given, **{k.arg: ast.literal_eval(k.value) for k in node.keywords if k.arg})]
    except (ValueError, TypeError):
        return []


def _name(node: ast.Name | ast.Attribute, module: Module, value: object, depth: int) -> Kind:
    last = node.id if isinstance(node, ast.Name) else node.attr
    if last == "Any":
        return ANY
    if last in SCALARS:
        return Kind("str" if last == "PathLike" else last)
    if last in SEQUENCES:
        return Kind("list", (ANY,))
    if last in ("tuple", "Tuple"):
        return Kind("tuple")
    if last in MAPPINGS:
        return Kind("dict", (ANY,))
    if last in OBJECTS:
        return Kind("object")
    try:
        owner, found = find(ast.unparse(node), module)
    except NoSource:
        return ANY
    if isinstance(found, ast.Assign | ast.AnnAssign):
        return understand(found.value, owner, value, depth + 1)
    if isinstance(found, ast.ClassDef):
        # an Enum or a subclass of str may be given as text; other classes are never plain values
        bases = " ".join(ast.unparse(base) for base in found.bases)
        return ANY if any(word in bases for word in ("Enum", "str", "int", "float", "Protocol")) else Kind("object")
    return ANY
