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
from collections.abc import Iterable

from src.errors import UserError
from src.runtime import in_memory, plugins, project

VARIABLE = "LABBOOK_TRUST"
OWN = "src"
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
    if owner.partition(".")[0] != target.partition(".")[0]:
        raise UserError(f"{target} is code of {owner}, so it is not run")


def advice(target: str) -> str:
    """End of a sentence that refuses a target: what to do where it is to be run."""
    return f"if that is code to run, trust={target.partition('.')[0]}"
