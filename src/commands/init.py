"""Make a project of one's own beside this one: its models, data and recipes extend those that are built in."""

from __future__ import annotations

import keyword
import re
import shlex
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from string import Template

from omegaconf import DictConfig
from rich.console import Console

from src.errors import UserError
from src.runtime import invocation, project
from src.runtime.console import say

TEMPLATES = Path(__file__).parent / "new_project"
NAMES = {"gitignore": ".gitignore"}  # of files that tools would take for this project's own
RUNS = ("mlruns", "data")  # folders of a project that are not code


def init(config: DictConfig) -> None:
    """Write the project's files and say what to do next.

    Raises:
        UserError: no name for a package, or a folder that is no place for a project; nothing was written.
    """
    name, files = str(config.name), sorted(TEMPLATES.rglob("*.txt"))
    check_name(name, {file.relative_to(TEMPLATES).parts[0] for file in files if file.parent != TEMPLATES})
    folder = Path(config.path or name).expanduser().absolute()
    try:
        check_place(folder)
        with emptied_on_error(folder):
            for file in files:
                write(file, folder, name)
            (folder / "mlruns").mkdir()
    except OSError as error:
        raise UserError(f"path={folder} cannot be written: {error.strerror}") from None
    console = Console()
    say(console, f"{len(files)} files in {folder}; README.md there says what is what")
    say(console, f"next: {begin(folder)} experiment=first")


def check_name(name: str, folders: set[str]) -> None:
    """Raise a UserError for what cannot be the name of the project's package.

    Args:
        folders: others of the project.
    """
    if not name.isidentifier() or keyword.iskeyword(name) or name != name.lower():
        near = re.sub(r"\W+", "_", name.lower()).strip("_")
        near = near if near.isidentifier() and not keyword.iskeyword(near) else "mylab"
        raise UserError(f"name={name}: the name of a package: small letters, digits and _, such as {near}")
    if name in folders or name in RUNS:
        raise UserError(f"name={name}: a project has a folder {name}/ beside its package, such as mylab")
    if name in sys.stdlib_module_names or _is_package(name):
        raise UserError(f"name={name}: there is a package of that name already, which yours would hide")


def _is_package(name: str) -> bool:
    """True if something of that name can be imported; any folder here would count too, which Python is started in."""
    spec = find_spec(name)
    if spec is None or spec.origin is not None:
        return spec is not None
    return any(Path(place).parent != Path.cwd() for place in spec.submodule_search_locations or ())


def check_place(folder: Path) -> None:
    """Raise a UserError where a folder is no place for a project."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"path={folder} is there and not empty: path=OTHER makes the project elsewhere")
    if outer := project.around(folder.parent):
        raise UserError(f"path={folder} lies in the project {outer}: path=OTHER makes one beside it")


@contextmanager
def emptied_on_error(folder: Path) -> Iterator[None]:
    """Leave an empty folder, or none, as it was where the writing of its files is broken off."""
    existed = folder.exists()
    try:
        yield
    except BaseException:
        for path in folder.iterdir() if folder.is_dir() else ():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        if not existed:
            shutil.rmtree(folder, ignore_errors=True)
        raise


def begin(folder: Path) -> str:
    """The command line by which training begins in the project, up to what is trained."""
    command, here = invocation.command("train"), Path.cwd()
    place = shlex.quote(str(folder.relative_to(here) if folder.is_relative_to(here) else folder))
    if here == project.CODE and not any(Path(place) == project.CODE for place in sys.path[not sys.flags.safe_path :]):
        return f"{project.VARIABLE}={place} {command}"  # `src` is imported from here, and from nowhere else
    return command if folder == here else f"cd {place} && {command}"


def write(template: Path, folder: Path, name: str) -> None:
    """Write one file of the project from its template."""
    place = template.relative_to(TEMPLATES).with_suffix("")
    parts = [name if part == "package" else NAMES.get(part, part) for part in place.parts]
    path = folder.joinpath(*parts)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(Template(template.read_text(encoding="utf-8")).substitute(name=name), encoding="utf-8")
