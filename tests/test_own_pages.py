"""Pages about a project of one's own: their files are written into one, and their commands compose there."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.test_docs import OWN_PAGES, commands, composable

COMPOSE = """
import json, sys
from src.config import compose
from src.errors import UserError
for name, given in json.loads(sys.argv[1]):
    try:
        compose(given, name)
        print("composes")
    except UserError as error:
        print(f"error: {error}")
"""
FILES = re.compile(r"^```(?:python|yaml)\n(# ([\w/]+\.(?:py|yaml))\n.*?)^```$", flags=re.DOTALL | re.MULTILINE)


def run(folder: Path, *arguments: str) -> list[str]:
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-P", *arguments], cwd=folder, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.mark.parametrize("path", OWN_PAGES, ids=lambda path: path.stem)
def test_its_commands_compose(path: Path, tmp_path: Path) -> None:
    run(tmp_path, "-m", "src.init", "mylab")
    project, text = tmp_path / "mylab", path.read_text(encoding="utf-8")
    for content, place in FILES.findall(text):
        (project / place).parent.mkdir(parents=True, exist_ok=True)
        (project / place).write_text(content, encoding="utf-8")
    found = [(name, composable(name, given), answer) for name, given, answer in commands(text)]
    assert found, "the page shows no command"
    outcomes = run(project, "-c", COMPOSE, json.dumps([(name, given) for name, given, _ in found]))
    for (name, given, answer), outcome in zip(found, outcomes, strict=True):
        expected = answer if answer.startswith("error: ") else "composes"
        assert outcome == expected, f"{name} {' '.join(given)}"
