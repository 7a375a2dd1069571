"""A saved configuration continued: values may change, the choice of model, data or optimizer may not."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import cache
from typing import Any, cast

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from src.config import former, recipes, schemas
from src.config.annotation import names_code
from src.config.composition import TEXT_KEYS, explain, parse, plain_arguments
from src.config.signature import NoSource, NotFound, resolve
from src.config.task_options import accepted_by
from src.config.validate import check, nodes
from src.errors import UserError
from src.runtime import renames, trust

TARGET = re.compile(r"^\s*_target_:\s*['\"]?([\w.]+)", re.MULTILINE)


def task_overrides() -> list[str]:
    """The current job's own overrides as the user gave them, without `resume=`."""
    if not HydraConfig.initialized():
        return []
    return [text for text in HydraConfig.get().overrides.task if text.lstrip("+").partition("=")[0] != "resume"]


def compose_saved(saved: dict[str, Any], overrides: Sequence[str] = (), *, anew: bool = False) -> DictConfig:
    """A run's saved plain configuration with dotted values changed, checked as a fresh one is.

    Args:
        saved: the resolved configuration as plain containers.
        overrides: `trainer.max_epochs=40` and the like.
        anew: for a run that begins at the beginning; else one that goes on.

    Raises:
        UserError: a group's choice, a deletion, a sweep, an unknown key, a value that does not fit, a `_target_`
            that no file of this project names (what is built from a configuration runs code).
    """
    kind = "a rerun" if anew else "a resumed run"
    saved = renames.renamed(saved, "train") | {"trust": None}  # nobody is trusted because a file says so
    refuse_foreign(saved)
    saved = later_keys(saved) | saved
    config = OmegaConf.create(saved)
    given: list[str] = []
    for text in plain_arguments(overrides):
        override = parse(text)
        key, value = override.key_or_group, override.value()
        given.append(key)
        if key in ("debug", recipes.GROUP) or "/" in key or override.package is not None:
            if (key, value) == ("debug", "traceback"):
                config.traceback = True
                continue
            raise UserError(f"{text}: {kind} keeps its choices; change single values: trainer.max_epochs=40")
        if override.is_delete() or override.is_sweep_override():
            raise UserError(f"{text}: {kind} takes plain KEY=VALUE changes only")
        if isinstance(saved.get(key), dict) and "_target_" in saved[key] and not isinstance(value, dict):
            raise UserError(f"{text}: {kind} keeps its {key}; change single values: {key}.OPTION=VALUE")
        if key == "init_from" and not anew:
            raise UserError(f"{text}: a resumed run goes on from its own weights")
        if key.endswith("._target_"):
            raise UserError(f"{text}: {kind} keeps its {key.removesuffix('._target_')}")
        if key in TEXT_KEYS and isinstance(value, int | float):
            value = text.partition("=")[2]
        try:
            OmegaConf.update(config, key, value, merge=True, force_add=True)
        except (OmegaConfBaseException, TypeError, ValueError) as error:
            raise explain(error) from error
    former.update(config, "train", given)
    if not anew and OmegaConf.select(config, "task.monitor") != saved.get("task", {}).get("monitor"):
        # the best score so far is one of the old metric, and the weights of other epochs are gone
        raise UserError(f"task.monitor={config.task.monitor}: a resumed run keeps the metric that picks its best epoch")
    check(config)
    OmegaConf.set_struct(config, True)
    return config


def continued(frozen: DictConfig) -> DictConfig:
    """A configuration that a sweep froze, which may have been begun by an earlier release, as today's code takes it."""
    saved = renames.renamed(OmegaConf.to_container(frozen), "train")
    config: DictConfig = OmegaConf.create(later_keys(saved) | saved)
    return config


def later_keys(saved: dict[str, Any]) -> dict[str, Any]:
    """Root keys that came after a configuration was saved, with their defaults, which change nothing."""
    defaults = OmegaConf.load(recipes.CONF / "train.yaml")
    assert isinstance(defaults, DictConfig)
    missing = [key for key in schemas.keys("train") if key not in saved and key in defaults]
    return cast("dict[str, Any]", OmegaConf.to_container(OmegaConf.masked_copy(defaults, missing)))


def refuse_foreign(saved: dict[str, Any]) -> None:
    """Raise a UserError for a `_target_` in no file of conf/ or experiments/ that is not trusted; see runtime/trust."""
    for path, node in nodes("", saved):
        target = str(node["_target_"])
        if target in own_targets():
            continue
        where = f"{path.lstrip('.')}._target_"
        if not trust.is_trusted(target):
            raise UserError(
                f"{where}: {target} is not used in conf/ or experiments/, so it is not run; {trust.advice(target)}"
            )
        try:
            trust.check_part(target)
        except (ImportError, AttributeError) as error:
            if target.startswith(f"{trust.OWN}."):  # what it says of that is said when the node is checked
                continue
            raise UserError(f"{where}: {target} cannot be imported ({error})") from error
        except UserError as error:
            raise UserError(f"{where}: {error}") from error
    for path, target in named_code(saved):
        try:
            trust.check_package(target)
            owner = resolve(target)[0].name
        except (UserError, NotFound, NoSource, SyntaxError) as error:
            raise UserError(f"{path}: {error}") from error
        if owner.partition(".")[0] != target.partition(".")[0]:
            raise UserError(f"{path}: {target} is code of {owner}, so it is not run")


def named_code(saved: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Path and value of each option that names code, in nodes whose targets can be read."""
    for path, node in nodes("", saved):
        with suppress(NotFound, SyntaxError):
            parameters = accepted_by(node).parameters
            for name, value in node.items():
                if name in parameters and isinstance(value, str) and names_code(parameters[name].annotation):
                    yield f"{path}.{name}".lstrip("."), value


@cache
def own_targets() -> frozenset[str]:
    """Every `_target_` that the files in conf/ and experiments/ name."""
    return frozenset(name for file in recipes.every_file() for name in TARGET.findall(file.read_text(encoding="utf-8")))
