"""`make ui` on a finished sweep, driven in a headless browser.

`LABBOOK_SCREENSHOTS=docs python -m pytest tests/tracking/test_ui.py` takes the README's pictures anew.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.conftest import Lab

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: the extra test")
ROOT = Path(__file__).resolve().parents[2]
BROWSER = shutil.which("chromium") or shutil.which("google-chrome")
PATIENCE = 60_000  # milliseconds: a busy machine takes its time
SMALL = ["trainer.max_epochs=3", "threads=1", "tracking.system_metrics=false"]

pytestmark = [
    pytest.mark.skipif(BROWSER is None, reason="no headless browser: apt-get install chromium"),
]


class UI:
    """The server that `make ui` starts, and the links that it prints."""

    def __init__(self, lab: Lab) -> None:
        with socket.socket() as found:
            found.bind(("127.0.0.1", 0))
            port = found.getsockname()[1]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "src.tracking.ui"],
            cwd=ROOT,
            env=os.environ | lab.env | {"PORT": str(port)},
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
        )
        lines = [self.process.stdout.readline().split() for _ in range(2)]
        assert [name for name, _ in lines] == ["runs:", "charts:"]
        self.runs, self.charts = (address for _, address in lines)
        end = time.monotonic() + 120
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=1).close()
                return
            except OSError:
                assert time.monotonic() < end and self.process.poll() is None
                time.sleep(0.1)

    def stop(self) -> None:
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    lab = Lab(tmp_path_factory.mktemp("ui"))
    done = lab.train("-m", "model=fnn,cnn", "seed=1,2", *SMALL, "n_jobs=1")
    assert done.code == 0, done.err
    assert lab.train("model=autoencoder", *SMALL).code == 0
    return lab


@pytest.fixture(scope="module")
def ui(swept: Lab) -> Iterator[UI]:
    ui = UI(swept)
    yield ui
    ui.stop()


@pytest.fixture(scope="module")
def page(ui: UI) -> Iterator[sync_api.Page]:
    """A fresh browser, as on somebody's first day."""
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1600, "height": 1000})
        page.set_default_timeout(PATIENCE)
        yield page
        browser.close()


def opened(page: sync_api.Page, address: str, text: str) -> str:
    """All that a page says once this text has come up."""
    page.goto(address)
    page.get_by_text(text).first.wait_for()
    return page.inner_text("body")


def picture(page: sync_api.Page, name: str, folder: Path) -> None:
    """Keeps what the page shows, without MLflow's assistant beside it."""
    close = page.get_by_role("button", name="Close")
    if close.count():
        close.last.click()
    path = Path(os.environ.get("LABBOOK_SCREENSHOTS") or folder) / f"{name}.png"
    page.screenshot(path=path)
    assert path.stat().st_size > 20_000


def test_it_runs_in_few_processes(ui: UI) -> None:
    assert len(psutil.Process(ui.process.pid).children(recursive=True)) <= 2  # MLflow's own default is thirteen


def test_the_runs_are_a_table_with_the_figures_that_matter(ui: UI, page, swept: Lab) -> None:
    text = opened(page, ui.runs, "test/accuracy")
    for name in ("model=fnn,seed=1", "model=fnn,seed=2", "model=cnn,seed=1", "model=cnn,seed=2", "model=autoencoder"):
        assert name in text
    (digest,) = {run.inputs.dataset_inputs[0].dataset.digest for run in swept.runs()}
    page.get_by_text(f"digits ({digest})").first.wait_for()
    page.get_by_text(str(swept.runs()[1].data.metrics["test/accuracy"])).first.wait_for()
    picture(page, "mlflow_runs", swept.folder)


def test_the_charts_stand_in_sections(ui: UI, page, swept: Lab) -> None:
    opened(page, ui.charts, "val/accuracy")
    page.locator(".js-plotly-plot").nth(3).wait_for()
    picture(page, "mlflow", swept.folder)
    lines = page.inner_text("body").splitlines()
    places = [lines.index(name) for name in ("val", "train", "test", "baseline", "cost")]
    assert places == sorted(places)


def test_a_run_says_how_to_get_it_again_and_has_a_model_with_figures(ui: UI, page, swept: Lab) -> None:
    run = next(run for run in swept.runs() if run.info.run_name == "model=cnn,seed=1")
    address = f"{ui.runs.partition('/runs')[0]}/runs/{run.info.run_id}"
    text = opened(page, address, "Description")
    page.get_by_text(f"python -m src.rerun run={run.info.run_id[:12]} verify=true").wait_for()
    picture(page, "mlflow_run", swept.folder)
    assert "python -m src.train model=cnn seed=1" in text and "digits (" in text
    assert page.get_by_role("link", name="best", exact=True).count()
    (model,) = run.outputs.model_outputs
    opened(page, f"{ui.runs.partition('/runs')[0]}/models/{model.model_id}", "About this logged model")
    page.get_by_text("test/accuracy").first.wait_for()
    text = page.inner_text("body")
    assert f"{run.data.metrics['test/accuracy']}" in text and "model.channels" in text and run.info.run_id in text
    picture(page, "mlflow_model", swept.folder)


def test_pictures_have_a_slider_over_the_steps(ui: UI, page, swept: Lab) -> None:
    run = swept.runs()[0]
    opened(page, f"{ui.runs.partition('/runs')[0]}/runs/{run.info.run_id}", "Description")
    page.get_by_role("tab", name="Model metrics").click()
    for name in ("baseline", "cost", "test", "train", "val"):  # closed, they leave room for the pictures
        page.get_by_text(re.compile(rf"^{name}$|^{name} \(\d+\)$")).first.click()
    page.get_by_text("reconstructions", exact=True).first.scroll_into_view_if_needed()
    slider, seen = page.get_by_role("slider").first, []
    slider.focus()
    for _ in range(3):
        before = [image.get_attribute("src") for image in page.locator("img").all()]
        page.keyboard.press("ArrowRight")
        new = (
            "before => [...document.querySelectorAll('img')].some(i => i.naturalWidth > 100 && !before.includes(i.src))"
        )
        page.wait_for_function(new, arg=before)
        seen.append(int(slider.get_attribute("aria-valuenow")))
    steps = sorted({step for step, _ in swept.points(run.info.run_id)["val/loss"]})
    assert seen == steps
    picture(page, "mlflow_pictures", swept.folder)
