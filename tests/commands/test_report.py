"""The page about a run or a sweep: all of it is there, in one file, and what cannot be had is said."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.conftest import Lab

SHORT = ("threads=1", "tracking.system_metrics=false")


def headings(text: str) -> list[str]:
    return re.findall(r"<h2>(.*?)</h2>", text) or re.findall(r"^## (.*)$", text, re.MULTILINE)


def test_a_page_about_a_run(lab: Lab) -> None:
    assert lab.train("experiment=keras_example", "trainer.max_epochs=3", *SHORT).code == 0
    done = lab.run("report", "run=last")
    assert done.code == 0, done.err
    page = (lab.folder / "report.html").read_text()
    run = lab.runs()[0]
    assert headings(page) == [
        *("Question", "Result", "Data", "Curves", "Pictures", "Cost", "Configuration", "Provenance", "To have it again")
    ]
    assert (
        "1,000 train" in page
        and "experiment=keras_example" in page
        and f"run={run.info.run_id[:8]} verify=true" in page
    )
    accuracy = run.data.metrics["test/accuracy"]
    (interval,) = re.findall(rf"<td>{accuracy:.4f}</td><td>(0\.\d+) to (0\.\d+)</td>", page)
    assert float(interval[0]) < accuracy < float(interval[1])
    assert run.data.tags["labbook.data_sha256"] in page and run.data.tags["mlflow.source.git.commit"] in page
    assert not re.search(r"""(src|href)=["'](?!data:|#)""", page)  # it needs nothing beside it
    drawn = [path.name for path in (lab.artifacts(run.info.run_id) / "figures").glob("*.png")]
    assert page.count("data:image/png;base64,") == sum(not name.startswith("curve_") for name in drawn) > 2
    done = lab.run("report", "run=last")
    assert done.code == 2 and "report.html exists: give another name, or force=true to write over it" in done.err


def test_a_page_as_markdown_and_one_whose_data_is_gone(lab: Lab) -> None:
    table = lab.folder / "own.csv"
    table.write_text("a,b\n" + "\n".join(f"{i % 7},{'no' if i % 7 < 3 else 'yes'}" for i in range(60)))
    own = ("model=fnn", "data=csv", f"data.path={table}", "data.target=b", "trainer.max_epochs=2")
    assert lab.train(*own, *SHORT).code == 0
    table.unlink()
    done = lab.run("report", "run=last", "output=page.md")
    assert done.code == 0 and "without intervals: " in done.out and "own.csv" in done.out
    text = (lab.folder / "page.md").read_text()
    assert "classes, with their training rows: no (" in text and "| accuracy | " in text
    pictures = re.findall(r"!\[.*?\]\((page_files/.*?)\)", text)
    assert len(pictures) >= 4 and all((lab.folder / path).stat().st_size for path in pictures)


@pytest.mark.skipif(shutil.which("chromium") is None, reason="no headless browser: apt-get install chromium")
def test_a_page_about_a_sweep_in_a_browser(lab: Lab) -> None:
    sweep = ("-m", "model=fnn", "data=iris", "model.width=4,16", "optimizer.lr=1e-3,1e-2", "repeats=2", *SHORT)
    command = ["python", "-m", "src.train", *sweep, "trainer.max_epochs=2", "n_jobs=2"]
    assert lab.train(*command[3:]).code == 0
    done = lab.run("report", "sweep=last", "output=sweep.html")
    assert done.code == 0, done.err
    page = lab.folder / "sweep.html"
    click = "<script>document.querySelectorAll('table')[1].querySelectorAll('th')[3].click()</script></body>"
    page.write_text(page.read_text().replace("</body>", click))
    shown = subprocess.run(
        [
            *("chromium", "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={lab.folder}/b"),
            *("--dump-dom", f"file://{page}"),
        ],
        capture_output=True,
        text=True,
        timeout=120,
    ).stdout
    assert "8 jobs: 8 finished" in shown and "<td>1e-3,1e-2</td>" in shown
    assert {"What was tried", "Result", "The search space", "The best configuration"} <= set(headings(shown))
    result = shown[shown.index("<h2>Result") :]
    means = [float(value) for value in re.findall(r'<td data-key="(0\.\d+)">[\d.]+ ± ', result)]
    assert len(means) == 5 and means == sorted(means)  # four points and the baseline


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "say what the report is about: run=ID or sweep=ID"),
        (["run=last", "sweep=last"], "say what the report is about: run=ID or sweep=ID"),
        (["run=last"], "no runs yet"),
        (["sweep=last"], "no sweeps yet"),
        (["run=last", "output=page.pdf"], "output=page.pdf: ends in .html or .md"),
        (["run=last", "output=nowhere/page.md"], "output=nowhere/page.md: there is no folder nowhere"),
    ],
)
def test_a_report_that_cannot_be_is_one_line(lab: Lab, arguments, message) -> None:
    done = lab.run("report", *arguments)
    assert done.code == 2 and done.err.startswith(f"error: {message}") and len(done.err.splitlines()) == 1, done.err
    assert not list(Path(lab.folder).glob("page*"))
