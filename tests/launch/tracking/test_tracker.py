"""The record of a run: the local file always, MLflow when it can."""

import json
import math
import shutil
import sqlite3
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launch.tracking.mlflow_mirror import import_mlflow
from launch.tracking.record import flatten
from launch.tracking.tracker import TrackingConfig, open_tracker
from tests.processes import reserved_port, wait_until


@pytest.fixture
def sqlite_config(tmp_path: Path, store: Path) -> TrackingConfig:
    (tmp_path / "store").mkdir()
    shutil.copy(store, tmp_path / "store" / "mlruns.db")
    return TrackingConfig(mlflow=f"sqlite:///{tmp_path}/store/mlruns.db", experiment="a test")


@pytest.fixture
def client(sqlite_config: TrackingConfig):
    from mlflow import MlflowClient

    return lambda: MlflowClient(tracking_uri=sqlite_config.mlflow)


def records(run_dir: Path) -> list[dict]:
    return [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]


def run_id_of(run_dir: Path) -> str:
    return json.loads((run_dir / "mlflow.json").read_text())["run_id"]


def test_every_metric_is_a_line_of_valid_json_as_soon_as_it_is_logged(tmp_path: Path) -> None:
    before = time.time()
    with open_tracker(TrackingConfig(mlflow=None), tmp_path / "run", "run", {}, {}) as tracker:
        tracker.log_metrics({"loss": 2.5, "accuracy": 0}, step=3)
        (line,) = records(tmp_path / "run")  # before the tracker is closed
    assert {name: line[name] for name in ("step", "loss", "accuracy")} == {
        "step": 3,
        "loss": 2.5,
        "accuracy": 0.0,
    }
    assert before - 1 < line["time"] < time.time() + 1
    assert not (tmp_path / "run" / "mlflow.json").exists()


@given(values=st.lists(st.floats(), max_size=5))
def test_metrics_of_any_value_survive_the_file(tmp_path_factory: pytest.TempPathFactory, values) -> None:
    run_dir = tmp_path_factory.mktemp("run")
    with open_tracker(TrackingConfig(mlflow=None, system_seconds=0), run_dir, "run", {}, {}) as tracker:
        for step, value in enumerate(values):
            tracker.log_metrics({"value": value}, step)

    def forbidden(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    lines = (run_dir / "metrics.jsonl").read_text().splitlines()
    read = [float(json.loads(line, parse_constant=forbidden)["value"]) for line in lines]
    assert [repr(value) for value in read] == [repr(value) for value in values]


def test_a_resumed_run_appends_and_an_unfinished_last_line_goes(tmp_path: Path) -> None:
    config = TrackingConfig(mlflow=None)
    with open_tracker(config, tmp_path, "run", {}, {}) as tracker:
        tracker.log_metrics({"loss": 3.0}, 1)
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"time": 1, "step": 2, "lo')
    with open_tracker(config, tmp_path, "run", {}, {}) as tracker:
        tracker.log_metrics({"loss": 2.0}, 2)
    assert [(line["step"], line["loss"]) for line in records(tmp_path)] == [(1, 3.0), (2, 2.0)]


def test_a_run_without_mlflow_leaves_its_record_behind_and_nothing_else(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    with open_tracker(TrackingConfig(mlflow=None), Path("run"), "run", {}, {}) as tracker:
        tracker.log_metrics({"loss": 1.0}, 0)
        tracker.log_params({"lr": 1.0})
        tracker.log_tags({"verb": "test"})
    assert tracker.mlflow_run_id is None
    assert sorted(str(path) for path in Path().rglob("*")) == ["run", "run/metrics.jsonl", "run/record.json"]


def test_the_first_run_makes_the_database(sqlite_config: TrackingConfig, client) -> None:
    (run,) = client().search_runs([client().get_experiment_by_name("first").experiment_id])
    assert run.info.status == "FINISHED"
    assert run.data.metrics["loss"] == 1.0


def test_mlflow_has_parameters_curves_figures_tags_and_the_parent(
    tmp_path: Path, sqlite_config: TrackingConfig, client
) -> None:
    (tmp_path / "run").mkdir()
    figure = tmp_path / "run" / "depth.png"
    figure.write_bytes(b"not really a picture")
    params = {"optimizer": {"lr": 0.001, "betas": [0.9, 0.98]}, "long": "x" * 600}
    params |= {f"p{i}": i for i in range(230)}  # more than one batch takes
    with open_tracker(sqlite_config, tmp_path / "run", "acn", params, {"verb": "pretrain"}, "0" * 32) as tracker:
        for step in range(1, 6):
            tracker.log_metrics({"loss": 5.0 / step, "accuracy@3": step / 10}, step)
        tracker.log_params({"added": True})
        tracker.log_metrics({"loss": math.nan}, 6)
        tracker.log_figure(figure)
        run_id = tracker.mlflow_run_id

    run = client().get_run(run_id)
    assert run_id == run_id_of(tmp_path / "run")
    assert run.info.status == "FINISHED"
    assert run.info.run_name == "acn"
    assert client().get_experiment(run.info.experiment_id).name == "a test"
    assert run.data.params["optimizer.lr"] == "0.001"
    assert run.data.params["optimizer.betas"] == "[0.9, 0.98]"
    assert run.data.params["added"] == "True"
    assert run.data.params["long"] == "x" * 497 + "..."
    assert len(run.data.params) == 2 + 1 + 230 + 1
    assert run.data.tags["verb"] == "pretrain"
    assert run.data.tags["mlflow.parentRunId"] == "0" * 32
    curve = client().get_metric_history(run_id, "loss")
    assert [(point.step, point.value) for point in curve[:5]] == [(step, 5.0 / step) for step in range(1, 6)]
    assert math.isnan(curve[5].value)
    assert [point.timestamp for point in curve] == [round(line["time"] * 1000) for line in records(tmp_path / "run")]
    assert len(client().get_metric_history(run_id, "accuracy_3")) == 5
    assert [entry.path for entry in client().list_artifacts(run_id, "figures")] == ["figures/depth.png"]
    stored = tmp_path / "store" / "mlruns" / run_id / "artifacts" / "figures" / "depth.png"
    assert stored.read_bytes() == figure.read_bytes()


def test_a_resumed_run_is_the_same_mlflow_run_even_with_other_parameters(
    tmp_path: Path, sqlite_config: TrackingConfig, client
) -> None:
    with open_tracker(sqlite_config, tmp_path / "run", "acn", {"steps": 10, "lr": 1}, {}) as tracker:
        tracker.log_metrics({"loss": 3.0}, 1)
    with open_tracker(sqlite_config, tmp_path / "run", "acn", {"steps": 20, "lr": 1}, {"part": "2"}) as tracker:
        assert client().get_run(tracker.mlflow_run_id).info.status == "RUNNING"
        tracker.log_metrics({"loss": 2.0}, 2)

    run = client().get_run(run_id_of(tmp_path / "run"))
    assert len(client().search_runs([run.info.experiment_id])) == 1
    assert run.data.params == {"steps": "10", "lr": "1"}
    assert run.data.tags["param.changed.steps"] == "20"
    assert "param.changed.lr" not in run.data.tags
    assert run.data.tags["part"] == "2"
    assert [point.value for point in client().get_metric_history(run.info.run_id, "loss")] == [3.0, 2.0]
    assert run.info.status == "FINISHED"


def test_a_run_whose_record_was_deleted_from_mlflow_gets_a_new_one(
    tmp_path: Path, sqlite_config: TrackingConfig, client
) -> None:
    open_tracker(sqlite_config, tmp_path / "run", "acn", {}, {}).close()
    first = run_id_of(tmp_path / "run")
    client().delete_run(first)
    open_tracker(sqlite_config, tmp_path / "run", "acn", {}, {}).close()
    assert run_id_of(tmp_path / "run") != first


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (RuntimeError("boom"), "FAILED"),
        (KeyboardInterrupt(), "KILLED"),
        (SystemExit(1), "FAILED"),
        (SystemExit(0), "FINISHED"),
    ],
)
def test_the_way_a_run_ends_is_its_status(
    tmp_path: Path, sqlite_config: TrackingConfig, client, error: BaseException, status: str
) -> None:
    with pytest.raises(type(error)), open_tracker(sqlite_config, tmp_path, "acn", {}, {}):
        raise error
    assert client().get_run(run_id_of(tmp_path)).info.status == status


def test_an_unreachable_server_costs_one_warning_and_little_time(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    import_mlflow()  # takes seconds
    with reserved_port() as port:
        uri = f"http://user:secret@127.0.0.1:{port}"
        began = time.monotonic()
        with open_tracker(TrackingConfig(mlflow=uri), tmp_path, "run", {"lr": 1}, {}) as tracker:
            for step in range(500):
                tracker.log_metrics({"loss": 1.0}, step)
            tracker.log_params({"late": 1})
        assert time.monotonic() - began < 20
    assert len(records(tmp_path)) == 500
    assert tracker.mlflow_run_id is None
    (warning,) = [record.getMessage() for record in caplog.records if record.name == "launch.tracking.mlflow_mirror"]
    assert "metrics.jsonl" in warning
    assert "secret" not in warning


def test_points_logged_while_the_store_fails_arrive_when_it_is_back(
    tmp_path: Path, sqlite_config: TrackingConfig, client, caplog
) -> None:
    database = tmp_path / "store" / "mlruns.db"
    with open_tracker(sqlite_config, tmp_path / "run", "acn", {}, {}) as tracker:
        tracker.log_metrics({"loss": 0.0}, 0)
        with sqlite3.connect(database, timeout=60) as connection:
            connection.execute("CREATE TRIGGER full BEFORE INSERT ON metrics BEGIN SELECT RAISE(ABORT, 'full'); END")
        for step in range(1, 1500):
            tracker.log_metrics({"loss": float(step)}, step)
        wait_until(lambda: "failed" in caplog.text)
        with sqlite3.connect(database, timeout=60) as connection:
            connection.execute("DROP TRIGGER full")
    history = client().get_metric_history(run_id_of(tmp_path / "run"), "loss")
    assert sorted(point.step for point in history) == list(range(1500))


def test_a_figure_that_does_not_exist_is_an_error_with_or_without_mlflow(tmp_path: Path) -> None:
    with (
        open_tracker(TrackingConfig(mlflow=None), tmp_path, "run", {}, {}) as tracker,
        pytest.raises(FileNotFoundError),
    ):
        tracker.log_figure(tmp_path / "absent.png")


def test_problems_name_every_wrong_field() -> None:
    assert TrackingConfig().problems() == []
    assert TrackingConfig(mlflow="postgresql+psycopg2://host/db").problems() == []
    wrong = TrackingConfig(mlflow="mlruns", experiment=" ", run_name="").problems()
    assert [problem.field for problem in wrong] == [
        "tracking.mlflow",
        "tracking.experiment",
        "tracking.run_name",
    ]
    for uri in ("", "file:///tmp/x", "sqlite://", "sqlite:///"):
        assert len(TrackingConfig(mlflow=uri).problems()) == 1, uri


def test_nested_settings_are_named_with_dots() -> None:
    nested = {"a": {"b": {"c": 1}, "d": None}, "e": [1, 2], "f": {}}
    assert flatten(nested) == {"a.b.c": "1", "a.d": "None", "e": "[1, 2]", "f": "{}"}
