"""MLflow's private members and its tables: those of the installed version are known, others are served or refused."""

from __future__ import annotations

import importlib.metadata
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from src.errors import RunFailed, UserError
from src.runtime.compat import mlflow as members
from src.runtime.compat import mlflow_schema as schema
from src.tracking import housekeeping, sqlite, store, tables
from src.tracking.writer.backlog import KnownSteps


class Lab:
    """A real SQLite store with a finished run and a deleted one."""

    def __init__(self, root: Path) -> None:
        self.place = store.resolve(f"sqlite:///{root / 'mlflow.db'}", root)
        self.client = store.connect(self.place)
        experiment = store.experiment_id(self.place, self.client, "labbook")
        self.run = self._run(experiment, "kept")
        self.deleted = self._run(experiment, "gone")
        self.client.delete_run(self.deleted)

    def _run(self, experiment: str, name: str) -> str:
        run = self.client.create_run(experiment, run_name=name).info.run_id
        for step in range(3):
            self.client.log_metric(run, "loss", 1 / (step + 1), step=step)
        self.client.log_metric(run, "broken", float("nan"), step=7)
        self.client.log_param(run, "lr", 0.1)
        self.client.set_tag(run, "labbook.sweep_id", "s1")
        self.client.set_terminated(run, "FINISHED")
        return run

    @property
    def uri(self) -> str:
        return self.place.uri


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    return Lab(tmp_path_factory.mktemp("store"))


@pytest.fixture
def unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tables of the installed MLflow as if nobody had tested them."""
    monkeypatch.setattr(schema, "KNOWN", {"aaaaaaaaaaaa": "3.1"})


# the tables


def test_the_installed_version_has_the_tables_that_are_known() -> None:
    revision = schema.revision(sqlite.template())
    assert importlib.metadata.version("mlflow").startswith(f"{schema.KNOWN[revision]}.")


def test_a_revision_that_nobody_knows_is_refused_in_one_line(tmp_path: Path) -> None:
    database = tmp_path / "mlflow.db"
    sqlite.ensure(database, tmp_path / "mlruns")
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = 'ffffffffffff'")
    for use in (store.connect, lambda place: tables.table(place.uri), lambda place: housekeeping.leftovers(place.uri)):
        with pytest.raises(UserError) as raised:
            use(store.resolve(f"sqlite:///{database}", tmp_path))
        text = str(raised.value)
        assert "\n" not in text and str(database) in text and "schema ffffffffffff" in text
        assert "dc11669786a5 of MLflow 3.17" in text and "f4a9b2c7d1e6 of MLflow 3.18" in text


def test_the_store_of_a_newer_version_that_is_known_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    database = tmp_path / "mlflow.db"
    sqlite.ensure(database, tmp_path / "mlruns")
    monkeypatch.setattr(schema, "KNOWN", schema.KNOWN | {"ffffffffffff": "3.99"})
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = 'ffffffffffff'")
    with pytest.raises(UserError, match=r"by a newer MLflow \(schema ffffffffffff of MLflow 3.99\) than the installed"):
        sqlite.ensure(database, tmp_path)


def test_tables_of_another_revision_are_read_through_mlflow(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    fast = tables.table(lab.uri), tables.points(lab.uri, [lab.run]), tables.table(lab.uri, sweep="s1", constants=False)
    monkeypatch.setattr(schema, "KNOWN", {})
    monkeypatch.setattr(schema, "read_runs", None)
    monkeypatch.setattr(schema, "read_points", None)
    slow = tables.table(lab.uri), tables.points(lab.uri, [lab.run]), tables.table(lab.uri, sweep="s1", constants=False)
    for one, other in ((fast[0], slow[0]), (fast[2], slow[2])):
        pd.testing.assert_frame_equal(one, other[one.columns], check_dtype=False)
    order = ["key", "step"]
    pd.testing.assert_frame_equal(
        *(found[1][lab.run].sort_values(order).reset_index(drop=True) for found in (fast, slow)), check_dtype=False
    )


def test_what_has_no_public_way_is_refused(lab: Lab, unknown: None) -> None:
    for use in (housekeeping.leftovers, lambda uri: housekeeping.relocate("/elsewhere", uri)):
        with pytest.raises(UserError, match=r"needs a known schema of MLflow, not \w{12} \(known: aaaaaaaaaaaa of"):
            use(lab.uri)
    assert [one.run for one in [*_leftovers_when_known(lab)]] == [lab.deleted]


def _leftovers_when_known(lab: Lab) -> list[housekeeping.Leftover]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(schema, "KNOWN", {schema.revision(lab.place.database): "installed"})
        return housekeeping.leftovers(lab.uri)


def test_a_new_store_of_unknown_tables_is_made_by_mlflow_itself(
    tmp_path: Path, unknown: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schema, "seed_statistics", None)
    monkeypatch.setattr(schema, "add_default_experiment", None)
    database = tmp_path / "mlflow.db"
    assert sqlite.ensure(database, tmp_path / "mlruns") is False
    place = store.resolve(f"sqlite:///{database}", tmp_path)
    (default,) = store.connect(place).search_experiments()
    assert default.name == "Default" and default.artifact_location == str(tmp_path / "mlruns" / "0")
    assert not list(tmp_path.glob("*.new-*"))


def test_steps_that_are_stored_are_found_either_way(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    assert members.engine_of(lab.client) is not None
    for known in (schema.KNOWN, {}):
        monkeypatch.setattr(schema, "KNOWN", known)
        steps = KnownSteps(lab.client, lab.run, {"loss"})
        assert [steps.holds("loss", step) for step in (0, 2, 3)] == [True, True, False]
    assert members.engine_of(lab.client) is None


# members of the client


class Without:
    """An object that lacks some of its members."""

    def __init__(self, thing: Any, *names: str) -> None:
        self._thing, self._names = thing, names

    def __getattr__(self, name: str) -> Any:
        if name in self._names:
            raise AttributeError(name)
        return getattr(self._thing, name)


def test_a_client_has_its_database(lab: Lab) -> None:
    assert lab.client._tracking_client.store.engine is not None
    assert members.engine_of(Without(lab.client, "_tracking_client")) is None


def test_last_points_are_read_either_way(lab: Lab) -> None:
    run = lab.client.get_run(lab.run)
    assert hasattr(run.data, "_metric_objs")
    plain = type("Run", (), {"info": run.info, "data": Without(run.data, "_metric_objs")})
    for given in (run, plain):
        last = {metric.key: metric.step for metric in members.latest_metrics(lab.client, given)}
        assert last == {"loss": 2, "broken": 7}


def test_mlflow_gives_up_sooner(monkeypatch: pytest.MonkeyPatch) -> None:
    from mlflow.store.db import utils

    monkeypatch.setattr(utils, "MAX_RETRY_COUNT", 10)
    members.retry_less(2)
    assert utils.MAX_RETRY_COUNT == 2
    monkeypatch.delattr(utils, "MAX_RETRY_COUNT")
    members.retry_less(2)
    assert not hasattr(utils, "MAX_RETRY_COUNT")


@pytest.mark.parametrize("public", [False, True])
def test_a_run_that_a_users_call_entered_keeps_its_status(
    public: bool, lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mlflow
    from mlflow.tracking import fluent

    assert hasattr(fluent, "_active_run_stack")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", lab.uri)  # `mlflow.set_tracking_uri` would hold for all later tests
    try:
        experiment = lab.client.get_run(lab.run).info.experiment_id
        run = mlflow.start_run(experiment_id=experiment).info.run_id
        lab.client.set_terminated(run, "KILLED")
        if public:
            monkeypatch.setattr(members, "fluent", Without(fluent, "_active_run_stack"))
        members.forget_active(run)
        assert mlflow.active_run() is None
        assert lab.client.get_run(run).info.status == "KILLED"
    finally:
        mlflow.end_run()


def test_a_run_and_its_models_are_deleted_for_good(tmp_path: Path) -> None:
    made = Lab(tmp_path)
    experiment = made.client.get_run(made.run).info.experiment_id
    model = made.client.create_logged_model(experiment, name="best", source_run_id=made.deleted).model_id
    database = store.open_database(made.place)
    with pytest.raises(RunFailed, match=rf"only marked as deleted, `mlflow gc --run-ids {made.deleted}` removes it"):
        members.delete_for_good(Without(database, "_hard_delete_run"), made.deleted, [model])
    assert made.client.get_run(made.deleted).info.lifecycle_stage == "deleted"
    other = made.client.create_logged_model(experiment, name="best", source_run_id=made.deleted).model_id
    members.delete_for_good(database, made.deleted, [other])
    assert set(schema.stages_and_places(made.place.database)) == {made.run}
    assert database.search_logged_models([experiment]) == []


def test_measurements_of_the_machine_need_public_members_alone() -> None:
    from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

    for name in ("start", "monitor", "collect_metrics", "aggregate_metrics", "finish"):
        assert callable(getattr(SystemMetricsMonitor, name))
