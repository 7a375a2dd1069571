"""Plugins: installed packages that bring models, data, tasks and recipes of their own.

A distribution names one in the group `labbook.plugins` of its entry points. The package may hold `conf/` and
`experiments/`, which are read as those of this project are, and `tasks/`, whose files are read for `@register_task`; so
that what it brings is known and nothing of it is imported. The module that the entry point names is imported before a
run is built or loaded, and may register more.
"""

from __future__ import annotations

import contextlib
import glob
import importlib
import importlib.metadata
import importlib.util
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from src.errors import UserError
from src.runtime import project

GROUP = "labbook.plugins"


@dataclass(frozen=True)
class Plugin:
    """An installed plugin.

    Attributes:
        name: as its distribution calls it.
        module: what is imported before a run.
        folder: of its package; None where there is none.
    """

    name: str
    module: str
    folder: Path | None

    @property
    def package(self) -> str:
        """Name of its package."""
        return self.module.partition(".")[0]

    @property
    def home(self) -> Path | None:
        """Folder of its conf/ and experiments/: the package, or the project that an editable installation lies in."""
        if self.folder is None or not project.is_own(self.folder.parent):
            return self.folder
        return self.folder.parent


@cache
def installed() -> tuple[Plugin, ...]:
    """All plugins, by their names; imports none."""
    found = {point.name: point.value for point in _announced()}
    return tuple(Plugin(name, value, _folder(value.partition(".")[0])) for name, value in sorted(found.items()))


def _announced() -> Iterator[importlib.metadata.EntryPoint]:
    """Entry points of the group, those of an earlier place on the path last.

    `importlib.metadata.entry_points` takes apart those of all distributions, which adds 10 ms to the 215 of `--help`
    where 224 are installed; of the files that name the group alone it is 2 ms.
    """
    for place in reversed(sys.path):
        for file in glob.iglob("*.*-info/entry_points.txt", root_dir=place or "."):
            path = Path(place, file)
            with contextlib.suppress(OSError):  # of another user
                if f"[{GROUP}]".encode() in path.read_bytes():
                    yield from importlib.metadata.Distribution.at(path.parent).entry_points.select(group=GROUP)


def _folder(package: str) -> Path | None:
    try:
        spec = importlib.util.find_spec(package)  # of a top-level name this imports nothing
    except (ImportError, ValueError):
        return None
    places = [] if spec is None else list(spec.submodule_search_locations or ())
    return Path(places[0]) if places else None


def folders(name: str) -> tuple[Path, ...]:
    """Folders of that name of all plugins, but for the user's own project where that is installed too."""
    here = {plugin for plugin in installed() if project.OWN and (project.OWN / plugin.package).is_dir()}
    return tuple(plugin.home / name for plugin in installed() if plugin.home and plugin not in here)


def packages() -> Iterator[tuple[str, Path]]:
    """Packages of the user's own project and of plugins, with their folders."""
    known = {name: project.OWN / name for name in project.packages() if project.OWN}
    yield from known.items()
    yield from ((one.package, one.folder) for one in installed() if one.folder and one.package not in known)


@cache
def load() -> None:
    """Import what registers itself: `import` of the user's own project, then the module of each plugin; once.

    A plugin that fails is told of in a line on stderr, and the others work.

    Raises:
        UserError: a module of the user's own project fails.
    """
    for name in project.imports():
        try:
            importlib.import_module(name)
        except Exception as error:
            raise UserError(f"{project.OWN}/pyproject.toml: tool.labbook.import: {name}: {_reason(error)}") from error
    for plugin in installed():
        try:
            importlib.import_module(plugin.module)
        except (Exception, SystemExit) as error:  # noqa: BLE001 (whatever code of others raises)
            print(f"plugin {plugin.name} is left out: {plugin.module}: {_reason(error)}", file=sys.stderr)


def _reason(error: BaseException) -> str:
    """What went wrong in one line, and where in the code that is not Python's own way of importing."""
    step = error.__traceback__
    place = ""
    while step is not None:
        file = step.tb_frame.f_code.co_filename
        if not file.startswith("<frozen") and file != __file__ and file != importlib.__file__:
            place = f" [{project.short(file)}:{step.tb_lineno}]"
        step = step.tb_next
    first, *_ = str(error).splitlines() or [""]
    return f"{type(error).__name__}: {first}{place}"
