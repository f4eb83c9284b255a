"""What MLflow is told of fine-tunings and pretrainings, and what users are told of MLflow."""

import re
import shutil
from pathlib import Path

import pytest
import yaml

from tests.launch.tiny import TINY

OPTIONS = (
    "--epochs", "1", "--max_train_samples", "32", "--speed", "false", "--predict_test", "false",
    "--tracking.close_seconds", "120",
)  # fmt: skip


@pytest.fixture
def uri(tmp_path: Path, store: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A store that the environment names, with an experiment."""
    uri = f"sqlite:///{shutil.copy(store, tmp_path / 'theirs.db')}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "theirs")
    return uri


def runs_of(uri: str, search: str = "") -> dict:
    """The runs of the experiment by name."""
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=uri)
    found = client.search_runs([client.get_experiment_by_name("theirs").experiment_id], search)
    return {run.info.run_name: run for run in found}


def assert_told(out: str, uri: str, run) -> None:
    """The output says who named the store, and the last lines what to run and to open."""
    assert f"MLflow: {uri} (MLFLOW_TRACKING_URI), experiment theirs (MLFLOW_EXPERIMENT_NAME)" in out
    command, page = out.splitlines()[-2:]
    assert command == f"MLflow: mlflow ui --backend-store-uri {uri}"
    assert f"http://127.0.0.1:5000/#/experiments/{run.info.experiment_id}/runs/{run.info.run_id}" in page


def artifact(uri: str, run) -> dict:
    from mlflow.artifacts import download_artifacts

    return yaml.safe_load(Path(download_artifacts(f"{run.info.artifact_uri}/config/config.yaml")).read_text())


def test_a_suite_and_its_trials_are_found_by_one_name_with_what_was_used(acn, uri, trained):
    code, out, err = acn("glue", "--model", str(trained / "run" / "model"), "--glue_dir", str(trained / "glue"),
                         "--output", "tuned", "--tasks", "cats", "--seeds", "1,2", *OPTIONS)  # fmt: skip
    assert code == 0, err
    runs = runs_of(uri, "metrics.`cats/full_score` >= 0")
    assert runs.keys() == {"tuned", "cats/seed-1", "cats/seed-2"}
    assert_told(out, uri, runs["tuned"])
    rate = 2e-5 * 768 / 16
    for name, run in runs.items():
        params = run.data.params
        assert float(params["learning_rate"]) == pytest.approx(rate)
        assert (params["connectivity"], int(params["batch_size"])) == ("acn", 32)
        assert "None" not in (params["warmup_fraction"], params["weight_decay"], params["max_length"])
        assert not [tag for tag in run.data.tags if tag.startswith("param.changed")]
        config = artifact(uri, run)
        assert config["learning_rate"] == pytest.approx(rate)
        assert config["tracking"]["mlflow"] == uri
        assert "cats/depth_score" in run.data.metrics
        assert name == "tuned" or config["seed"] == int(params["seed"]) == int(name[-1])


def test_a_single_trial_is_the_suites_own_run(acn, uri, trained):
    code, out, err = acn("glue", "--model", str(trained / "run" / "model"), "--glue_dir", str(trained / "glue"),
                         "--output", "tuned", "--tasks", "cats", "--seeds", "5", "--learning_rate", "1e-3",
                         *OPTIONS)  # fmt: skip
    assert code == 0, err
    (run,) = runs_of(uri).values()
    assert_told(out, uri, run)
    assert {name: run.data.params[name] for name in ("seed", "learning_rate")} == {
        "seed": "5",
        "learning_rate": "0.001",
    }
    assert not [tag for tag in run.data.tags if tag.startswith("param.changed")]


def test_a_pretraining_records_its_resolved_configuration(acn, uri, prepared):
    code, out, err = acn("pretrain", "--data", str(prepared), "--output", "run", *TINY,
                         "--tracking.close_seconds", "120")  # fmt: skip
    assert code == 0, err
    (run,) = runs_of(uri).values()
    assert_told(out, uri, run)
    config = artifact(uri, run)
    assert config == yaml.safe_load(Path("run/config.yaml").read_text())
    assert (config["steps"], config["tracking"]["mlflow"], config["tracking"]["experiment"]) == (4, uri, "theirs")
    assert run.data.params["tracking.mlflow"] == uri


def test_a_cut_and_a_study_say_where_they_are(acn, uri, trained):
    model, data = str(trained / "tuned" / "cats"), ("--glue_dir", str(trained / "glue"))
    code, out, err = acn("compress", "--model", model, "--output", "small", "--tolerance", "1", "--force", *data,
                         "--tracking.close_seconds", "120")  # fmt: skip
    assert code == 0, err
    assert_told(out, uri, runs_of(uri, "metrics.`cats/full_score` >= 0")["small"])
    code, out, err = acn("study", "lesion", "--model", model, "--output", "studies", *data,
                         "--tracking.close_seconds", "120")  # fmt: skip
    assert code == 0, err
    run = runs_of(uri)["studies"]
    assert_told(out, uri, run)
    assert run.data.params["connectivity"] == "acn"
    assert artifact(uri, run)["studies"] == "lesion"


def test_the_contenders_of_a_study_are_its_children(acn, uri, trained):
    code, out, err = acn("study", "shallow", "--model", str(trained / "run" / "model"), "--tasks", "cats",
                         "--glue_dir", str(trained / "glue"), "--output", "rivals", "--seeds", "1",
                         "--shallow.supervision", "none,deep", "--shallow.rate_multiples", "1",
                         "--tracking.close_seconds", "120")  # fmt: skip
    assert code == 0, err
    runs = runs_of(uri)
    assert_told(out, uri, runs["rivals"])
    assert "shallow: Up to 25% of the time: " in out
    assert {name for name in runs if name.startswith("run")} == {"run", "run+deep"}
    for name in ("run", "run+deep"):
        assert runs[name].data.tags["mlflow.parentRunId"] == runs["rivals"].info.run_id
        assert "cats/full_score" in runs[name].data.metrics
    assert runs["rivals"].data.params["shallow.supervision"] == "none,deep"
    code, out, err = acn("report", "rivals", "--output", "report")
    assert code == 0, err


def test_sync_passes_over_what_is_no_run(acn, uri, trained):
    shutil.copytree(trained / "run", "runs/one")
    shutil.copytree(trained / "tuned", "runs/two")
    Path("runs/report").mkdir()
    Path("runs/notes.txt").write_text("x")
    code, out, err = acn("track", "sync", "runs/notes.txt", "runs/one", "runs/report", "runs/two")
    assert code == 0, err
    assert "runs/notes.txt: no run, passed over" in out
    assert "runs/report: no run, passed over" in out
    runs = {run.info.run_id for run in _all_runs(uri)}
    assert set(re.findall(r"runs/(?:one|two): is run (\w+)", out)) <= runs
    assert out.count("MLflow: mlflow ui") == 2


def test_sync_of_nothing_that_is_a_run_fails(acn, uri):
    Path("notes.txt").write_text("x")
    code, out, err = acn("track", "sync", "notes.txt")
    assert code == 2
    assert "notes.txt: no run, passed over" in out
    assert "none of these is a run" in err


@pytest.mark.parametrize("kind", ["damaged", "missing"])
def test_one_run_that_cannot_be_sent_does_not_stop_the_others(acn, uri, trained, kind):
    for name in ("a", "b", "c"):
        shutil.copytree(trained / "tuned", f"runs/{name}")
    if kind == "damaged":
        Path("runs/a/record.json").write_text("{")
    else:
        shutil.rmtree("runs/a")
    code, out, err = acn("track", "sync", "runs/a", "runs/b", "runs/c")
    assert code == 2
    assert "runs/b: is run" in out
    assert "runs/c: is run" in out
    assert "runs/a" in err
    assert "runs/b" not in err


def _all_runs(uri: str) -> list:
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=uri)
    return client.search_runs([found.experiment_id for found in client.search_experiments()])
