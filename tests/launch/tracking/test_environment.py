"""MLflow's own environment variables, as its users know them; an option wins."""

import re
import shutil
from pathlib import Path

import pytest

from launch.tracking.config import TrackingConfig
from launch.tracking.destination import find_destination, missing_there, ways_to_look
from launch.tracking.tracker import open_tracker


@pytest.fixture
def uri(tmp_path: Path, store: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A store, which the environment names."""
    (tmp_path / "store").mkdir()
    uri = f"sqlite:///{shutil.copy(store, tmp_path / 'store' / 'mlruns.db')}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    return uri


@pytest.fixture
def client(uri: str):
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=uri)


def record(folder: Path, parent: str | None = None, **config):
    """A run of one metric; its tracker, closed."""
    with open_tracker(TrackingConfig(**config), folder, folder.name, {"lr": 1}, {}, parent) as tracker:
        tracker.log_metrics({"loss": 1.0}, 1)
    return tracker


def test_the_environment_names_the_server_and_the_experiment(tmp_path, uri, client, monkeypatch):
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "theirs")
    tracker = record(tmp_path / "run")
    run = client.get_run(tracker.mlflow_run_id)
    assert client.get_experiment(run.info.experiment_id).name == "theirs"
    assert tracker.start_lines() == [f"MLflow: {uri} (MLFLOW_TRACKING_URI), experiment theirs (MLFLOW_EXPERIMENT_NAME)"]
    command, page = tracker.end_lines()
    assert command.endswith(f"mlflow ui --backend-store-uri {uri}")
    assert f"/#/experiments/{run.info.experiment_id}/runs/{run.info.run_id}" in page


def test_an_experiment_may_be_named_by_its_id(tmp_path, client, monkeypatch):
    number = client.create_experiment("by number", artifact_location=(tmp_path / "artifacts").as_uri())
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", number)
    tracker = record(tmp_path / "run")
    assert client.get_run(tracker.mlflow_run_id).info.experiment_id == number
    assert f"experiment {number} (MLFLOW_EXPERIMENT_ID)" in tracker.start_lines()[0]
    other = record(tmp_path / "named", experiment="first")
    assert client.get_run(other.mlflow_run_id).info.experiment_id != number


def test_options_win(tmp_path, uri, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://nowhere.example")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "theirs")
    tracker = record(tmp_path / "run", mlflow=uri, experiment="ours")
    assert tracker.start_lines() == [f"MLflow: {uri} (--tracking.mlflow), experiment ours (--tracking.experiment)"]
    assert tracker.mlflow_run_id
    assert record(tmp_path / "local", mlflow=None).start_lines() == []


def test_without_any_the_default_is_a_file_of_the_working_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME", "MLFLOW_EXPERIMENT_ID", "MLFLOW_RUN_ID"):
        monkeypatch.delenv(name, raising=False)
    expected = f"MLflow: sqlite:///{tmp_path}/mlruns.db (the default), experiment acn-lm (the default)"
    assert str(find_destination(TrackingConfig())) == expected
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "")  # as MLflow takes it: not set
    assert str(find_destination(TrackingConfig())) == expected


def test_a_run_of_mlflow_is_gone_on_with_and_its_children_are_new(tmp_path, client, monkeypatch):
    theirs = client.create_run(client.create_experiment("e", (tmp_path / "artifacts").as_uri()), run_name="begun")
    monkeypatch.setenv("MLFLOW_RUN_ID", theirs.info.run_id)
    parent = record(tmp_path / "run", experiment="e")
    child = record(tmp_path / "run" / "child", parent.mlflow_run_id)
    assert parent.mlflow_run_id == theirs.info.run_id
    found = client.get_run(theirs.info.run_id)
    assert (found.info.run_name, found.info.status, found.data.metrics["loss"]) == ("begun", "FINISHED", 1.0)
    assert child.mlflow_run_id != theirs.info.run_id
    assert client.get_run(child.mlflow_run_id).data.tags["mlflow.parentRunId"] == theirs.info.run_id
    again = record(tmp_path / "run")  # a restart that does not know of it
    assert again.mlflow_run_id == theirs.info.run_id
    monkeypatch.setenv("MLFLOW_RUN_ID", theirs.info.run_id)
    record(tmp_path / "other", run_name="renamed")
    assert client.get_run(theirs.info.run_id).info.run_name == "renamed"


@pytest.mark.parametrize(
    ("variables", "config", "message"),
    [
        ({"MLFLOW_RUN_ID": "0" * 32}, {}, "MLFLOW_RUN_ID=0+: there is no such run"),
        ({"MLFLOW_EXPERIMENT_ID": "77"}, {}, "MLFLOW_EXPERIMENT_ID=77: there is no such experiment"),
        ({"MLFLOW_RUN_ID": "ITS RUN"}, {"experiment": "another"}, "is a run of experiment first"),
    ],
)
def test_what_is_not_there_costs_a_warning_and_no_run(
    tmp_path, client, monkeypatch, caplog, variables, config, message
):
    (run,) = client.search_runs([client.get_experiment_by_name("first").experiment_id])
    for name, value in variables.items():
        monkeypatch.setenv(name, value.replace("ITS RUN", run.info.run_id))
    tracker = record(tmp_path / "run", **config)
    (warning,) = [record.getMessage() for record in caplog.records if record.name == "launch.tracking.mlflow_mirror"]
    assert re.search(message, warning)
    assert "does not have this run yet; send it: acn track sync" in tracker.end_lines()[0]
    assert "loss" in (tmp_path / "run" / "metrics.jsonl").read_text()


def test_a_run_id_of_another_store_than_the_option_names_is_not_ours(tmp_path, uri, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://nowhere.example")
    monkeypatch.setenv("MLFLOW_RUN_ID", "0" * 32)
    assert record(tmp_path / "run", mlflow=uri).mlflow_run_id not in (None, "0" * 32)


def test_a_variable_that_names_no_store_is_a_problem_of_that_name(monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "./mlruns")
    (problem,) = TrackingConfig().problems()
    assert problem.field == "MLFLOW_TRACKING_URI"
    assert TrackingConfig(mlflow=None).problems() == []


def test_commands_can_be_pasted_whatever_the_folder_is_called():
    assert ways_to_look("sqlite:////my runs/a.db", "1", "abc")[0].endswith("uri 'sqlite:////my runs/a.db'")
    assert missing_there("sqlite:////a.db", Path("my run")).endswith("'my run' --tracking.mlflow sqlite:////a.db")


def test_of_a_server_the_page_of_the_run_is_named():
    assert ways_to_look("http://bob:secret@server:5000/", "7", "abc") == [
        "MLflow: http://server:5000/#/experiments/7/runs/abc?workflowType=machine_learning"
    ]
