"""A task of a user's own project: a file in its folder `tasks` and one in conf/task, and nothing that lists them."""

from __future__ import annotations

from pathlib import Path

from tests.own_project import QUICK, TASK, TASK_YAML, new_project


def test_a_task_is_a_file_and_its_yaml(tmp_path: Path) -> None:
    project = new_project(tmp_path)
    project.write("mylab/tasks/__init__.py", "")
    project.write("mylab/tasks/squares.py", TASK.replace("NAME", "squares"))
    project.write("conf/task/squares.yaml", TASK_YAML.replace("NAME", "squares"))
    assert "squares" in project.run("train", "--help").stdout
    wrong = project.run("train", "experiment=first", "task=squares", "task.powr=2")
    assert wrong.stderr == "error: task.powr: the task squares has no such option (did you mean power?)\n"
    done = project.run("train", "experiment=first", "task=squares", "task.power=2", *QUICK)
    assert done.returncode == 0 and "Small on Rings: squares" in done.stdout, done.stderr
    again = project.run("evaluate", "run=last", "resamples=0")
    assert again.returncode == 0 and "to the last bit" in again.stdout, again.stderr


def test_what_is_registered_elsewhere_is_imported_where_the_table_says_so(tmp_path: Path) -> None:
    project = new_project(tmp_path)
    project.write("mylab/objectives.py", TASK.replace("NAME", "squares"))
    project.write("conf/task/squares.yaml", TASK_YAML.replace("NAME", "squares"))
    table = project.folder / "pyproject.toml"
    table.write_text(table.read_text().replace("[tool.labbook]", '[tool.labbook]\nimport = ["mylab.objectives"]'))
    done = project.run("train", "experiment=first", "task=squares", *QUICK)
    assert done.returncode == 0 and "Small on Rings: squares" in done.stdout, done.stderr
