"""Stores that take nothing: what is said helps, at once, and no run ends by it."""

import shutil
from pathlib import Path

import pytest

from launch.errors import LaunchError
from launch.tracking.sync import SyncConfig, sync_run
from launch.tracking.tracker import TrackingConfig, open_tracker


@pytest.fixture
def database(tmp_path: Path, store: Path) -> Path:
    (tmp_path / "store").mkdir()
    return Path(shutil.copy(store, tmp_path / "store" / "mlruns.db"))


def record_run(folder: Path, mlflow: str | None = None) -> Path:
    with open_tracker(TrackingConfig(mlflow=mlflow, experiment="first"), folder, "run", {}, {}) as tracker:
        tracker.log_metrics({"loss": 1.0}, 1)
    return folder


def _read_only(database: Path) -> Path:
    """SQLite writes no file of a later version, whoever asks."""
    with database.open("r+b") as file:
        file.seek(18)
        file.write(b"\3")
    return database


def _no_database(database: Path) -> Path:
    database.write_text("no database" * 500)
    return database


def _folder(database: Path) -> Path:
    database.unlink()
    database.mkdir()
    return database


STORES = {
    "read-only": _read_only,
    "not a database": _no_database,
    "a folder": _folder,
    "below a file": lambda database: database / "mlruns.db",
    "nowhere": lambda _: Path("/proc/acn/mlruns.db"),
}


@pytest.mark.parametrize("kind", STORES)
def test_syncing_to_a_store_that_cannot_be_written_ends_at_once(tmp_path, database, monkeypatch, kind):
    """MLflow tries to open a database again and again, for minutes, and sleeps in between."""
    monkeypatch.setattr("time.sleep", lambda _: pytest.fail("somebody waits"))
    run = record_run(tmp_path / "run")
    with pytest.raises(LaunchError) as caught:
        sync_run(run, SyncConfig(mlflow=f"sqlite:///{STORES[kind](database)}"))
    (problem,) = str(caught.value).splitlines()
    assert "cannot be written" in problem
    assert "choose another --tracking.mlflow, or make it writable" in problem


def test_a_run_whose_store_cannot_be_written_goes_on_with_one_warning(tmp_path, database, caplog):
    run = record_run(tmp_path / "run", f"sqlite:///{_read_only(database)}")
    assert "loss" in (run / "metrics.jsonl").read_text()
    (warning,) = [record.getMessage() for record in caplog.records if record.name == "launch.tracking.mlflow_mirror"]
    assert "attempt to write a readonly database" in warning


def test_of_a_deleted_experiment_the_warning_says_what_helps(tmp_path, database, caplog):
    from mlflow import MlflowClient

    client, uri = MlflowClient(tracking_uri=f"sqlite:///{database}"), f"sqlite:///{database}"
    number = client.get_experiment_by_name("first").experiment_id
    client.delete_experiment(number)
    run = record_run(tmp_path / "run", uri)
    (warning,) = [record.getMessage() for record in caplog.records if record.name == "launch.tracking.mlflow_mirror"]
    assert "experiment first was deleted there" in warning
    assert f"mlflow experiments restore --experiment-id {number}" in warning
    assert "--tracking.experiment" in warning
    with pytest.raises(LaunchError, match="experiment first was deleted there"):
        sync_run(run, SyncConfig(mlflow=uri))
    client.restore_experiment(number)  # as advised
    run_id, _ = sync_run(run, SyncConfig(mlflow=uri))
    assert client.get_run(run_id).data.metrics["loss"] == 1.0
