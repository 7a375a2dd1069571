"""`logger.experiment`: MLflow's client beside the writer of the run, for a database, a server, and without a store."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from mlflow import MlflowClient
from PIL import Image
from pytorch_lightning.loggers import MLFlowLogger

from src import tracking
from src.tracking.logger import MLflowLogger
from tests.tracking.test_server import server  # noqa: F401 (a fixture)

pytestmark = pytest.mark.usefixtures("warm_writers")
CONFIG = {"seed": 0, "model": {"size": 3}}


def started(uri: str, root: Path, **options: object) -> tuple[tracking.Run, MLflowLogger]:
    run = tracking.start(config=CONFIG, overrides=[], uri=uri, root=root, system_metrics=False, **options)
    return run, MLflowLogger(run)


def figure() -> Figure:
    drawn = Figure()
    drawn.subplots().plot([1, 2])
    return drawn


def write(logger: MLflowLogger, folder: Path, step: int = 0) -> None:
    """What users of Lightning's own logger do with it, between points of the run itself."""
    client, run = logger.experiment, logger.run_id
    (folder / "note.txt").write_text("note")
    client.log_artifact(run, str(folder / "note.txt"), "notes")
    client.log_artifacts(run, str(folder), "all")
    client.log_figure(run, figure(), "drawn/a.png")
    client.log_text(run, "text", "texts/a.txt")
    client.log_dict(run, {"a": 1}, "a.json")
    client.log_image(run, np.zeros((4, 4, 3), np.uint8), "images/a.png")
    client.log_param(run, f"own_param_{step}", "x")
    client.set_tag(run, "own_tag", step)
    for place in range(30):  # in turns with the other process
        logger.log_metrics({"train/loss": place}, 100 * step + place)
        client.log_metric(run, "own", place, step=100 * step + place)


def check(client: MlflowClient, run_id: str, steps: int) -> None:
    found = client.get_run(run_id)
    assert found.info.status == "FINISHED"
    assert found.data.tags["own_tag"] == str(steps - 1) and found.data.params["own_param_0"] == "x"
    for key in ("own", "train/loss"):
        assert len(client.get_metric_history(run_id, key)) == 30 * steps
    names = {file.path for folder in ("", "notes", "drawn", "texts") for file in client.list_artifacts(run_id, folder)}
    assert {"notes/note.txt", "drawn/a.png", "texts/a.txt", "a.json", "all", "config.yaml"} <= names


def test_all_arrives_in_a_database_also_after_a_resume(tmp_path: Path) -> None:
    uri, files = f"sqlite:///{tmp_path}/mlflow.db", tmp_path / "files"
    files.mkdir()
    run, logger = started(uri, tmp_path)
    assert isinstance(logger, MLFlowLogger) and isinstance(logger.experiment, MlflowClient)
    write(logger, files)
    assert logger.experiment.get_run(logger.run_id).data.tags["own_tag"] == "0"  # reading works as well
    logger.finalize("success")
    assert logger.experiment.get_run(logger.run_id).info.status == "RUNNING"
    run.finish("FINISHED")
    again, logger = started(uri, tmp_path, resume=run.id)
    write(logger, files, step=1)
    again.finish("FINISHED")
    check(MlflowClient(uri), run.id, steps=2)


def test_all_arrives_on_a_server(server, tmp_path: Path) -> None:  # noqa: F811 (the fixture)
    (tmp_path / "files").mkdir()
    run, logger = started(server.uri, tmp_path)
    write(logger, tmp_path / "files")
    run.finish("FINISHED")
    check(MlflowClient(server.uri), run.id, steps=1)


def test_without_a_store_files_go_into_the_folder(tmp_path: Path) -> None:
    (tmp_path / "files").mkdir()
    run, logger = started("", tmp_path, enabled=False)
    write(logger, tmp_path / "files")
    assert logger.experiment.get_run(logger.run_id) is None
    folder = run.directory
    assert (folder / "notes" / "note.txt").read_text() == (folder / "all" / "note.txt").read_text() == "note"
    assert (folder / "texts" / "a.txt").read_text() == "text" and (folder / "a.json").exists()
    assert Image.open(folder / "drawn" / "a.png").size[0] > 100 and Image.open(folder / "images" / "a.png").size == (
        4,
        4,
    )
    with pytest.raises(ValueError, match="leads out of the run's directory"):
        logger.experiment.log_text(logger.run_id, "text", "../a.txt")


def test_a_run_that_asks_for_no_client_does_not_import_mlflow(tmp_path: Path) -> None:
    source = (
        "import sys; from pathlib import Path; from src import tracking; from src.tracking.logger import MLflowLogger;"
        f"run = tracking.start(config={{}}, overrides=[], uri='sqlite:///{tmp_path}/m.db', root=Path('{tmp_path}'),"
        " system_metrics=False); logger = MLflowLogger(run); logger.log_metrics({'a': 1.0}, 0); logger.run_id;"
        "run.finish('FINISHED'); print('mlflow' in sys.modules)"
    )
    found = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "False"
