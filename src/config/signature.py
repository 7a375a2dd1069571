"""Reads what a `_target_` accepts from its source code, without importing it: names, annotations, defaults.

Importing torch takes seconds; parsing the file that defines `torch.optim.AdamW` takes milliseconds, so a misspelt
option is answered at once.
"""

from __future__ import annotations

import ast
import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from src.errors import suggest

MAX_HOPS = 20  # re-exports followed before giving up; real chains are two or three long


class NotFound(LookupError):
    """A dotted name that leads nowhere; the message says how far it led."""


class NoSource(LookupError):
    """The name may well exist, but no Python source tells: a compiled module, a computed attribute."""


@dataclass(frozen=True)
class Parameter:
    """One parameter; `module` is where the names of its annotation are to be looked up."""

    name: str
    annotation: ast.expr | None
    default: ast.expr | None
    module: Module


@dataclass(frozen=True)
class Signature:
    """Parameters of a target. `open` where `**kwargs` takes anything; `title` is what messages call the target."""

    parameters: dict[str, Parameter]
    open: bool = False
    title: str = ""


ANYTHING = Signature({}, open=True)


@dataclass(frozen=True, eq=False)
class Module:
    """One parsed source file and its dotted name; `package` is what its relative imports start from."""

    name: str
    package: str
    tree: ast.Module

    def statements(self) -> Iterator[ast.stmt]:
        """Top-level statements, those inside `if` and `try` included, later ones first as they win."""
        yield from _flatten(self.tree.body)

    def lookup(self, name: str) -> ast.stmt | None:
        """The statement that binds `name`, or None."""
        return _bindings(self).get(name)

    def source_of(self, node: ast.ImportFrom) -> str:
        """Absolute dotted name of the module that an import statement names."""
        if not node.level:
            return node.module or ""
        parts = self.package.split(".")
        base = parts[: len(parts) - node.level + 1]
        return ".".join([*base, node.module] if node.module else base)


def _flatten(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    for node in body:
        if isinstance(node, ast.If):
            yield from _flatten(node.orelse)
            yield from _flatten(node.body)
        elif isinstance(node, ast.Try):
            for handler in node.handlers:
                yield from _flatten(handler.body)
            yield from _flatten(node.body)
        else:
            yield node


@cache
def _bindings(module: Module) -> dict[str, ast.stmt]:
    found: dict[str, ast.stmt] = {}
    for node in module.statements():
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            found[node.name] = node
        elif isinstance(node, ast.Assign):
            found.update((t.id, node) for t in node.targets if isinstance(t, ast.Name))
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value is not None:
            found[node.target.id] = node
        elif isinstance(node, ast.Import | ast.ImportFrom):
            for alias in node.names:
                if alias.name != "*":
                    found[alias.asname or alias.name.split(".")[0]] = node
    return found


@cache
def _parse(path: str, name: str, is_package: bool) -> Module:
    tree = ast.parse(Path(path).read_text(encoding="utf-8"), filename=path)
    return Module(name, name if is_package else name.rpartition(".")[0], tree)


@cache
def locate(name: str) -> tuple[Module | None, tuple[str, ...], list[Path]]:
    """The longest module that a dotted name starts with, the rest of the name, and the folders of that package.

    The module is None for a namespace package. Raises NotFound for an unknown top-level package, NoSource for one
    without Python source.
    """
    first, *rest = name.split(".")
    try:
        spec = importlib.util.find_spec(first)  # of a top-level name this imports nothing
    except (ValueError, ImportError):
        spec = None
    if spec is None:
        raise NotFound(f"there is no package {first}")
    folders = [Path(place) for place in spec.submodule_search_locations or ()]
    module = None
    if spec.origin and spec.origin.endswith(".py"):
        module = _parse(spec.origin, first, bool(folders))
    elif not folders:
        raise NoSource(first)
    taken = 1
    for part in rest:
        step = _descend(folders, part, ".".join([first, *rest[:taken]]))
        if step is None:
            break
        module, folders = step
        taken += 1
    return module, tuple([first, *rest][taken:]), folders


def _descend(folders: list[Path], part: str, name: str) -> tuple[Module | None, list[Path]] | None:
    for folder in folders:
        if (folder / part / "__init__.py").is_file():
            return _parse(str(folder / part / "__init__.py"), name, True), [folder / part]
        if (folder / f"{part}.py").is_file():
            return _parse(str(folder / f"{part}.py"), name, False), []
        if any(folder.glob(f"{part}.*.so")) or (folder / f"{part}.so").is_file():
            raise NoSource(name)
    inner = [folder / part for folder in folders if (folder / part).is_dir() and part.isidentifier()]
    return (None, inner) if inner else None


def resolve(name: str, hops: int = 0) -> tuple[Module, ast.stmt]:
    """The module and the statement that define a dotted name, re-exports followed.

    Raises:
        NotFound: the name leads nowhere; with the near name.
        NoSource: it cannot be known without importing.
    """
    if hops > MAX_HOPS:
        raise NoSource(name)
    module, rest, folders = locate(name)
    if not rest:
        parent, _, last = name.rpartition(".")
        outer = locate(parent)[0] if parent else None
        if outer is not None and outer.lookup(last) is not None:  # a function named like the file it lives in
            return _attribute(outer, last, hops, folders)
        raise NotFound(f"{name} is a module, not a class or function{suggest('', _public(module)) if module else ''}")
    if module is None:
        known = {path.stem for folder in folders for path in folder.iterdir() if path.suffix == ".py"}
        raise NotFound(f"{name.rsplit('.', len(rest))[0]} has no {rest[0]}{suggest(rest[0], known)}")
    owner, node = _attribute(module, rest[0], hops, folders)
    for part in rest[1:]:
        if not isinstance(node, ast.ClassDef):
            raise NoSource(name)
        owner, node = _member(owner, node, part)
    return owner, node


def _attribute(module: Module, name: str, hops: int, folders: list[Path]) -> tuple[Module, ast.stmt]:
    node = module.lookup(name)
    if node is None:
        return _star(module, name, hops, folders)
    if isinstance(node, ast.ImportFrom):
        alias = next(a for a in node.names if (a.asname or a.name) == name)
        return resolve(f"{module.source_of(node)}.{alias.name}", hops + 1)
    if isinstance(node, ast.Import):
        raise NoSource(name)
    if isinstance(node, ast.Assign | ast.AnnAssign):
        dotted = _dotted(node.value)
        if dotted and dotted.split(".")[0] != name and module.lookup(dotted.split(".")[0]):
            return resolve(f"{module.name}.{dotted}", hops + 1)
    return module, node


def _exported(module: Module) -> list[str] | None:
    """The names in a literal `__all__`; None where there is none."""
    for node in module.statements():
        if isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == "__all__" for t in node.targets):
            try:
                return list(ast.literal_eval(node.value))
            except ValueError:
                return None
    return None


def _star(module: Module, name: str, hops: int, folders: list[Path]) -> tuple[Module, ast.stmt]:
    # of this project `__all__` says what `__getattr__` gives; others may give more
    known = _exported(module) if module.name.partition(".")[0] == "src" else None
    unsure = "__getattr__" in _bindings(module) and (known is None or name in known)
    for node in module.statements():
        if isinstance(node, ast.ImportFrom) and node.names[0].name == "*":
            try:
                return resolve(f"{module.source_of(node)}.{name}", hops + 1)
            except NoSource:
                unsure = True
            except NotFound:
                continue
    if unsure:
        raise NoSource(f"{module.name}.{name}")
    below = {path.stem for folder in folders for path in folder.iterdir() if path.suffix == ".py" or path.is_dir()}
    raise NotFound(f"{module.name} has no {name}{suggest(name, _public(module) or below)}")


def _public(module: Module) -> set[str]:
    """Names that a module defines or re-exports for use as a target: classes and functions."""
    if (exported := _exported(module)) is not None:
        return set(exported)
    kinds = (ast.ClassDef, ast.FunctionDef)
    names = {name for name, node in _bindings(module).items() if isinstance(node, kinds)}
    if not names:
        names = {name for name, node in _bindings(module).items() if isinstance(node, ast.ImportFrom)}
    return {name for name in names if not name.startswith("_")}


def _member(module: Module, node: ast.ClassDef, name: str) -> tuple[Module, ast.stmt]:
    for owner, cls in lineage(module, node):
        for item in _flatten(cls.body):
            if isinstance(item, ast.FunctionDef | ast.ClassDef) and item.name == name:
                return owner, item
    raise NotFound(f"{module.name}.{node.name} has no {name}")


def lineage(module: Module, node: ast.ClassDef) -> Iterator[tuple[Module, ast.ClassDef]]:
    """A class and its bases, nearest first, depth first; raises NoSource at a base that cannot be read."""
    yield module, node
    for base in node.bases:
        dotted = _dotted(base.value if isinstance(base, ast.Subscript) else base)
        if dotted in ("object", "ABC", "abc.ABC", "Generic", "Protocol"):
            continue
        if dotted is None:
            raise NoSource(node.name)
        owner, found = find(dotted, module)
        if not isinstance(found, ast.ClassDef):
            raise NoSource(dotted)
        yield from lineage(owner, found)


def find(dotted: str, module: Module) -> tuple[Module, ast.stmt]:
    """Look up a dotted name inside a module. Raises NoSource where that cannot be read."""
    first, _, rest = dotted.partition(".")
    node = module.lookup(first)
    try:
        if isinstance(node, ast.Import):
            alias = next(a for a in node.names if (a.asname or a.name.split(".")[0]) == first)
            base = alias.name if alias.asname else first
            return resolve(f"{base}.{rest}" if rest else base)
        return resolve(f"{module.name}.{dotted}") if node is not None else _star(module, dotted, 0, [])
    except NotFound as missing:
        raise NoSource(dotted) from missing


def _dotted(node: ast.expr | None) -> str | None:
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        head = _dotted(node.value)
        return f"{head}.{node.attr}" if head else None
    return None


@cache
def signature(target: str) -> Signature:
    """Read the keywords of a target. Raises NotFound for a name that leads nowhere; ANYTHING if unreadable."""
    try:
        module, node = resolve(target)
        if isinstance(node, ast.ClassDef):
            return _of_class(module, node)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            inside_class = not isinstance(module.lookup(node.name), ast.FunctionDef)
            return _of_function(module, node, bound=inside_class and not _is_static(node))
    except NoSource:
        pass
    return ANYTHING


def _is_static(node: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    return any(_dotted(d) == "staticmethod" for d in node.decorator_list)


def _of_class(module: Module, node: ast.ClassDef) -> Signature:
    classes = lineage(module, node)
    for owner, cls in classes:
        if any(_dotted(d.func if isinstance(d, ast.Call) else d) in _DATACLASS for d in cls.decorator_list):
            return _of_dataclass(owner, cls)
        for item in _flatten(cls.body):
            # a class that makes objects of others has no `__init__` of its own
            if isinstance(item, ast.FunctionDef) and item.name in ("__init__", "__new__"):
                own = _of_function(owner, item, bound=True)
                if owner.name in _TAKES_ANYTHING:
                    return Signature({})
                if not (own.open and _forwards(item)):
                    return own
                inherited = [_of_class(*base) for base in _bases(owner, cls)]
                merged = {k: v for base in reversed(inherited) for k, v in base.parameters.items()}
                return Signature(merged | own.parameters, any(base.open for base in inherited) or not inherited)
    return Signature({})


# modules of classes whose constructor takes any keyword and ignores it: none is an option
_TAKES_ANYTHING = ("pytorch_lightning.core.datamodule", "lightning.pytorch.core.datamodule")
_DATACLASS = ("dataclass", "dataclasses.dataclass")


def _bases(module: Module, node: ast.ClassDef) -> list[tuple[Module, ast.ClassDef]]:
    found = []
    for base in node.bases:
        dotted = _dotted(base.value if isinstance(base, ast.Subscript) else base)
        if dotted is None:
            raise NoSource(node.name)
        owner, cls = find(dotted, module)
        if isinstance(cls, ast.ClassDef):
            found.append((owner, cls))
    return found


def _forwards(node: ast.FunctionDef) -> bool:
    """True if `**kwargs` goes straight to `super().__init__`, so that the base decides what is known."""
    name = node.args.kwarg.arg if node.args.kwarg else None
    for call in ast.walk(node):
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.func.attr == "__init__":
            owner = call.func.value
            is_super = isinstance(owner, ast.Call) and _dotted(owner.func) == "super"
            if is_super and any(k.arg is None and _dotted(k.value) == name for k in call.keywords):
                return True
    return False


def _of_function(module: Module, node: ast.FunctionDef | ast.AsyncFunctionDef, bound: bool) -> Signature:
    args = node.args
    positional = [*args.posonlyargs, *args.args]
    defaults: list[ast.expr | None] = [None] * (len(positional) - len(args.defaults)) + list(args.defaults)
    pairs = [*zip(positional, defaults, strict=True)][bool(bound) :]
    pairs += zip(args.kwonlyargs, args.kw_defaults, strict=True)
    parameters = {arg.arg: Parameter(arg.arg, arg.annotation, default, module) for arg, default in pairs}
    if (further := _unpacked(module, args.kwarg)) is not None:
        return Signature(parameters | further)
    return Signature(parameters, open=args.kwarg is not None)


def _unpacked(module: Module, kwarg: ast.arg | None) -> dict[str, Parameter] | None:
    """What `**options: Unpack[Options]` of a TypedDict takes; its defaults stand elsewhere. None: it is none."""
    hint = kwarg and kwarg.annotation
    if not isinstance(hint, ast.Subscript) or (_dotted(hint.value) or "").rpartition(".")[2] != "Unpack":
        return None
    dotted = _dotted(hint.slice)
    if dotted is None:
        raise NoSource(ast.unparse(hint))
    owner, node = find(dotted, module)
    if not isinstance(node, ast.ClassDef):
        raise NoSource(dotted)
    parameters: dict[str, Parameter] = {}
    classes = [(owner, node)]
    while classes:
        owner, node = classes.pop()
        for item in node.body:
            if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name):
                name = item.target.id
                parameters.setdefault(name, Parameter(name, item.annotation, ast.Constant(...), owner))
        bases = [_dotted(base) for base in node.bases]
        found = [find(base, owner) for base in bases if base and base.rpartition(".")[2] != "TypedDict"]
        classes += [(place, base) for place, base in found if isinstance(base, ast.ClassDef)]
    return parameters


def _of_dataclass(module: Module, node: ast.ClassDef) -> Signature:
    parameters: dict[str, Parameter] = {}
    for owner, cls in reversed(list(lineage(module, node))):
        for item in cls.body:
            if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name):
                name = item.target.id
                parameters[name] = Parameter(name, item.annotation, item.value, owner)
    return Signature(parameters)
