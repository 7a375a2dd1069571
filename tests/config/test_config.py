"""Configuration: what composes, what is refused and in which words, and that conf/ and the code agree."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from src.config import compose, compose_saved
from src.config import recipes as sources
from src.config.annotation import understand
from src.config.signature import Module, NotFound, signature
from src.config.task_options import accepted_by
from src.config.validate import HYDRA_KEYS, nodes
from src.errors import UserError
from src.tasks import registry

GROUPS = [(group, name) for group, names in sources.choices().items() for name in names]
# parameters with a default that src/experiment/run.py hands over, so no option of the configuration
# options about the one class of a row: a dataset's file lists all of them, or none where rows have no such class
OF_CLASSES = {"anomalies", "held_out_classes", "val_classes", "per_class"}
# options of single tasks, which task=auto takes too: each stands in the file of its task
OF_ONE_TASK = {"class_weights", "mask_fraction", "negatives", "margin", "scale", "temperature"}
GIVEN_BY_CODE = {"src.tracking.start": {"active", "root", "tags", "name", "patience", "resume"}}
# a file that exists to change one value of its group
CHOSEN = {("task", "name"), ("tracking", "enabled")}


def refusal(*overrides: str) -> str:
    with pytest.raises(UserError) as caught:
        compose(overrides)
    message = str(caught.value)
    assert "\n" not in message
    return message


# what composes --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("group", "name"), GROUPS)
def test_every_choice_composes_and_validates(group, name):
    path = sources.CONF / group / f"{name}.yaml"
    content = OmegaConf.load(path) if path.exists() else {}
    required = [f"{group}.{key}=given" for key in content if OmegaConf.is_missing(content, key)]
    assert "hydra" not in compose([f"{group}={name}", *required])


def test_debug_choices_show_the_traceback_and_win_over_a_recipe():
    for name in sources.choices()["debug"]:
        assert compose([f"debug={name}"]).traceback is (name != "none")
    assert compose(["debug=true"]).traceback is True
    assert compose(["debug=false"]).traceback is False
    assert compose(["experiment=keras_example", "debug=profile"]).trainer.max_epochs == 1


def test_the_classic_example_is_what_its_recipe_says():
    config = compose(["experiment=keras_example"])
    assert list(config.model.hidden_sizes) == [64, 32]
    assert (config.model.activation, config.optimizer.lr, config.data.batch_size) == ("relu", 0.001, 32)
    assert (config.trainer.max_epochs, config.show_predictions, config.task.name) == (20, 5, "binary")
    assert config.optimizer["_target_"] == "torch.optim.Adam"


def test_free_tags_numbers_as_names_and_losses_are_taken():
    config = compose(["tags.purpose=baseline", "++tags.n=3", "name=2024", "resume=12e5", "task.loss=huber"])
    assert config.tags == {"purpose": "baseline", "n": 3}
    assert (config.name, config.resume, config.task.loss) == ("2024", "12e5", "huber")
    assert compose(["+model=fnn"]).model["_target_"].endswith("FNN")


def test_experiment_name_comes_from_the_environment(monkeypatch):
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "from-the-shell")
    assert compose().tracking.experiment == "from-the-shell"


# what is refused ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("model.drop=0.1", "model.drop: CNN has no such option (did you mean dropout?)"),
        ("+model.kernelsize=3", "model.kernelsize: CNN has no such option (did you mean kernel_size?)"),
        ("++model.kernelsize=3", "model.kernelsize: CNN has no such option (did you mean kernel_size?)"),
        ("+foo=1", "foo: unknown option (known: callbacks, channels_last, "),
        ("sed=1", "sed: unknown option (did you mean seed?)"),
        ("lr=0.1", "lr: unknown option (did you mean optimizer.lr?)"),
        ("modle=cnn", "modle: unknown option (did you mean model?)"),
        ("model=cn", "model=cn: there is no such model (did you mean cnn?)"),
        ("model=", "model=: model takes one name (known: autoencoder, bert, "),
        (
            "experiment=kers_example",
            "experiment=kers_example: there is no such experiment (did you mean keras_example?)",
        ),
        ("trainer.max_epochs=ten", "trainer.max_epochs: expects an integer or null, got 'ten'"),
        ("trainer.max_epoch=3", "trainer.max_epoch: Trainer has no such option (did you mean max_epochs?)"),
        ("trainer.precision=17", "trainer.precision: expects one of 64, 32, 16"),
        ("trainer.precision=bf16-mixd", "trainer.precision: bf16-mixd is not known (did you mean bf16-mixed?)"),
        ("seed=1.5", "seed: expects an integer, got 1.5"),
        ("seed=true", "seed: expects an integer, got true"),
        (
            "seed=99999999999999999999",
            "seed=99999999999999999999 must be between -9223372036854775808 and 9223372036854775807",
        ),
        ("threads=0", "threads=0 must be at least 1"),
        ("show_predictions=-1", "show_predictions=-1 must be at least 0"),
        ("predict=-1", "show_predictions=-1 must be at least 0"),
        ("show_prediction=1", "show_prediction: unknown option (did you mean show_predictions?)"),
        ("predct=1", "predct: unknown option (did you mean show_predictions?)"),
        ("pictures=x", "log_images: expects an integer, got 'x'"),
        ("+picturs=1", "picturs: unknown option (did you mean log_images?)"),
        ("agian=true", "agian: unknown option (did you mean force?)"),
        ("again=1", "force: expects true, false, got 1"),
        ("data.held_out_clases=3", "Digits has no such option (did you mean held_out_classes?)"),
        ("data.unseen_clases=3", "Digits has no such option (did you mean held_out_classes?)"),
        ("data.unseen_classes=[[1]]", "data.held_out_classes: expects "),
        ("unseen_classes=3", "unseen_classes: unknown option (did you mean data.held_out_classes?)"),
        (
            "+trainer.callbacks=[3]",
            "trainer.callbacks[0]: expects a node with _target_, a callback of Lightning; got 3",
        ),
        ("callbacks=model_sumary", "there is no such callback (did you mean model_summary?)"),
        ("callbacks.mine=3", "callbacks.mine: expects a node with _target_, a callback of Lightning; got 3"),
        ("callbacks.mine._target_=pytorch_lightning.callbacks.Tmer", "has no Tmer (did you mean Timer?)"),
        ("test=1", "test: expects true, false, got 1"),
        ("model.dropout=[1]", "model.dropout: expects a number, got [1]"),
        ("model.dropout=null", "model.dropout: expects a number, got null"),
        ("model.channels=[16,x]", "model.channels: expects a list of integers, got [16,x]"),
        ("model.activation=rellu", "model.activation: rellu is not known (did you mean relu?)"),
        ("task.loss=hubber", "task.loss: hubber is not known (did you mean huber?)"),
        ("optimizer.lr=ten", "optimizer.lr: expects a number, got 'ten'"),
        ("optimizer.betas=[0.9]", "optimizer.betas: expects a list of numbers, got [0.9]"),
        ("tags=3", "tags: expects a mapping {key: value}, got 3"),
        ("model=fnn,cnn", "model=fnn,cnn: several values are a sweep, add -m"),
        ("a b", "cannot read 'a b': an override is KEY=VALUE"),
        ("name=a(b", "cannot read 'name=a(b'"),
        ("name=${nowhere}", "name: ${nowhere} points to a key that does not exist"),
        ("name=${oc.env:LABBOOK_NO_SUCH}", "name: ${oc.env:LABBOOK_NO_SUCH} cannot be resolved"),
        ("seed=???", "seed: has no default, give one: seed=..."),
        ("model.dropout=???", "model.dropout: has no default, give one: model.dropout=..."),
        ("model._target_=src.models.cnn.CNM", "src.models.cnn has no CNM (did you mean CNN?)"),
        ("model._target_=src.model.cnn.CNN", "src has no model (did you mean models?)"),
        ("optimizer._target_=torch.optim.AdaamW", "torch.optim has no AdaamW (did you mean AdamW?)"),
        ("model._target_=no_such_package.CNN", "there is no package no_such_package"),
        ("~model", "model: is missing"),
        ("hydra/launcher=foo", "hydra/launcher=foo: there is no such hydra/launcher (known: basic"),
    ],
)
def test_a_mistake_is_answered_in_one_line(override, expected):
    assert expected in refusal(override)


@pytest.mark.parametrize(
    ("command", "options", "expected"),
    [
        ("inspect", ["data=iris", "model=fnn"], "model: unknown option (known: data, force, output, rows, seed, task"),
        ("predict", ["run=last", "experiment=keras_example"], "experiment: unknown option"),
        ("evaluate", ["+optimizer=sgd"], "optimizer: unknown option"),
        ("compare", ["data=iris"], "data: unknown option"),
        ("train", ["model=ppo", "model.clip_rang=1"], "PPO has no such option (did you mean clip_range?)"),
        ("train", ["model=dqn", "model.updats=1"], "DQN has no such option (did you mean gradient_steps?)"),
        ("train", ["model=dqn", "model.clip=1"], "DQN has no such option (known: activation, "),
    ],
)
def test_a_mistake_at_another_command_or_model_too(command, options, expected):
    with pytest.raises(UserError) as caught:
        compose(options, command)
    assert expected in str(caught.value)


@pytest.fixture
def recipes(tmp_path, monkeypatch) -> Path:
    """An empty folder in the place of experiments/."""
    monkeypatch.setattr(sources, "RECIPES", (tmp_path,))
    return tmp_path


def test_recipes_are_found_in_subfolders_and_need_no_package_line(recipes):
    (recipes / "speech").mkdir()
    (recipes / "speech" / "digits.yaml").write_text("# a recipe\nmodel:\n  dropout: 0.3\n")
    assert compose(["experiment=speech/digits"]).model.dropout == 0.3
    assert "did you mean speech/digits?" in refusal("experiment=speech/digit")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("# a recipe\nmodel:\n  hiden: 3\n", "model.hiden: CNN has no such option"),
        (
            "# a recipe\nseed: 1\ntrainer: {max_epochs: ten}\n",
            "trainer.max_epochs: expects an integer or null, got 'ten'",
        ),
        ("# a recipe\n\nmodle: {dropout: 0.1}\n", "modle: unknown option (did you mean model?)"),
    ],
)
def test_a_mistake_in_a_recipe_is_answered_with_its_line(recipes, text, expected):
    (recipes / "wrong.yaml").write_text(text)
    message = refusal("experiment=wrong")
    assert expected in message
    assert f"[{recipes / 'wrong.yaml'}, line 3]" in message


def test_broken_yaml_names_file_line_and_column(recipes):
    (recipes / "broken.yaml").write_text("# a recipe\nseed: 1\nmodel: {dropout: 0.1\ntrainer: 3\n")
    assert refusal("experiment=broken").startswith(f"{recipes / 'broken.yaml'}, line 4, column ")


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"name: \xff\xfe\n", "wrong.yaml: is not UTF-8 text"),
        (b"- seed\n", "wrong.yaml: expects KEY: VALUE lines, found a list or a single value"),
        (b"name: ${broken\n", "wrong.yaml: no viable alternative at input '${broken'"),
        (b"seed: 1\nseed: 2\n", "wrong.yaml, line 2, column 1: found duplicate key seed"),
        (b"model: 3\n", "model: expects a node with _target_"),
        (b"model: {_target_: src.models.FNN, channels: [8]}\n", "model.channels: FNN has no such option"),
        (b"callbacks: {t: {_target_: pytorch_lightning.callbacks.Timer, duratoin: x}}\n", "mean duration?"),
    ],
)
def test_a_recipe_that_cannot_be_used_is_named(recipes, content, expected):
    (recipes / "wrong.yaml").write_bytes(content)
    assert expected in refusal("experiment=wrong")


def test_a_recipe_that_names_another_class_begins_with_its_options(recipes):
    (recipes / "own.yaml").write_text("model: {_target_: src.models.FNN, depth: 3}\n")
    config = compose(["experiment=own"])
    assert config.model.depth == 3 and "channels" not in config.model


def test_a_recipe_that_names_a_missing_choice_is_named_itself(recipes):
    (recipes / "wrong.yaml").write_text("defaults:\n  - override /model: cn\n")
    assert refusal("experiment=wrong") == "model=cn: there is no such model (did you mean cnn?)"


# signatures -----------------------------------------------------------------------------------------------------------


def test_signatures_read_from_source_are_the_real_ones():
    import pytorch_lightning
    import torch

    targets = {
        "pytorch_lightning.Trainer": pytorch_lightning.Trainer,
        **{f"torch.optim.{n}": getattr(torch.optim, n) for n in ("SGD", "Adam", "AdamW", "RMSprop", "Muon")},
        "torch.nn.CrossEntropyLoss": torch.nn.CrossEntropyLoss,
        "torch.utils.data.DataLoader": torch.utils.data.DataLoader,
    }
    for name, real in targets.items():
        parameters = inspect.signature(real).parameters
        assert list(signature(name).parameters) == [k for k, p in parameters.items() if p.kind != p.VAR_KEYWORD], name
        for key, parameter in signature(name).parameters.items():
            assert (parameter.default is None) == (parameters[key].default is inspect.Parameter.empty), (name, key)


def test_a_target_that_is_not_there_is_answered_with_public_names():
    with pytest.raises(NotFound) as raised:
        signature("src.data.Nothing")
    assert "Csv" in str(raised.value) and "TYPE_CHECKING" not in str(raised.value)


def test_keywords_passed_on_to_a_base_class_are_checked_against_it(tmp_path, monkeypatch):
    (tmp_path / "outside_code.py").write_text(
        "from dataclasses import dataclass\n"
        "class Base:\n    def __init__(self, *, size: int = 1): ...\n"
        "class Passing(Base):\n    def __init__(self, *, rate: float = 0.1, **kwargs): super().__init__(**kwargs)\n"
        "class Open:\n    def __init__(self, **kwargs): ...\n"
        "class Silent(Base): ...\n"
        "@dataclass\nclass Plain:\n    size: int\n    names: list[str] | None = None\n"
        "Alias = Passing\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    assert set(signature("outside_code.Passing").parameters) == {"rate", "size"}
    assert signature("outside_code.Alias") == signature("outside_code.Passing")
    assert not signature("outside_code.Passing").open
    assert signature("outside_code.Open").open
    assert set(signature("outside_code.Silent").parameters) == {"size"}
    assert set(signature("outside_code.Plain").parameters) == {"size", "names"}
    with pytest.raises(NotFound, match="did you mean Passing"):
        signature("outside_code.Pasing")


@pytest.mark.parametrize(
    ("annotation", "fits", "does_not"),
    [
        ("int", [3, -1], [3.0, "3", True, None, [3]]),
        ("float", [3, 0.1], ["0.1", True, None]),
        ("bool", [True], [1, "true", None]),
        ("str | None", ["a", None], [3, ["a"]]),
        ("Optional[int]", [3, None], ["a"]),
        ("Union[int, list[float]]", [3, [1, 0.5]], [["a"], 0.5]),
        ("'list[int] | None'", [[1], [], None], [[1.5], 1]),
        ("tuple[int, ...]", [[1, 2]], [[1, "a"], 1]),
        ("tuple[float, float]", [[0.9, 0.99]], [[0.9], 0.9]),
        ("dict[str, int]", [{"a": 1}], [{"a": "b"}, [1]]),
        ("Literal['a', 3]", ["a", 3], ["b", 4, None]),
        ("bool | Literal['a']", [True, False, "a"], ["b", "true", 1, None]),
        ("Path", ["a/b"], [3]),
        ("Any", [3, "a", None], []),
        ("SomethingUnknown", [3, "a", None], []),
        ("int", [{"_target_": "src.models.CNN"}], []),
    ],
)
def test_annotations_accept_what_they_say(annotation, fits, does_not):
    module = Module("m", "", ast.parse("from typing import Any, Literal, Optional, Union"))
    kind = understand(ast.parse(annotation, mode="eval").body, module)
    assert all(kind.accepts(value) for value in fits)
    assert not any(kind.accepts(value) for value in does_not)


# conf/ and the code agree ---------------------------------------------------------------------------------------------


def _own_nodes():
    for file in sorted(sources.CONF.rglob("*.yaml")):
        group = file.parent.name if file.parent != sources.CONF else ""
        if file.stem.startswith("_"):
            continue  # a part: the files that take it up are checked
        read = sources.load(group, file.stem) if group == "data" else OmegaConf.load(file)
        raw = OmegaConf.to_container(read, resolve=False)
        if group and "defaults" in raw:
            continue  # a variant: its base file is checked
        for path, node in nodes("", raw):
            if node["_target_"].startswith("src."):
                yield pytest.param(group, node, id=f"{file.relative_to(sources.CONF)}{path}")


@pytest.mark.parametrize(("group", "node"), list(_own_nodes()))
def test_a_file_lists_every_option_of_its_target_with_the_same_default(group, node, monkeypatch):
    monkeypatch.setattr(registry, "_registered", {})  # the tasks that other tests register from outside
    accepted = accepted_by(node).parameters
    keys = set(node) - set(HYDRA_KEYS)
    options = {key for key, parameter in accepted.items() if parameter.default is not None or key in node}
    if not keys & OF_CLASSES:
        options -= OF_CLASSES
    if node.get("name") == "auto":
        options -= OF_ONE_TASK
    assert keys == options - GIVEN_BY_CODE.get(node["_target_"], set())
    if group == "data" or "data.augment" in node["_target_"]:
        return  # each dataset has values of its own
    for key in keys:
        if accepted[key].default is not None and (group, key) not in CHOSEN:
            value = OmegaConf.to_container(OmegaConf.create({key: node[key]}), resolve=True)[key]
            default = ast.literal_eval(accepted[key].default)
            assert value == (list(default) if isinstance(default, tuple) else default), key


@pytest.mark.parametrize("file", sorted(sources.every_file()), ids=str)
def test_every_file_opens_with_a_comment_that_says_what_it_is(file):
    lines = [line for line in file.read_text().splitlines() if not line.startswith("# @package")]
    assert lines[0].startswith("# ") and len(lines[0]) > 10


# a saved configuration ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def saved() -> dict:
    return OmegaConf.to_container(compose(["model=fnn"]), resolve=True)


def test_a_saved_configuration_takes_value_changes(saved):
    config = compose_saved(saved, ["trainer.max_epochs=40", "tags.again=yes", "debug=true", "name=7"])
    assert (config.trainer.max_epochs, config.tags.again, config.traceback, config.name) == (40, "yes", True, "7")
    assert config.model == saved["model"]
    assert saved["trainer"]["max_epochs"] == 20


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("model=cnn", "a resumed run keeps its model"),
        ("experiment=keras_example", "a resumed run keeps its choices"),
        ("debug=overfit", "a resumed run keeps its choices"),
        ("trainer.max_epoch=3", "did you mean max_epochs?"),
        ("+foo=1", "foo: unknown option"),
        ("trainer.max_epochs=ten", "expects an integer or null"),
        ("seed=1,2", "plain KEY=VALUE changes only"),
        ("~tags", "plain KEY=VALUE changes only"),
        ("model._target_=os.system", "a resumed run keeps its model"),
        ("init_from=last", "a resumed run goes on from its own weights"),
        ("task.monitor=loss", "a resumed run keeps the metric that picks its best epoch"),
    ],
)
def test_a_saved_configuration_refuses_the_rest(saved, override, expected):
    with pytest.raises(UserError) as caught:
        compose_saved(saved, [override])
    assert expected in str(caught.value) and "\n" not in str(caught.value)


def test_a_foreign_target_in_a_saved_configuration_is_not_run(saved):
    with pytest.raises(UserError, match="data._target_: shutil.rmtree is not used"):
        compose_saved(saved | {"data": {"_target_": "shutil.rmtree", "path": "x"}})
