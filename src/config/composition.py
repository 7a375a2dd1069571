"""Composition: Hydra puts conf/, a recipe and the command line together; each result is checked before it is used."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache, partial
from pathlib import Path
from typing import Any

import yaml
from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.config_loader import ConfigLoader
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import GrammarParseError

from src.config import former, recipes, schemas
from src.config.signature import NotFound, signature
from src.config.validate import Problem, check
from src.errors import UserError, chain, stop_behind, suggest
from src.runtime import project
from src.runtime.compat.hydra import loading_through

# root keys whose value is text: `resume=12e5` is, though YAML reads a number
TEXT_KEYS = ("name", "resume", "init_from", "run", "text", "context", "output", "sweep")
PROSE = ("text", "context", "filter", "runs", "by")  # whose value is taken as it stands


def compose(overrides: Sequence[str] = (), name: str = "train") -> DictConfig:
    """The checked configuration that `python -m src.NAME OVERRIDES` would run with, without Hydra's own part."""
    recipes.register()
    with initialize_config_dir(str(recipes.CONF), version_base="1.3", job_name=name), checked():
        return hydra_compose(name, overrides=plain_arguments(overrides, name))


def plain_arguments(arguments: Sequence[str], command: str = "train") -> list[str]:
    """Arguments as Hydra takes them: in today's names, prose quoted, `debug=true` and `debug=false` as choices of the
    group `debug`.
    """
    choices = {"debug=true": "debug=traceback", "debug=false": "debug=none"}
    return [_quoted(choices.get(argument.lower(), former.renamed(argument, command))) for argument in arguments]


def _quoted(argument: str) -> str:
    """A sentence may hold commas and brackets, which would be a sweep or a list."""
    key, equals, value = argument.partition("=")
    if key not in PROSE or not equals or value == "null" or re.fullmatch(r"""(['"]).*\1""", value, re.DOTALL):
        return argument
    value = re.sub(r"(\\*)('|$)", lambda found: found[1] * 2 + ("\\'" if found[2] else ""), value)
    return f"{key}='{value.replace('${', chr(92) + '${')}'"


@contextmanager
def checked(before_sweep: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Check all that Hydra composes while it holds; what goes wrong is a UserError of one line.

    Hydra composes a command line twice: the first time to see whether a recipe asks for a sweep. What that gave is kept
    for the second time.

    Args:
        before_sweep: is called when it has turned out that the command is a sweep.
    """
    probed: dict[tuple[str, ...], DictConfig] = {}

    def load_configuration(
        original: Callable[..., DictConfig],
        loader: ConfigLoader,
        config_name: str | None,
        overrides: list[str],
        run_mode: RunMode,
        **options: bool,
    ) -> DictConfig:
        if config_name is None:  # Hydra's own help
            return original(loader, config_name, overrides, run_mode, **options)
        parsed = [parse(text) for text in overrides]
        load = partial(_load, original, loader, config_name, parsed, options=options)
        if not options.get("validate_sweep_overrides", True):
            with suppress(UserError):  # as a sweep it may compose, where something is left open
                config = probed[tuple(overrides)] = load(RunMode.RUN)
                return config
            return load(run_mode)
        if run_mode != RunMode.RUN:
            before_sweep()
            return load(run_mode)
        _refuse_sweeps(parsed)
        config = _from_probe(probed, overrides) or load(run_mode)
        _check(config, parsed)
        return config

    with loading_through(load_configuration):
        yield


def _from_probe(probed: dict[tuple[str, ...], DictConfig], overrides: list[str]) -> DictConfig | None:
    """What was composed for these overrides before Hydra added the mode to them, with the mode; else None."""
    *asked, mode = overrides or [""]
    config = probed.pop(tuple(asked), None) if mode == "hydra.mode=RUN" else None
    if config is not None:
        config.hydra.mode = RunMode.RUN
        config.hydra.overrides.hydra.append(mode)
    return config


def _load(
    original: Callable[..., DictConfig],
    loader: ConfigLoader,
    config_name: str,
    parsed: list[Override],
    run_mode: RunMode,
    *,
    options: dict[str, Any],
) -> DictConfig:
    lenient = [_lenient(override, loader, config_name) for override in parsed]
    try:
        config = original(loader, config_name, lenient, run_mode, **options)
    except Exception as error:
        raise stop_behind(error) or explain(error, config_name) from error
    former.update(config, config_name, [override.key_or_group for override in parsed])
    _retarget(config, parsed)
    config.hydra.overrides.task = [o.input_line for o in parsed if not o.is_hydra_override()]
    return config


def _retarget(config: DictConfig, parsed: list[Override]) -> None:
    """Take out of a node whose `_target_` the command line or a recipe names what the class before had as options.

    Of an optimizer and the like what the new class takes too stays, such as `lr`; a model and data begin anew.
    """
    given = {override.key_or_group.lstrip("+") for override in parsed}
    for group in sorted(key.removesuffix("._target_") for key in given if key.endswith("._target_")):
        node = OmegaConf.select(config, group)
        others = given - {group}
        _drop(
            node, [key for key in map(str, node) if not any(_overlap(one, f"{group}.{key}") for one in others)], group
        )
    for group, choice in config.hydra.runtime.choices.items():
        node = config.get(group)
        for file in recipes.files(group, choice) if isinstance(node, DictConfig) and "_target_" in node else ():
            before: dict[str, Any] = OmegaConf.to_container(OmegaConf.load(file))  # type: ignore[assignment]
            if before.get("_target_", node["_target_"]) != node["_target_"]:  # what a recipe has changed is its own
                _drop(node, [key for key in map(str, before) if node.get(key) == before[key]], group)


def _drop(node: DictConfig, options: list[str], group: str) -> None:
    """Take options out of a node that its class does not take."""
    try:
        known = {} if group in ("model", "data") else signature(str(node["_target_"])).parameters
    except (NotFound, SyntaxError):  # which is answered when the node is checked
        return
    with open_dict(node):
        for option in options:
            if option in node and option not in known and not option.startswith("_"):
                del node[option]


def parse(text: str) -> Override:
    """One command-line override, or a UserError that says how it is written."""
    try:
        return OverridesParser.create().parse_overrides([text])[0]
    except OverrideParseException as error:
        if "=" not in text.lstrip("~"):
            raise UserError(f"cannot read '{text}': an override is KEY=VALUE") from error
        reason = str(error).splitlines()[0].removeprefix("LexerNoViableAltException: ")
        reason = "" if reason == text or reason.startswith("Error parsing override") else f" ({reason})"
        key, _, value = text.partition("=")
        raise UserError(f"cannot read '{text}'{reason}; quote a special value: {key}=\"'{value}'\"") from error


def _refuse_sweeps(parsed: list[Override]) -> None:
    for override in parsed:
        if override.is_sweep_override():
            raise UserError(f"{override.input_line}: several values are a sweep, add -m (one list is written [a,b])")


def _lenient(override: Override, loader: ConfigLoader, command: str) -> str:
    """The override in the form that sets a key whether it exists or not: `check` answers better than Hydra does."""
    text = str(override.input_line)
    if override.is_hydra_override() or override.is_delete() or override.package is not None:
        return text
    key, value = override.key_or_group, override.value()
    repository = loader.repository  # type: ignore[attr-defined, unused-ignore]  # every loader of Hydra has one
    if repository.group_exists(key) and not isinstance(value, dict):
        if not override.is_sweep_override() and (value == "" or not isinstance(value, str | None)):
            options = repository.get_group_options(key)
            raise UserError(f"{text}: {key} takes one name{suggest(str(value), options)}")
        if key in _groups(command):  # `+model=cnn` means model=cnn
            return text.lstrip("+")
        if key in _groups("train"):
            raise UserError(f"{key}: unknown option{suggest(key, schemas.keys(command))}")
        return text
    if key in TEXT_KEYS and isinstance(value, int | float) and not override.is_sweep_override():
        return f"++{key}='{text.partition('=')[2]}'"
    return f"++{text.lstrip('+')}"


@cache
def _groups(command: str) -> frozenset[str]:
    """The groups in a command's defaults list."""
    defaults = yaml.safe_load((recipes.CONF / f"{command}.yaml").read_text(encoding="utf-8"))["defaults"]
    return frozenset(key for entry in defaults if isinstance(entry, dict) for key in entry)


def _check(config: DictConfig, parsed: list[Override]) -> None:
    if config.hydra.mode == RunMode.RUN:
        if OmegaConf.select(config, "hydra.sweeper.params"):
            raise UserError("hydra.sweeper.params: this experiment is a sweep, run it with -m")
        if config.hydra.runtime.choices.get("hydra/sweeper") == "search":
            raise UserError("hydra/sweeper=search: a search is a sweep, add -m")
        if config.get("study") is not None and "_target_" in config.study:
            raise UserError(f"study={config.hydra.runtime.choices.get('study')}: a study is a sweep, add -m")
        for name, one in (("repeats", 1), ("folds", None)):
            if config.get(name, one) != one:
                raise UserError(f"{name}={config[name]}: several runs are a sweep, add -m")
    if config.get("resume") is not None:  # of training
        return  # the options are those of the saved run, and are checked against it
    instance = HydraConfig.instance()
    before = instance.cfg
    instance.cfg = config  # type: ignore[assignment, unused-ignore]  # for values such as ${hydra:runtime.choices.model}
    try:
        check(config, config.hydra.job.config_name)
    except Problem as problem:
        paths = former.spellings(config, problem.path)
        given = [(key, path) for key in (one.key_or_group for one in parsed) for path in paths if _overlap(key, path)]
        # of a file that was chosen by its name, and is no built-in one, the line is told all the same
        chosen = all(path.startswith(f"{key}.") for key, path in given)
        place = _place(config, problem.path, built_in=not given) if chosen else None
        raise UserError(f"{problem} [{place}]" if place else str(problem)) from problem
    finally:
        instance.cfg = before


def _overlap(one: str, other: str) -> bool:
    return one == other or one.startswith(f"{other}.") or other.startswith(f"{one}.")


def _place(config: DictConfig, path: str, *, built_in: bool) -> str | None:
    """`file, line N` of a key that came from a file: the recipe's, else that of its group's choice.

    Args:
        built_in: whether the file may be one of this project.
    """
    choices = {group.split("@")[0]: choice for group, choice in config.hydra.runtime.choices.items() if choice}
    group, _, rest = path.partition(".")
    found = [folder / f"{choices.get(recipes.GROUP)}.yaml" for folder in recipes.RECIPES]
    files = [(recipe, spelling) for recipe in found for spelling in former.spellings(config, path)]
    files += [(recipes.path_of("debug", str(choices.get("debug"))), path)]
    files += [(file, rest) for file in recipes.files(group, choices.get(group))]
    files += [(recipes.CONF / f"{config.hydra.job.config_name}.yaml", path)]
    for file, key in files:
        line = _line(file, key) if built_in or not file.is_relative_to(recipes.CONF) else None
        if line:
            return f"{project.short(file)}, line {line}"
    return None


def _line(file: Path, path: str) -> int | None:
    if not file.is_file() or not path:
        return None
    node, line = yaml.compose(file.read_text(encoding="utf-8")), None
    for part in re.sub(r"\[\d+\]", "", path).split("."):
        pairs = node.value if isinstance(node, yaml.MappingNode) else []
        found = next(((k, v) for k, v in pairs if k.value == part), None)
        if found is None:
            return None
        line, node = found[0].start_mark.line + 1, found[1]
    return line


def explain(error: BaseException, config_name: str | None = None) -> UserError:
    """Turn a complaint of Hydra, OmegaConf or YAML into one line in a user's words."""
    if isinstance(error, UserError):
        return error
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        return UserError(_missing(error, config_name))
    for cause in chain(error):
        if isinstance(cause, yaml.MarkedYAMLError) and cause.problem_mark is not None:
            mark = cause.problem_mark
            where = f"{project.short(mark.name)}, line {mark.line + 1}, column {mark.column + 1}"
            return UserError(f"{where}: {cause.problem or 'not YAML'}")
        if isinstance(cause, UnicodeDecodeError):
            return UserError(f"{_first(_is_not_text) or 'a configuration file'}: is not UTF-8 text")
        if isinstance(cause, GrammarParseError):
            wrong = str(cause).splitlines()[0]
            file = _first(partial(_contains, text=wrong.partition("'")[2].rpartition("'")[0]))
            return UserError(f"{file}: {wrong}" if file else wrong)
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if isinstance(error, HydraException) and error.__cause__ is not None:
        lines += [line.strip() for line in str(error.__cause__).splitlines() if line.strip()][:1]
    advice = ("To append to your", "See https", "full_key", "object_type", "Config search path", "Search path")
    kept = [line for line in lines if not line.startswith(advice)][:2]
    text = " ".join(kept) or type(error).__name__
    return UserError(re.sub(r"^Error merging override \+*(\S+)", r"cannot apply \1:", text))


def _first(found: Callable[[Path], bool]) -> str | None:
    """The first configuration file for which that holds, recipes before conf/."""
    return next((project.short(file) for file in recipes.every_file() if found(file)), None)


def _contains(file: Path, text: str) -> bool:
    return bool(text) and text in file.read_text(encoding="utf-8", errors="replace")


def _is_not_text(file: Path) -> bool:
    try:
        file.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return True
    return False


def _missing(error: MissingConfigException, config_name: str | None) -> str:
    path = str(error.missing_cfg_file)
    group, _, name = path.partition("/") if path.startswith(f"{recipes.GROUP}/") else path.rpartition("/")
    if not group:
        return f"there is no configuration {name}"
    options = list(error.options or [])
    parent = re.match(r"In '(.+?)'", str(error))
    from_file = parent is not None and parent[1] not in (config_name, "hydra/config")
    where = f" [{parent[1].replace(f'{recipes.GROUP}/', 'experiments/', 1)}.yaml]" if parent and from_file else ""
    return f"{group}={name}: there is no such {group.removesuffix('s')}{suggest(name, options)}{where}"
