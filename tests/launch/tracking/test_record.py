"""The local record: complete, replayable, and no danger to the run."""

import json
import re
import shutil
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launch import provenance
from launch.errors import LaunchError
from launch.tracking.record import MetricsFile, Record, read_points, read_record
from launch.tracking.sync import SyncConfig, check_run_dir, sync_run
from launch.tracking.tracker import TrackingConfig, open_tracker

LOCAL = TrackingConfig(mlflow=None, system_seconds=0)


def fill_disk(monkeypatch: pytest.MonkeyPatch, metrics: MetricsFile, room: int) -> None:
    """Only `room` more bytes fit into the file."""

    class Full:
        def __init__(self, file) -> None:
            self.file, self.room = file, room

        def write(self, data: bytes) -> int:
            if not self.room:
                raise OSError(28, "No space left on device")
            taken = self.file.write(data[: self.room])
            self.room -= taken
            return taken

        def __getattr__(self, name: str):
            return getattr(self.file, name)

    monkeypatch.setattr(metrics, "_file", Full(metrics._file))


def test_a_full_disk_delays_lines_but_neither_tears_nor_loses_them(tmp_path, monkeypatch, caplog):
    tracker = open_tracker(LOCAL, tmp_path, "run", {}, {})
    tracker.log_metrics({"loss": 1.0}, 1)
    metrics = tracker._metrics
    fill_disk(monkeypatch, metrics, room=10)
    for step in (2, 3):
        tracker.log_metrics({"loss": 1.0}, step)
    assert [json.loads(line)["step"] for line in (tmp_path / "metrics.jsonl").read_text().splitlines()] == [1]
    assert len(caplog.records) == 1
    metrics._file.room = 10**6
    tracker.log_metrics({"loss": 1.0}, 4)
    tracker.close()
    assert [json.loads(line)["step"] for line in (tmp_path / "metrics.jsonl").read_text().splitlines()] == [1, 2, 3, 4]


@given(
    values=st.lists(st.dictionaries(st.sampled_from(["a", "b/c"]), st.floats(allow_nan=False), max_size=2), max_size=6),
    cut=st.integers(0, 6),
)
def test_reading_goes_on_after_any_line(tmp_path_factory, values, cut):
    folder = tmp_path_factory.mktemp("run")
    with open_tracker(LOCAL, folder, "run", {}, {}) as tracker:
        for step, value in enumerate(values):
            tracker.log_metrics(value, step)
    whole = list(read_points(folder / "metrics.jsonl"))
    assert [{name: value for name, value, _, _ in points} for _, points in whole] == values
    start = whole[min(cut, len(whole)) - 1][0] if cut and whole else 0
    assert list(read_points(folder / "metrics.jsonl", start)) == whole[min(cut, len(whole)) :]


def test_a_line_being_written_is_left_for_later_and_a_spoilt_one_is_passed_over(tmp_path, caplog):
    path = tmp_path / "metrics.jsonl"
    good = '{"time": 1.5, "step": 1, "loss": 2.0}\n'
    path.write_text(good + "spoilt\n" + good + '{"time": 1, "st')
    points = [found for _, found in read_points(path)]
    assert points == [[("loss", 2.0, 1500, 1)], [], [("loss", 2.0, 1500, 1)]]
    assert "is no record" in caplog.text


def test_the_record_has_what_the_run_was_made_with_and_how_it_ended(tmp_path):
    with open_tracker(LOCAL, tmp_path / "run", "a run", {"lr": 1, "steps": 5}, {"verb": "test"}) as tracker:
        assert read_record(tmp_path / "run").status == "RUNNING"
        tracker.log_tags({"hosts": "one, two"})
        (tmp_path / "run" / "deep").mkdir()
        (tmp_path / "run" / "deep" / "curve.png").write_bytes(b"x")
        tracker.log_figure(tmp_path / "run" / "deep" / "curve.png", "figures/deep")
    with open_tracker(LOCAL, tmp_path / "run", "a run", {"lr": 2, "steps": 5}, {}) as tracker:
        record = read_record(tmp_path / "run")
        assert record.ended is None
        tracker.close("KILLED")
    found = read_record(tmp_path / "run")
    assert found.id == record.id
    assert found.status == "KILLED"
    assert found.ended >= found.started
    assert found.params == {"lr": "1", "steps": "5"}
    assert found.tags["param.changed.lr"] == "2"
    assert found.tags["hosts"] == "one, two"
    assert found.tags["version.torch"]
    assert found.files == {"deep/curve.png": "figures/deep"}


def test_the_model_is_recorded_only_when_asked_for(tmp_path):
    (tmp_path / "model").mkdir()
    for log_model in (False, True):
        config = TrackingConfig(mlflow=None, log_model=log_model)
        with open_tracker(config, tmp_path, "run", {}, {}) as tracker:
            tracker.log_model(tmp_path / "model")
        assert read_record(tmp_path).files == ({"model": "model"} if log_model else {})


def test_several_trackers_are_open_at_once(tmp_path):
    with open_tracker(LOCAL, tmp_path / "suite", "suite", {}, {}) as suite:
        with open_tracker(LOCAL, tmp_path / "child", "child", {}, {}, parent_run_id="0" * 32) as child:
            child.log_metrics({"score": 1.0}, 1)
            suite.log_metrics({"done": 1.0}, 1)
        suite.log_metrics({"done": 2.0}, 2)
    assert read_record(tmp_path / "child").tags["mlflow.parentRunId"] == "0" * 32
    assert len((tmp_path / "suite" / "metrics.jsonl").read_text().splitlines()) == 2


def test_a_damaged_record_is_named(tmp_path):
    (tmp_path / "record.json").write_text('{"name": "x"')
    with pytest.raises(LaunchError, match=r"record\.json"):
        open_tracker(LOCAL, tmp_path, "run", {}, {})


def test_the_commit_is_that_of_this_codes_checkout_and_of_no_other(monkeypatch, tmp_path):
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    provenance.provenance_tags.cache_clear()
    monkeypatch.setattr(provenance, "__file__", str(tmp_path / "site-packages" / "launch" / "provenance.py"))
    (tmp_path / "site-packages" / "launch").mkdir(parents=True)
    assert "git.commit" not in provenance.provenance_tags(), "the code is not a part of that repository"
    monkeypatch.undo()
    provenance.provenance_tags.cache_clear()
    commit = provenance.provenance_tags().get("git.commit")
    assert commit is None or re.fullmatch("[0-9a-f]{40}", commit)


def test_sync_says_what_is_missing(tmp_path):
    with pytest.raises(LaunchError, match=r"has no metrics\.jsonl"):
        check_run_dir(tmp_path, SyncConfig())
    with open_tracker(LOCAL, tmp_path / "run", "run", {}, {}):
        pass
    with pytest.raises(LaunchError, match=r"--tracking\.mlflow"):
        sync_run(tmp_path / "run", SyncConfig())
    assert SyncConfig(mlflow="nowhere").problems()[0].field == "tracking.mlflow"


def test_a_run_of_before_the_record_is_synced_from_its_configuration(tmp_path, store):
    from mlflow import MlflowClient

    shutil.copy(store, tmp_path / "store.db")
    run = tmp_path / "old"
    run.mkdir()
    (run / "metrics.jsonl").write_text('{"time": 1.0, "step": 1, "loss": 2.0}\n')
    (run / "config.yaml").write_text("steps: 5\noptim: {lr: 0.1}\ntracking: {mlflow: null, experiment: older}\n")
    (run / "pretraining.png").write_bytes(b"x")
    store = f"sqlite:///{tmp_path}/store.db"
    run_id, lines = sync_run(run, SyncConfig(mlflow=store))
    assert lines[0].endswith(f"mlflow ui --backend-store-uri {store}")
    client = MlflowClient(tracking_uri=store)
    found = client.get_run(run_id)
    assert found.data.params["optim.lr"] == "0.1"
    assert found.data.metrics == {"loss": 2.0}
    assert found.info.run_name == "old"
    assert client.get_experiment(found.info.experiment_id).name == "older"
    assert [entry.path for entry in client.list_artifacts(run_id, "figures")] == ["figures/pretraining.png"]


def test_a_setting_that_changes_keeps_its_first_value_and_gets_a_tag():
    record = Record("a run", "an experiment")
    record.add_params({"a": "1"})
    record.add_params({"a": "2", "b": "3"})
    assert record.params == {"a": "1", "b": "3"}
    assert record.tags == {"param.changed.a": "2"}
