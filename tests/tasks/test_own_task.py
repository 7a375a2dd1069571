"""A task from outside, registered by the module of its model: trained on built-in data with no shared file changed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from src.config import compose
from src.config.recipes import CONF
from src.errors import UserError
from src.experiment.assemble import assemble
from src.metrics.modes import TAG, mode_of, read_tag, tags
from src.runtime.signals import Signals
from src.spec import Classes, DataSpec, TableSpec
from src.tasks import registry
from src.tasks.base import Task
from src.tasks.registry import make_task, register_task, saved_task
from tests.conftest import ROOT, Lab
from tests.own_task import Calibration, Net

OWN = ["model=fnn", "model._target_=tests.own_task.Net", "model.width=8", "data=iris"]
SPEC = DataSpec("toy", ("classification",), {"train": 3}, TableSpec((4,)), Classes(("a", "b", "c"), (1, 1, 1)))


def refusal(*overrides: str) -> str:
    with pytest.raises(UserError) as caught:
        assemble(compose([*OWN, *overrides]), Signals())
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_task_of_ones_own_is_built_with_its_options() -> None:
    parts = assemble(compose([*OWN, "task.sharpness=2", "task.power=3"]), Signals())
    task = parts.model.task
    assert (task.name, task.sharpness, task.loss_function.power) == ("calibration", 2, 3)
    assert isinstance(parts.model, Net) and parts.model.monitor == "val/brier"
    again = saved_task(parts.data.spec, Net.tasks, "calibration", parts.model.config["task"])
    assert (again.sharpness, again.loss_function, again.monitor) == (2, task.loss_function, "brier")


def test_what_does_not_concern_a_task_of_ones_own_is_refused_in_one_line() -> None:
    assert refusal("task.sharpnes=2") == "task.sharpnes: make_task has no such option (did you mean sharpness?)"
    assert refusal("task.sharpness=high").startswith("task.sharpness: expects a number")
    assert refusal("task.name=clasification").startswith("task=clasification does not fit data=iris and this model")
    assert "the task calibration has no such option" in refusal("task.name=calibration", "task.margin=0.5")
    own = "(its options: loss, monitor, power, sharpness)"
    assert refusal("task.margin=0.5") == f"task.margin is for verification, not for calibration {own}"
    assert refusal("task.monitor=accuracy").startswith("task.monitor=accuracy is no metric of calibration")
    with pytest.raises(UserError, match=r"^task.sharpness is for calibration, not for classification \(its options: "):
        make_task(SPEC, ("classification",), sharpness=2.0)
    with pytest.raises(UserError, match=r"^task.sharpnes is no option of calibration \(did you mean sharpness\?\)$"):
        make_task(SPEC, Net.tasks, sharpnes=2.0)


def test_a_run_with_a_task_of_ones_own_records_its_modes_and_leaves_what_its_view_shows(lab: Lab) -> None:
    given = [*OWN, "task.name=calibration", "task.sharpness=2", "trainer.max_epochs=2", "tracking.system_metrics=false"]
    done = lab.train(*given, env={"PYTHONPATH": str(ROOT)})
    assert done.code == 0, done.err
    (run,) = lab.runs()
    assert run.data.tags["labbook.task"] == "calibration" and json.loads(run.data.tags[TAG]) == {"brier": "min"}
    assert {"val/brier_best", "test/brier", "baseline/brier"} <= run.data.metrics.keys()
    assert run.data.params["task.sharpness"] == "2"
    folder = lab.artifacts(run.info.run_id)
    assert (folder / "figures" / "certainty.png").exists()
    header, *rows = (folder / "worst_examples.csv").read_text().splitlines()
    assert header.startswith("row,loss,class,certainty,sepal length (cm),") and len(rows) == 16
    assert "broken: none, RuntimeError: no such figure" in done.out


def test_modes_of_known_metrics_need_no_tag() -> None:
    assert tags({"loss": "min", "accuracy": "max"}) == {}
    own = read_tag(tags(Calibration.metric_modes))
    assert own == {"brier": "min"} and mode_of("val/brier_best") is None and mode_of("val/brier_best", own) == "min"
    assert mode_of("test/accuracy", own) == "max"
    assert read_tag({TAG: "{"}) == read_tag({TAG: "[1]"}) == read_tag({TAG: '{"brier": "up"}'}) == read_tag({}) == {}


def test_a_name_belongs_to_one_class() -> None:
    with pytest.raises(ValueError, match=r"^the task detection is src\.tasks\.detection\.task\.Detection: "):

        @register_task("detection")
        class Other(Task):
            pass

    assert register_task("calibration")(Calibration) is Calibration
    with pytest.raises(UserError, match=r"^task=calibrations: there is no such task \(did you mean calibration\?\)$"):
        registry.task_class("calibrations")


def test_each_built_in_task_is_found_by_its_name_and_has_a_file() -> None:
    for name, target in registry.built_in().items():
        cls = registry.task_class(name)
        assert (cls.name, registry.dotted(cls)) == (name, target)
        assert cls.monitor in cls.metric_modes
    assert registry.built_in().keys() | {"auto"} == {path.stem for path in (CONF / "task").glob("*.yaml")}


@pytest.mark.parametrize("file", sorted((CONF / "task").glob("*.yaml")), ids=lambda path: path.stem)
def test_a_file_has_the_options_of_its_task(file: Path) -> None:
    node = OmegaConf.load(file)
    if node.name == "auto":
        return
    cls = registry.task_class(node.name)
    options = registry.options_of(cls)
    for loss in cls.losses.values():
        options = options | registry.options_of(loss)
    common = {"name": node.name, "monitor": None} | ({"loss": None} if cls.losses else {})
    assert {key: value for key, value in node.items() if not key.startswith("_")} == common | options


# the union that every configuration had before a task's options were its own
EARLIER = {
    "loss": None,
    "label_smoothing": 0.0,
    "class_weights": None,
    "focal_gamma": 2.0,
    "huber_delta": 1.0,
    "mask_fraction": 0.15,
    "margin": 0.3,
    "scale": 16.0,
    "temperature": 0.1,
    "negatives": 0,
    "monitor": None,
}


@pytest.mark.parametrize("name", ["auto", "classification"])
def test_a_configuration_of_before_holds_all_options_and_serves(name: str) -> None:
    given = [f"++task.{key}={'null' if value is None else value}" for key, value in EARLIER.items()]
    config = compose(["model=fnn", "data=iris", f"task={name}", *given])
    assert assemble(config, Signals()).model.task.name == "classification"


def test_what_earlier_releases_ignored_is_left_out_of_a_saved_task() -> None:
    node = {**EARLIER, "name": "auto", "margin": 0.5, "loss": "focal"}
    task = saved_task(SPEC, ("classification",), "classification", node)
    assert (task.loss_function.focal_gamma, task.monitor) == (2.0, "accuracy")


def test_a_task_in_a_folder_of_its_own_takes_up_data_that_does_not_name_it(monkeypatch: pytest.MonkeyPatch) -> None:
    known = registry.built_in() | {"calibration": registry.dotted(Calibration)}
    monkeypatch.setattr(registry, "built_in", lambda: known)
    assert make_task(SPEC, Net.tasks).name == "calibration" and Net.incompatibility(SPEC) is None
    assert make_task(SPEC, ("classification", "calibration")).name == "classification"
    assert make_task(SPEC, ("classification", "calibration"), name="calibration").name == "calibration"
