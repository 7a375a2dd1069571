"""Files of the config groups: experiments/NAME.yaml as the group `experiment`, found from any directory and listed with
its subfolders; and in conf/ what can be chosen, without files such as `_common.yaml` that others are composed of.
"""

from __future__ import annotations

from pathlib import Path

from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.object_type import ObjectType
from hydra.core.plugins import Plugins
from hydra.plugins.config_source import ConfigLoadError, ConfigResult, ConfigSource
from hydra.plugins.search_path_plugin import SearchPathPlugin
from omegaconf import DictConfig, OmegaConf
from typing_extensions import override

from src.errors import UserError
from src.runtime import placeholders, plugins, project
from src.runtime.compat.hydra import hide_parts

CONF = project.CONF
# plugins last: what is installed does not change what a name means that there was before
CONFS = (*project.CONFS, *plugins.folders("conf"))
RECIPES = (*project.RECIPES, *plugins.folders("experiments"))
GROUP = "experiment"


class ExperimentSource(ConfigSource):
    """Reads `experiment/area/NAME` from `experiments/area/NAME.yaml`.

    A recipe changes keys of the root, so its package is `_global_` unless its header says otherwise. All recipes are
    options of the one group `experiment`, those in subfolders as area/NAME: so help, completion and errors list them.
    """

    @staticmethod
    @override
    def scheme() -> str:
        """Prefix of the search path's entries that this source reads."""
        return "experiments"

    def _file(self, config_path: str) -> Path | None:
        group, _, name = self._normalize_file_name(config_path).partition("/")
        return Path(self.path, name) if group == GROUP and name else None

    @override
    def load_config(self, config_path: str) -> ConfigResult:
        """Read a recipe, with the package `_global_` unless its header names another."""
        file = self._file(config_path)
        if file is None or not file.is_file():
            raise ConfigLoadError(f"Config not found: {config_path}")
        with file.open(encoding="utf-8") as stream:
            header = self._get_header_dict(stream.read(512))
            stream.seek(0)
            config = OmegaConf.load(stream)
        if not OmegaConf.is_dict(config):
            raise UserError(f"{file}: expects KEY: VALUE lines, found a list or a single value")
        header["package"] = header["package"] or "_global_"
        return ConfigResult(self.provider, f"{self.scheme()}://{self.path}", config, header)

    @override
    def available(self) -> bool:
        return Path(self.path).is_dir()

    @override
    def is_group(self, config_path: str) -> bool:
        if config_path == "":
            return self.available()
        group, _, name = config_path.partition("/")
        return group == GROUP and Path(self.path, name).is_dir()

    @override
    def is_config(self, config_path: str) -> bool:
        file = self._file(config_path)
        return file is not None and file.is_file()

    @override
    def list(self, config_path: str, results_filter: ObjectType | None) -> list[str]:
        """List the group `experiment` at the root, and in it all recipes as area/NAME, sorted."""
        if config_path == "":
            return [GROUP] if results_filter != ObjectType.CONFIG else []
        if results_filter == ObjectType.GROUP:
            return []
        folder = Path(self.path, config_path.partition("/")[2])
        return sorted(str(file.relative_to(folder).with_suffix("").as_posix()) for file in folder.rglob("*.yaml"))


class ExperimentSearchPath(SearchPathPlugin):
    """Puts experiments/ beside conf/ on Hydra's search path, the user's own before both and plugins' behind."""

    @override
    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        own = CONFS[: CONFS.index(CONF)]  # CONF itself Hydra is told of
        for folder in reversed(own):
            search_path.prepend("project", f"file://{folder.as_posix()}")
        for folder in CONFS[len(own) + 1 :]:
            search_path.append("plugin", f"file://{folder.as_posix()}")
        for folder in RECIPES:
            search_path.append("experiments", f"{ExperimentSource.scheme()}://{folder.as_posix()}")


def names(group: str) -> list[str]:
    """The names that a group in conf/ takes."""
    return sorted({file.stem for file in _all(group) if not file.stem.startswith("_")})


def _all(group: str) -> list[Path]:
    return [file for folder in CONFS for file in sorted((folder / group).glob("*.yaml"))]


def path_of(group: str, name: str) -> Path:
    """File of a choice: the user's own, else that of this project, whether it is there or not."""
    files = [folder / group / f"{name}.yaml" for folder in CONFS]
    found: Path = next((file for file in files if file.is_file()), files[-1])
    return found


def load(group: str, name: str) -> DictConfig:
    """A file of a group in conf/, upon the parts that its defaults list names; nothing is resolved."""
    own = _read(path_of(group, name))
    merged = OmegaConf.merge(*(load(group, part) for part in _parts(own)), own)
    assert isinstance(merged, DictConfig)
    merged.pop("defaults", None)
    return merged


def incomplete(group: str) -> list[str]:
    """Names of a group that need an option beside them, such as the path of a file."""
    found = {name: OmegaConf.create(load(group, name)) for name in names(group)}
    return [name for name, node in found.items() if any(OmegaConf.is_missing(node, str(key)) for key in node)]


def files(group: str, name: str | None) -> list[Path]:
    """The file of a choice, then those of the parts that it is composed of."""
    path = path_of(group, str(name))
    if not path.is_file():
        return []
    return [path, *(file for part in _parts(_read(path)) for file in files(group, part))]


def every_file() -> list[Path]:
    """All configuration files: recipes, then those of conf/."""
    return [file for folder in (*RECIPES, *CONFS) for file in sorted(folder.rglob("*.yaml"))]


def _parts(node: DictConfig) -> list[str]:
    """Names of the files of its group that a file is composed of; choices of other groups do not count."""
    return [part for part in node.get("defaults", []) if isinstance(part, str) and part != "_self_"]


def _read(path: Path) -> DictConfig:
    found = OmegaConf.load(path)
    assert isinstance(found, DictConfig)
    return found


def choices() -> dict[str, list[str]]:
    """Every config group with the names that it takes."""
    folders = {(file.parent, top) for top in CONFS for file in top.rglob("*.yaml") if file.parent != top}
    found = {group: names(group) for group in {folder.relative_to(top).as_posix() for folder, top in folders}}
    recipes = {f.relative_to(top).with_suffix("").as_posix() for top in RECIPES for f in top.rglob("*.yaml")}
    return dict(sorted((found | {GROUP: sorted(recipes)}).items()))


def register() -> None:
    """Makes both known to Hydra, and the user's own packages importable; again changes nothing."""
    project.enter()
    OmegaConf.register_new_resolver("spec", placeholders.itself, replace=True)
    Plugins.instance().register(ExperimentSource)
    Plugins.instance().register(ExperimentSearchPath)
    hide_parts()
