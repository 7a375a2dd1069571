"""Delete runs permanently, remove orphaned files, repair paths after a store was moved; imports MLflow."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from src.errors import UserError
from src.runtime.compat import mlflow_schema as schema
from src.tracking import store as stores
from src.tracking.artifacts import local_directory
from src.tracking.locks import RunLock
from src.tracking.lookup import RunInfo


@dataclass(frozen=True)
class Leftover:
    """A folder that no run of the store has, or that of a run that was only marked as deleted."""

    path: Path
    bytes: int
    run: str | None


def tag(run: RunInfo, tags: Mapping[str, str | None]) -> None:
    """Sets tags of a run; None takes one away."""
    store = stores.resolve(run.uri)
    client = stores.connect(store, create=False)
    with stores.translated(store):
        for key, value in tags.items():
            if value is not None:
                client.set_tag(run.id, key, value)
            elif key in run.tags:
                client.delete_tag(run.id, key)


def delete(run: RunInfo) -> int:
    """Removes a run and its files for good, and returns how many bytes that freed on this machine.

    On a server MLflow lets clients only mark a run as deleted; its files are removed all the same.

    Raises:
        UserError: it is still being written, or a registered model was made from it.
    """
    store = stores.resolve(run.uri)
    client = stores.connect(store, create=False)
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository  # noqa: PLC0415 (not before it is needed: MLflow takes two seconds)

    with RunLock(run.directory).tried() as free:
        if not free:
            raise UserError(f"run {run.id[:8]} is still being written by process {RunLock(run.directory).holder()}")
    with stores.translated(store):
        models = sorted({version.name for version in client.search_model_versions(f"run_id = '{run.id}'")})
        if models:
            names = ", ".join(models)
            raise UserError(f"run {run.id[:8]} is kept: registered model {names} was made from it, delete that first")
        found = client.get_run(run.id)
        _, in_place = local_directory(store, found.info.artifact_uri, run.id)
        if found.info.lifecycle_stage == "active":
            client.delete_run(run.id)
        if not in_place:
            get_artifact_repository(found.info.artifact_uri, tracking_uri=store.uri).delete_artifacts()
        freed = _remove(run.directory.parent)
        if store.is_server:
            for model in client.search_logged_models([found.info.experiment_id], f"source_run_id = '{run.id}'"):
                get_artifact_repository(model.artifact_location, tracking_uri=store.uri).delete_artifacts()
                client.delete_logged_model(model.model_id)
        else:
            freed += _hard_delete(store, run.id)
    return freed


def leftovers(uri: str | None = None, root: Path | None = None) -> list[Leftover]:
    """Runs that were only marked as deleted, such as in the UI, and folders of runs that the store does not have."""
    store = stores.resolve(uri, root)
    if store.database is None:
        raise UserError(f"{store.shown}: what a server has left over is cleared by `mlflow gc` on its own machine")
    stores.connect(store, create=False)
    schema.require_known(store.database, "finding leftovers")
    with stores.translated(store):
        known = schema.stages_and_places(store.database)
    marked = {run: place for run, (stage, place) in known.items() if stage == "deleted"}
    found = [
        Leftover(folder, _size(folder), run)
        for run, place in marked.items()
        for folder in [local_directory(store, place, run)[0].parent]
    ]
    orphans = [folder for folder in _run_folders(store.artifacts) if folder.name not in known]
    return found + [Leftover(folder, _size(folder), None) for folder in orphans]


def clear(found: list[Leftover], uri: str | None = None, root: Path | None = None) -> int:
    """Removes leftovers for good; returns the bytes that were freed."""
    store = stores.resolve(uri, root)
    freed = 0
    for one in found:
        freed += _remove(one.path)
        if one.run is not None:
            freed += _hard_delete(store, one.run)
    return freed


def relocate(old: str | None, uri: str | None = None, root: Path | None = None) -> tuple[str, str, int]:
    """Has a store whose folder was moved find its files again.

    Args:
        old: the folder that held mlflow.db before; None: as the store has it.

    Returns:
        The folder before, the one now, and how many places were changed.

    Raises:
        UserError: a server, or nothing that lies elsewhere.
    """
    store = stores.resolve(uri, root)
    if store.database is None:
        raise UserError(f"{store.shown}: only an SQLite store is relocated")
    stores.connect(store, create=False)
    new = str(store.database.parent)
    schema.require_known(store.database, "relocating a store")
    with stores.translated(store):
        before = _stored_root(store.database) if old is None else str(Path(old).absolute())
        if before == new:
            raise UserError(f"nothing to relocate: the files of {store.database} lie where it says, in {new}")
        changed = schema.move_places(store.database, before, new)
    if not changed:
        raise UserError(f"path={before}: no file of {store.database} is said to lie there")
    return before, new, changed


def _stored_root(database: Path) -> str:
    """The folder above mlruns/ where the newest run's files are said to lie."""
    place = schema.newest_place(database)
    if place is None or "/mlruns/" not in place:
        raise UserError("give the folder that held mlflow.db before: path=FOLDER")
    return place.removeprefix("file://").partition("/mlruns/")[0]


def _run_folders(place: Path) -> Iterator[Path]:
    """mlruns/EXPERIMENT/RUN of all runs."""
    for folder in place.glob("[0-9]*/*"):
        if (folder / "artifacts").is_dir() and len(folder.name) == 32:
            yield folder


def _hard_delete(store: stores.Store, run: str) -> int:
    """Takes a run and its models out of the database, and removes the models' files; the bytes that this freed."""
    database, freed = stores.open_database(store), 0
    experiment = database.get_run(run).info.experiment_id
    models = database.search_logged_models([experiment], filter_string=f"source_run_id = '{run}'")
    for model in models:
        folder, _ = local_directory(store, model.artifact_location, model.model_id)
        freed += _remove(folder.parent)
    stores.mlflow_members().delete_for_good(database, run, [model.model_id for model in models])
    return freed


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink())


def _remove(folder: Path) -> int:
    if not folder.exists():
        return 0
    freed = _size(folder)
    shutil.rmtree(folder)
    return freed
