"""Installed packages that register as plugins, in real processes: what they bring is known, and one that fails is told.

They are written as pip installs them: a package and a dist-info folder with entry points in a folder on the path.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from src.runtime import plugins
from tests.own_project import QUICK, TASK, TASK_YAML, Project

NET = """
from torch import nn

class Net(nn.Module):
    def __init__(self, in_features: int, num_outputs: int, width: int = 8):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(in_features, width), nn.ReLU(), nn.Linear(width, num_outputs))

    def forward(self, x):
        return self.layers(x)
"""


def install(site: Path, name: str, files: dict[str, str], module: str | None = None) -> None:
    info = site / f"{name}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[labbook.plugins]\n{name} = {module or name}\n")
    for path, text in {"__init__.py": "", **files}.items():
        file = site / name / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A folder beside a site with four plugins; two of them fail when they are imported, one at its first word."""
    folder, site = tmp_path_factory.mktemp("place"), tmp_path_factory.mktemp("site")
    task = {"tasks/__init__.py": "", "tasks/squares.py": TASK.replace("NAME", "squares")}
    files = {
        "models.py": NET,
        "plugin.py": "from pathlib import Path\nPath('imported').touch()\n",
        "conf/model/theirs.yaml": "# Theirs.\n_target_: gardens.models.Net\nwidth: 8\n",
        "conf/model/cnn.yaml": "_target_: gardens.models.Net\n",
        "conf/task/squares.yaml": TASK_YAML.replace("NAME", "squares"),
        "experiments/gardens/small.yaml": "# Small.\ndefaults: [override /model: theirs, override /data: iris]\n",
    }
    install(site, "gardens", {**task, **files}, "gardens.plugin")
    install(
        site,
        "broken",
        {"conf/model/lost.yaml": "_target_: broken.Net\n", "__init__.py": "import no_such_thing\n\nclass Net: ...\n"},
    )
    install(site, "leaves", {"__init__.py": "import sys\n\nsys.exit(3)\n"})
    install(site, "late", {"registers.py": TASK.replace("NAME", "late")}, "late.registers")
    project = Project(folder)
    project.env["PYTHONPATH"] += f":{site}"
    return project


TOLD = [
    "plugin broken is left out: broken: ModuleNotFoundError: No module named 'no_such_thing' [",
    "plugin leaves is left out: leaves: SystemExit: 3 [",
]


def test_what_a_plugin_brings_is_known_and_nothing_of_it_is_imported(place: Project) -> None:
    shown = place.run("train", "--help")
    assert shown.returncode == 0 and shown.stderr == ""
    assert "theirs" in shown.stdout and "gardens/small" in shown.stdout and "squares" in shown.stdout
    assert "hidden" not in (typo := place.run("train", "model=theirz")).stderr
    assert typo.stderr == "error: model=theirz: there is no such model (did you mean theirs?)\n"
    wrong = place.run("train", "model=theirs", "model.widht=3")
    assert wrong.stderr == "error: model.widht: Net has no such option (did you mean width?)\n"
    wrong = place.run("train", "model=theirs", "task=squares", "task.powr=3")
    assert wrong.stderr == "error: task.powr: the task squares has no such option (did you mean power?)\n"
    config = place.run("train", "experiment=gardens/small", "--cfg", "job").stdout
    assert "_target_: gardens.models.Net" in config
    # what is installed does not change what a built-in name means
    assert "_target_: src.models.CNN" in place.run("train", "model=cnn", "--cfg", "job").stdout
    assert not (place.folder / "imported").exists()


def test_its_model_and_task_train_and_answer_and_plugins_that_fail_are_told_of(place: Project) -> None:
    uri = f"tracking.uri=sqlite:///{place.folder}/mlflow.db"
    done = place.run("train", "experiment=gardens/small", "task=squares", "task.power=2", uri, *QUICK)
    assert done.returncode == 0 and "Net on iris: squares" in done.stdout, done.stderr
    told = done.stderr.splitlines()
    assert len(told) == 2 and all(line.startswith(start) for line, start in zip(told, TOLD, strict=True))
    assert "/broken/__init__.py:1]" in told[0] and "/leaves/__init__.py:3]" in told[1]
    assert (place.folder / "imported").exists()
    assert place.runs()[0].data.params["task.power"] == "2"
    again = place.run("evaluate", "run=last", "resamples=0", uri)  # its code needs no trust=
    assert again.returncode == 0 and "to the last bit" in again.stdout, again.stderr
    fits = place.run("inspect", "data=iris", "output=null")
    assert fits.returncode == 0 and "theirs (" in fits.stdout and "lost" not in fits.stdout, fits.stderr
    lost = place.run("train", "model=lost", "data=iris", uri)
    assert lost.returncode == 2
    assert "error: broken.Net cannot be imported: no module no_such_thing" in lost.stderr.splitlines()[-1]


def test_a_task_that_a_plugin_registers_when_it_is_imported_is_there_for_a_run(place: Project) -> None:
    uri = f"tracking.uri=sqlite:///{place.folder}/mlflow.db"
    done = place.run("train", "model=theirs", "data=iris", "task.name=late", "++task.power=3", uri, *QUICK)
    assert done.returncode == 0 and "Net on iris: late" in done.stdout, done.stderr


def test_a_project_that_is_installed_brings_its_conf_from_anywhere(tmp_path: Path) -> None:
    made = Project(tmp_path).run("init", "mylab")
    assert made.returncode == 0, made.stderr
    pip = [sys.executable, "-m", "pip", "-q", "--disable-pip-version-check", "install", "--no-deps"]
    target = ["--no-build-isolation", "--target", str(tmp_path / "site"), str(tmp_path / "mylab")]
    subprocess.run([*pip, *target], check=True, capture_output=True)
    (tmp_path / "elsewhere").mkdir()
    elsewhere = Project(tmp_path / "elsewhere")
    elsewhere.env["PYTHONPATH"] += f":{tmp_path / 'site'}"
    assert "_target_: mylab.models.small.Small" in elsewhere.run("train", "experiment=first", "--cfg", "job").stdout


def test_an_editable_project_is_found_in_its_own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = Project(tmp_path).run("init", "herlab")
    assert made.returncode == 0, made.stderr
    info = tmp_path / "site" / "herlab-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "entry_points.txt").write_text("[labbook.plugins]\nherlab = herlab\n")
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path / "site"), str(tmp_path / "herlab")])
    plugins.installed.cache_clear()
    try:
        assert [plugin.home for plugin in plugins.installed() if plugin.name == "herlab"] == [tmp_path / "herlab"]
    finally:
        plugins.installed.cache_clear()
