"""Private members of other libraries: each is there in the installed version, and where one is gone a public way works.

A test of the first kind fails with the release that removes the member; `TESTED` and the file in src/runtime/compat
then have to change together.
"""

from __future__ import annotations

import ast
import importlib
import importlib.metadata
import sys
import warnings
from pathlib import Path
from types import SimpleNamespace

import pytest
import pytorch_lightning as pl
import torch
import torchmetrics
from hydra.core.plugins import Plugins
from hydra.plugins.search_path_plugin import SearchPathPlugin
from omegaconf import OmegaConf
from packaging.specifiers import SpecifierSet
from pytorch_lightning.loops import training_epoch_loop
from pytorch_lightning.utilities.combined_loader import CombinedLoader
from torch.utils.data import DataLoader

from src.errors import RunFailed, UserError
from src.experiment import assemble
from src.runtime.compat import hydra as hydra_compat
from src.runtime.compat import lightning, lightning_utilities, transformers
from src.runtime.compat import optuna as optuna_compat
from src.runtime.compat import torch as torch_compat
from src.runtime.compat import torchmetrics as torchmetrics_compat
from src.training.loop import EpochLoop
from tests.conftest import ROOT

COMPAT = ROOT / "src" / "runtime" / "compat"
LIBRARIES = {
    "hydra": "hydra-core",
    "lightning": "pytorch-lightning",
    "lightning_utilities": "lightning-utilities",
    "mlflow": "mlflow",
    "optuna": "optuna",
    "torch": "torch",
    "torchmetrics": "torchmetrics",
    "transformers": "transformers",
}


def test_every_file_says_which_versions_it_was_tested_with() -> None:
    files = {path.stem for path in COMPAT.glob("*.py")} - {"__init__", "mlflow_schema"}
    assert files == set(LIBRARIES)


@pytest.mark.parametrize("name", LIBRARIES)
def test_the_installed_version_is_a_tested_one(name: str) -> None:
    tested = importlib.import_module(f"src.runtime.compat.{name}").TESTED
    assert SpecifierSet(tested).contains(importlib.metadata.version(LIBRARIES[name]), prereleases=True)
    assert tested in (importlib.import_module(f"src.runtime.compat.{name}").__doc__ or "") or name == "lightning"


def test_no_private_member_is_touched_elsewhere() -> None:
    """What ruff's SLF001 finds, and names that are imported or given as text."""
    found = []
    for path in sorted((ROOT / "src").rglob("*.py")):
        if path.is_relative_to(COMPAT):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom):
                names = [*(node.module or "").split("."), *(alias.name for alias in node.names)]
                found += [(path.name, name) for name in names if name.startswith("_") and name[:2] != "__"]
            elif isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("getattr", "hasattr", "setattr"):
                name = getattr(node.args[1], "value", "")
                if str(name).startswith("_") and str(name)[:2] != "__":
                    found.append((path.name, name))
    assert not found, found


# Lightning


def trainer(**options) -> pl.Trainer:
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    return pl.Trainer(accelerator="cpu", enable_checkpointing=False, **quiet, **options)


def test_lightnings_epoch_loop_can_be_replaced() -> None:
    assert lightning.unsuitable(trainer()) is None
    assert EpochLoop.install(made := trainer()) is None
    assert isinstance(made.fit_loop.epoch_loop, EpochLoop)


@pytest.mark.parametrize("name", ["_val_check_time_interval", "_logger_connector"])
def test_without_a_member_of_the_trainer_lightnings_own_loop_stays(name: str) -> None:
    made = trainer()
    delattr(made, name)
    own = made.fit_loop.epoch_loop
    assert f"has no Trainer.{name}" in EpochLoop.install(made)
    assert made.fit_loop.epoch_loop is own


@pytest.mark.parametrize("name", ["_results", "_batches_that_stepped"])
def test_without_a_member_of_the_loop_lightnings_own_stays(name: str) -> None:
    made = trainer()
    delattr(made.fit_loop.epoch_loop, name)
    assert f"has no epoch_loop.{name}" in EpochLoop.install(made)


def test_without_what_a_log_call_asks_lightnings_own_loop_stays() -> None:
    made = trainer()
    del made._logger_connector._first_loop_iter
    assert "has no Trainer._logger_connector._first_loop_iter" in EpochLoop.install(made)


def test_without_the_class_lightnings_own_loop_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(training_epoch_loop, "_TrainingEpochLoop")
    assert "has no training_epoch_loop._TrainingEpochLoop" in EpochLoop.install(trainer())


def test_a_version_that_was_not_tested_takes_its_own_steps_and_the_run_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(lightning.pl, "__version__", "2.7.0")
    reason = EpochLoop.install(trainer())
    assert reason == "pytorch-lightning 2.7.0 is not among the versions tested, >=2.6.6,<2.7"
    assert "\n" not in assemble.OWN_STEPS.format(reason=reason)


def test_lightning_ends_the_workers_of_a_loader_by_the_name_that_ours_has() -> None:
    ended = []
    loader = SimpleNamespace(_iterator=SimpleNamespace(_shutdown_workers=lambda: ended.append(True)))
    combined = CombinedLoader([[1]])
    combined.flattened[0] = loader
    from pytorch_lightning.utilities import combined_loader

    real = combined_loader._MultiProcessingDataLoaderIter
    loader._iterator = type("Workers", (real,), {"__init__": lambda self: None, "__del__": lambda self: None})()
    loader._iterator._shutdown_workers = lambda: ended.append(True)
    combined.reset()
    assert ended and loader._iterator is None


def test_packages_are_hidden_while_lightning_is_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    from lightning_utilities.core.imports import RequirementCache, package_available

    assert lightning_utilities.missing() is None
    with lightning_utilities.hidden(["matplotlib"]):
        assert not RequirementCache("matplotlib")
        assert not lightning_utilities.imports.package_available("matplotlib")
    assert RequirementCache("matplotlib") and package_available("matplotlib")


def test_nothing_is_hidden_where_a_member_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(lightning_utilities.imports, "package_available")
    with lightning_utilities.hidden(["matplotlib"]):
        assert lightning_utilities.imports.RequirementCache("matplotlib")


# Hydra


def test_our_flags_are_those_of_hydra() -> None:
    from hydra._internal.utils import get_args_parser

    theirs = {
        tuple(action.option_strings): (action.nargs, action.choices, action.const)
        for action in get_args_parser()._actions
        if action.option_strings and "--version" not in action.option_strings
    }
    own = {
        tuple(action.option_strings): (action.nargs, action.choices, action.const)
        for action in hydra_compat.arguments_parser()._actions
        if action.option_strings and "--version" not in action.option_strings
    }
    assert own == theirs
    assert set(hydra_compat.FLAGS) == {*theirs, ("--version",)}


def test_compositions_go_through_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    from hydra._internal.config_loader_impl import ConfigLoaderImpl

    before = ConfigLoaderImpl.load_configuration
    with hydra_compat.loading_through(lambda original, *arguments, **options: (original, arguments, options)):
        assert ConfigLoaderImpl.load_configuration("loader", 3, a=1) == (before, ("loader", 3), {"a": 1})
    assert ConfigLoaderImpl.load_configuration is before


def test_parts_of_configurations_are_no_choices(monkeypatch: pytest.MonkeyPatch) -> None:
    from hydra._internal.config_repository import ConfigRepository

    monkeypatch.setattr(ConfigRepository, "get_group_options", lambda *arguments: ["_split", "csv", "iris"])
    hydra_compat.hide_parts()
    hydra_compat.hide_parts()
    assert ConfigRepository.get_group_options("data") == ["csv", "iris"]


def test_without_the_class_nothing_is_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    from hydra._internal import config_repository

    before = config_repository.ConfigRepository.get_group_options
    monkeypatch.delattr(config_repository, "ConfigRepository")
    hydra_compat.hide_parts()
    monkeypatch.undo()
    assert config_repository.ConfigRepository.get_group_options is before


def test_a_hydra_that_cannot_be_checked_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from hydra._internal import config_loader_impl

    monkeypatch.delattr(config_loader_impl, "ConfigLoaderImpl")
    with (
        pytest.raises(RunFailed, match="has no ConfigLoaderImpl.load_configuration: install hydra-core"),
        hydra_compat.loading_through(print),
    ):
        pass


class Small(SearchPathPlugin):
    """A plugin of Hydra's simplest kind."""

    def __init__(self, size: int) -> None:
        self.size = size

    def manipulate_search_path(self, search_path) -> None: ...


def test_hydra_builds_plugins_from_the_package_that_is_made_here() -> None:
    plugins, kept = Plugins.instance(), sys.modules.get(hydra_compat.PLUGINS)
    try:
        hydra_compat.register_plugins([Small])
        made = plugins._instantiate(OmegaConf.create({"_target_": f"{hydra_compat.PLUGINS}.Small", "size": 3}))
    finally:
        plugins.plugin_type_to_subclass_list[SearchPathPlugin].remove(Small)
        if kept is not None:
            hydra_compat.plugin_module([value for value in vars(kept).values() if isinstance(value, type)])
    assert isinstance(made, Small) and made.size == 3


def test_combinations_of_a_sweep_are_those_of_hydras_own_sweeper() -> None:
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
    from hydra.core.override_parser.overrides_parser import OverridesParser

    from src.sweeps.launchers.base import grid_jobs

    texts = ["a=1,2", "b='x,y'", "c=range(3)", "~d", "+e=glob", "a=3,4", "f=[1,2],[3]", "g='it\\'s',two"]
    overrides = OverridesParser.create().parse_overrides([text for text in texts if text[0] != "~"])
    assert [grid_jobs(overrides)] == BasicSweeper.split_arguments(overrides, None)


# torch


def test_a_compiled_module_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    module = torch.nn.Linear(2, 2)
    assert not torch_compat.is_compiled(module)
    module.compile(backend="eager")
    assert torch_compat.is_compiled(module)


def test_a_module_that_does_not_say_counts_as_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch.nn.Module, "_compiled_call_impl")
    assert torch_compat.is_compiled(torch.nn.Linear(2, 2))


@pytest.mark.parametrize("public", [False, True])
def test_tensors_are_moved_and_copied_with_the_same_bits(public: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    own, ends = ([torch.randn(3, n) for n in (1, 50)] for _ in range(2))
    wanted = [a.lerp(b, 0.3) for a, b in zip(own, ends, strict=True)]
    assert hasattr(torch, "_foreach_lerp_") and hasattr(torch, "_foreach_copy_")
    if public:
        monkeypatch.delattr(torch, "_foreach_lerp_")
        monkeypatch.delattr(torch, "_foreach_copy_")
    torch_compat.lerp_(own, ends, 0.3)
    assert all(map(torch.equal, own, wanted))
    torch_compat.copy_(own, ends)
    assert all(map(torch.equal, own, ends))


def test_the_workers_of_a_loader_can_be_ended() -> None:
    from torch.utils.data.dataloader import _MultiProcessingDataLoaderIter

    iterator = iter(DataLoader([1, 2], num_workers=1, persistent_workers=True))
    assert isinstance(iterator, _MultiProcessingDataLoaderIter)
    torch_compat.worker_stop(iterator)()
    assert not any(worker.is_alive() for worker in iterator._workers)
    torch_compat.worker_stop(iter([1]))()  # without the member: nothing happens


# torchmetrics, transformers, Optuna


@pytest.mark.parametrize("public", [False, True])
def test_a_restored_metric_computes_without_a_warning(public: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    metric = torchmetrics.MeanMetric()
    assert metric._update_count == 0 and metric.update_count == 0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        if public:  # the filter must hold what the count says
            monkeypatch.setattr(torchmetrics_compat, "hasattr", lambda *_: False, raising=False)
        torchmetrics_compat.mark_updated(metric)
        metric.compute()


def test_a_models_attention_and_state_are_known() -> None:
    from transformers import BertConfig, BertModel

    model = BertModel(BertConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8))
    assert hasattr(model.config, "_attn_implementation") and hasattr(model, "_is_stateful")
    assert not transformers.is_stateful(model)
    model.set_attn_implementation("eager")
    assert transformers.attention_implementation(model.config) == "eager"


def test_a_model_that_does_not_say_takes_the_safe_way() -> None:
    assert transformers.is_stateful(SimpleNamespace())
    assert transformers.attention_implementation(SimpleNamespace()) == "sdpa"


def test_a_trial_goes_on(tmp_path: Path) -> None:
    optuna = pytest.importorskip("optuna")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study()
    asked = study.ask()
    asked.suggest_float("x", 0, 1)
    again = optuna_compat.continued(study, asked.number)
    assert again.number == 0 and again.params == asked.params
    again.report(0.5, step=1)
    assert study.trials[0].intermediate_values == {1: 0.5}


def test_a_trial_that_cannot_go_on_is_named() -> None:
    study = SimpleNamespace(get_trials=lambda deepcopy: [SimpleNamespace()])
    with pytest.raises(RunFailed, match="has no FrozenTrial._trial_id: a search needs optuna"):
        optuna_compat.continued(study, 0)
    assert issubclass(UserError, Exception)
