"""The tutorial "Your own model", typed from its first block to its last in an empty folder."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from tests.conftest import ROOT

PAGE = ROOT / "docs" / "your-own-model.md"
REFUSED = 2


def blocks() -> Iterator[tuple[str, str]]:
    """Language and text of each block of the page."""
    return iter(re.findall(r"^```(\w+)\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE))


def typed(block: str) -> Iterator[tuple[str, list[str]]]:
    """Each command of a console block, and the lines that it answers with."""
    for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
        command, *answer = part.strip().splitlines()
        yield command, answer


def without_figures(text: str) -> list[str]:
    """Lines in which numbers, ids, folders, frames and runs of blanks are no more told apart."""
    text = re.sub(r"(/[\w.\-]+)+/", "", text)
    text = re.sub(r"\b(?:\d{8}-\d{6}-)?[0-9a-f]{4,}\b|\d[\d.,]*\d|\d", "#", text)
    return [re.sub(r"[\s│┃]+", " ", line).strip() for line in text.splitlines()]


def test_the_tutorial_goes_through(tmp_path: Path) -> None:
    folder, count = tmp_path, 0
    env = {name: value for name, value in os.environ.items() if name != "MLFLOW_TRACKING_URI"}
    env |= {"PYTHONPATH": str(ROOT), "COLUMNS": "150", "PATH": f"{Path(sys.executable).parent}:{env['PATH']}"}
    for language, block in blocks():
        if language != "console":
            path = folder / block.partition("\n")[0].removeprefix("# ")
            path.write_text(block, encoding="utf-8")
            continue
        for command, answer in typed(block):
            count += 1
            if command.startswith("cd "):
                folder /= command.removeprefix("cd ")
                continue
            done = subprocess.run(command, shell=True, cwd=folder, env=env, capture_output=True, text=True)
            refused = any(line.startswith("error: ") for line in answer)
            assert done.returncode == (REFUSED if refused else 0), done.stderr
            shown = without_figures(done.stdout + done.stderr)
            for line in without_figures("\n".join(answer)):
                assert line in shown, f"{command}: {line}\n{done.stdout}{done.stderr}"
    assert 9 <= count < 15
