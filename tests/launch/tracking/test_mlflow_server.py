"""A real MLflow server that hangs, dies and comes back while a run goes on."""

import json
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from launch import cli
from launch.tracking import mlflow_mirror
from launch.tracking.tracker import Tracker, TrackingConfig, open_tracker
from tests.launch.tracking.mlflow_server import MlflowServer

pytestmark = pytest.mark.slow

METRICS = 20


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowServer]:
    server = MlflowServer(tmp_path_factory.mktemp("mlflow"))
    server.start()
    yield server
    server.kill()


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    mlflow_mirror.import_mlflow()  # takes seconds, which no test means to measure
    monkeypatch.setattr(mlflow_mirror, "_FLUSH_SECONDS", 0.1)
    monkeypatch.setattr(mlflow_mirror, "_FIRST_PAUSE", 0.1)
    monkeypatch.setattr(mlflow_mirror, "_LONGEST_PAUSE", 0.5)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "2")


class Steps:
    """Logs numbered steps of 20 metrics, and remembers the longest that logging one of them took."""

    def __init__(self) -> None:
        self.last = 0
        self.longest = 0.0

    def log(self, tracker: Tracker, count: int) -> None:
        for step in range(self.last + 1, self.last + count + 1):
            began = time.perf_counter()
            tracker.log_metrics({f"metric/{i:02d}": step + i / 100 for i in range(METRICS)}, step)
            self.longest = max(self.longest, time.perf_counter() - began)
        self.last += count


def until(true: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def sent_bytes(run: Path) -> int:
    return json.loads((run / "mlflow.json").read_text()).get("sent_bytes", 0)


def sent_all(run: Path) -> bool:
    return (run / "mlflow.json").exists() and sent_bytes(run) == (run / "metrics.jsonl").stat().st_size


def runs_of(server: MlflowServer, experiment: str) -> list:
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=server.uri)
    return list(client.search_runs([client.get_experiment_by_name(experiment).experiment_id]))


def assert_all_there_once(server: MlflowServer, experiment: str, steps: int) -> None:
    """One run, with each metric of each step exactly once, and its value."""
    from mlflow import MlflowClient

    (run,) = runs_of(server, experiment)
    for metric in range(METRICS):
        history = MlflowClient(tracking_uri=server.uri).get_metric_history(run.info.run_id, f"metric/{metric:02d}")
        found = sorted((point.step, point.value) for point in history)
        assert found == [(step, step + metric / 100) for step in range(1, steps + 1)]


def config(server: MlflowServer, experiment: str) -> TrackingConfig:
    return TrackingConfig(mlflow=server.uri, experiment=experiment, system_seconds=0)


def test_no_step_is_lost_when_the_server_hangs_and_dies_and_comes_back(server: MlflowServer, tmp_path: Path) -> None:
    steps = Steps()
    with open_tracker(config(server, "outage"), tmp_path / "run", "run", {"lr": 1}, {}) as tracker:
        steps.log(tracker, 30)
        until(lambda: sent_all(tmp_path / "run"))
        server.signal(signal.SIGSTOP)
        before = sent_bytes(tmp_path / "run")
        steps.log(tracker, 30)
        time.sleep(3)  # the thread waits for an answer meanwhile, and gives up
        assert sent_bytes(tmp_path / "run") == before
        server.signal(signal.SIGCONT)
        until(lambda: sent_all(tmp_path / "run"))
        server.kill()
        steps.log(tracker, 30)
        server.start()
        until(lambda: sent_all(tmp_path / "run"))
        steps.log(tracker, 30)
    assert steps.longest < 3, "logging never waits for the server, which hangs for three seconds"
    assert_all_there_once(server, "outage", 120)
    assert runs_of(server, "outage")[0].info.status == "FINISHED"


def test_a_server_that_is_away_at_the_start_gets_everything_later(server: MlflowServer, tmp_path: Path) -> None:
    server.kill()
    steps = Steps()
    with open_tracker(config(server, "late"), tmp_path / "run", "run", {"lr": 1}, {"verb": "test"}) as tracker:
        assert tracker.mlflow_run_id is None
        steps.log(tracker, 50)
        server.start()
        until(lambda: sent_all(tmp_path / "run"))
    assert_all_there_once(server, "late", 50)
    (run,) = runs_of(server, "late")
    assert run.data.params == {"lr": "1"}
    assert run.data.tags["verb"] == "test"


def test_a_hanging_server_delays_the_end_by_the_stated_time_and_sync_sends_the_rest(
    server: MlflowServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    run = tmp_path / "run"
    settings = config(server, "hung")
    settings.close_seconds = 1
    steps = Steps()
    tracker = open_tracker(settings, run, "run", {"lr": 1}, {})
    steps.log(tracker, 10)
    until(lambda: sent_all(run))
    server.signal(signal.SIGSTOP)
    steps.log(tracker, 10)
    (run / "picture.png").write_bytes(b"a picture")
    tracker.log_figure(run / "picture.png")
    began = time.monotonic()
    tracker.close()
    assert time.monotonic() - began < 3
    server.signal(signal.SIGCONT)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "60")
    assert cli.main(["track", "sync", str(run)]) == 2, "a server that only the run names"
    assert f"--tracking.mlflow {server.uri}" in capsys.readouterr().err
    for _ in range(2):
        assert cli.main(["track", "sync", str(run), "--tracking.mlflow", server.uri]) == 0
        assert server.uri in capsys.readouterr().out
        assert_all_there_once(server, "hung", 20)
    (found,) = runs_of(server, "hung")
    assert found.info.status == "FINISHED"


def test_a_run_recorded_without_mlflow_can_be_synced_into_any_server(
    server: MlflowServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow import MlflowClient

    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "60")
    run = tmp_path / "run"
    local = TrackingConfig(mlflow=None, experiment="local", system_seconds=0, log_model=True)
    steps = Steps()
    with open_tracker(local, run, "by hand", {"optim": {"lr": 1e-3}}, {"verb": "pretrain"}) as tracker:
        steps.log(tracker, 60)
        tracker.log_metrics({"broken": float("nan")}, 60)
        (run / "picture.png").write_bytes(b"a picture")
        tracker.log_figure(run / "picture.png")
        (run / "model").mkdir()
        (run / "model" / "config.json").write_text("{}")
        tracker.log_model(run / "model")
        tracker.close("KILLED")
    assert not (run / "mlflow.json").exists()
    for _ in range(2):
        assert cli.main(["track", "sync", str(run), "--tracking.mlflow", server.uri]) == 0
    assert_all_there_once(server, "local", 60)
    client = MlflowClient(tracking_uri=server.uri)
    (found,) = runs_of(server, "local")
    assert len(client.get_metric_history(found.info.run_id, "broken")) == 1
    assert found.info.run_name == "by hand"
    assert found.info.status == "KILLED"
    assert found.info.end_time == round(json.loads((run / "record.json").read_text())["ended"] * 1000)
    assert found.data.params == {"optim.lr": "0.001"}
    assert found.data.tags["verb"] == "pretrain"
    paths = [
        entry.path for folder in ("figures", "model") for entry in client.list_artifacts(found.info.run_id, folder)
    ]
    assert paths == ["figures/picture.png", "model/config.json"]
