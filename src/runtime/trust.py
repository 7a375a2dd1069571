"""Whose code a saved configuration or a checkpoint may name.

What is built from a configuration runs code, and runs come from shared stores and downloads. So names in saved files
are believed where they are this project's own; PyTorch's layers, losses, optimizers and schedules; Lightning's
callbacks and its loggers into files; or torchmetrics' measures of classes and numbers. Code of others runs where a
person has said so: by having it as a project or installing it as a plugin, by `trust=PACKAGE`, or in the environment
by LABBOOK_TRUST=PACKAGE[,PACKAGE].
"""

from __future__ import annotations

import os
import pkgutil
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Any

from src.errors import UserError
from src.runtime import in_memory, plugins, project

VARIABLE = "LABBOOK_TRUST"
OWN = "src"
# annotation of an option whose value is the dotted name of a function or class, as that of `_target_` is
CODE = "CodeName"
CodeName = Annotated[str, CODE]
JUDGES = ("src.tasks.losses.", "src.metrics.")  # our own code that a saved file may name as a loss or a metric
FRAMEWORKS = {"torch", "torchmetrics", "pytorch_lightning"}
HARMLESS = re.compile(
    r"src(\.\w+)+|pytorch_lightning\.callbacks\.\w+|torch\.optim\.[A-Z]\w+|torch\.optim\.lr_scheduler\.[A-Z]\w+"
    r"|torch\.nn\.[A-Z]\w+|torch\.nn\.functional\.(\w+_loss|\w*cross_entropy\w*)"
    r"|torchmetrics\.(classification|regression)\.[A-Z]\w+|pytorch_lightning\.loggers\.(CSV|TensorBoard)Logger"
)


def allow(packages: str | Iterable[str] | None) -> None:
    """Trust these packages from now on, in this process and in those that it starts.

    Raises:
        UserError: one that is no name of a package.
    """
    names = packages.split(",") if isinstance(packages, str) else list(packages or ())
    for name in names:
        if not name.isidentifier():
            raise UserError(f"trust={name}: expects the name of a package, such as trust=mypackage")
    if names:
        before = filter(None, os.environ.get(VARIABLE, "").split(","))
        os.environ[VARIABLE] = ",".join(sorted({*before, *names}))


def trusted() -> frozenset[str]:
    """Names of the packages whose code may be run beside this project's.

    Those of the user's own project are, plugins, what this process's own program has handed over, and those allowed.
    """
    given = filter(None, os.environ.get(VARIABLE, "").split(","))
    installed = (plugin.package for plugin in plugins.installed())
    return frozenset([*given, *project.packages(), *installed, in_memory.NAME])


def is_trusted(target: str) -> bool:
    """True if a dotted name may be imported because a saved file names it."""
    return bool(HARMLESS.fullmatch(target)) or target.partition(".")[0] in trusted()


def check(target: str) -> None:
    """Make sure that what a trusted name stands for is code of that package, not what its module has imported.

    Raises:
        UserError: it is code of another one.
    """
    if target.partition(".")[0] == in_memory.NAME:
        return
    owner = str(getattr(pkgutil.resolve_name(target), "__module__", None))
    place = target.rpartition(".")[0] if target.startswith(f"{OWN}.") else target.partition(".")[0]
    # of ours what a module has imported counts as well: some of that imports or calls whatever it is given
    if not f"{owner}.".startswith(f"{place}."):
        raise UserError(f"{target} is code of {owner}, so it is not run")


def check_part(target: str) -> None:
    """The same as `check`; and that a name of this project's is a class of a part that runs have, a loss or a metric.

    The file gives the arguments too, and our functions write files, import names and start commands.

    Raises:
        UserError: it is something else.
    """
    check(target)
    if target.startswith(f"{OWN}.") and not target.startswith(JUDGES):
        found = pkgutil.resolve_name(target)
        bases = found.__mro__ if isinstance(found, type) else ()
        if not any(base.__module__.partition(".")[0] in FRAMEWORKS for base in bases):
            raise UserError(f"{target} is no model, layer, data, loss, metric, callback or optimizer, so it is not run")


def check_package(target: str) -> None:
    """Make sure that a name of code, which an option in a saved file has as its value, is of a trusted package.

    Unlike `_target_` it may not name this project's functions: the file gives the arguments too.

    Raises:
        UserError: it is not.
    """
    if target.partition(".")[0] not in trusted():
        raise UserError(f"{target} is not of this project; {advice(target)}")


def check_named(target: str) -> None:
    """The same, and that it stands for code of that package; see `check`. Imports it.

    Raises:
        UserError: it is not, or is no name of code.
    """
    check_package(target)
    try:
        check(target)
    except (ImportError, AttributeError, ValueError) as error:
        raise UserError(f"{target} cannot be imported ({error})") from error


def named_code(constructor: Callable[..., Any], options: Mapping[str, Any]) -> dict[str, str]:
    """Values of those options that name code: their annotation is `CodeName`."""
    hints = getattr(constructor, "__annotations__", {})
    return {
        name: value for name, value in options.items() if isinstance(value, str) and CODE in str(hints.get(name, ""))
    }


def advice(target: str) -> str:
    """End of a sentence that refuses a target: what to do where it is to be run."""
    return f"if that is code to run, trust={target.partition('.')[0]}"
