"""Make a project of one's own beside this one: its models, data and recipes extend those that are built in."""

from __future__ import annotations

import keyword
import sys
from importlib.util import find_spec
from pathlib import Path
from string import Template

from omegaconf import DictConfig
from rich.console import Console

from src.errors import UserError
from src.runtime import invocation
from src.runtime.console import say

TEMPLATES = Path(__file__).parent / "new_project"
NAMES = {"gitignore": ".gitignore"}  # of files that tools would take for this project's own


def init(config: DictConfig) -> None:
    """Write the project's files and say what to do next.

    Raises:
        UserError: no name for a package, or a folder that is not empty; nothing was written.
    """
    name = config.name
    if not name.isidentifier() or keyword.iskeyword(name) or name != name.lower():
        raise UserError(f"name={name}: the name of a package: small letters, digits and _, such as mylab")
    folder = Path(config.path or name).expanduser().absolute()
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"path={folder} is there and not empty: path=OTHER makes the project elsewhere")
    if name in sys.stdlib_module_names or find_spec(name) is not None:
        raise UserError(f"name={name}: there is a package of that name already, which yours would hide")
    files = sorted(file for file in TEMPLATES.rglob("*.txt"))
    for file in files:
        write(file, folder, name)
    (folder / "mlruns").mkdir()
    console = Console()
    say(console, f"{len(files)} files in {folder}; README.md there says what is what")
    say(console, f"next: cd {folder.name} && {invocation.command('train')} experiment=first")


def write(template: Path, folder: Path, name: str) -> None:
    """Write one file of the project from its template."""
    place = template.relative_to(TEMPLATES).with_suffix("")
    parts = [name if part == "package" else NAMES.get(part, part) for part in place.parts]
    path = folder.joinpath(*parts)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(Template(template.read_text(encoding="utf-8")).substitute(name=name), encoding="utf-8")
