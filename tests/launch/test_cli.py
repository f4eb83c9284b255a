"""The command line, end to end on a few kilobytes, and what it says to mistakes."""

import json
import shutil

import mlflow
import pytest
import yaml
from transformers import AutoModelForSequenceClassification

from tests.conftest import sentences
from tests.launch.tiny import TINY, write_task


def test_text_goes_in_and_a_compressed_classifier_comes_out(acn, tmp_path, store):
    shutil.copy(store, tmp_path / "mlruns.db")
    (tmp_path / "train.txt").write_text(sentences(300, seed=1).replace("\n", "\n\n"))  # a document a line
    write_task(tmp_path / "glue" / "cats")
    (tmp_path / "texts.txt").write_text("the cat sat on the mat\nthe dog sat on the log\n")
    chain = [
        ["prepare", "--corpus.train", "train.txt", "--corpus.validation_fraction", "0.2", "--vocab_size", "100",
         "--seq_length", "16", "--output", "tokens"],
        ["pretrain", "--data", "tokens", "--output", "acn", *TINY, "--tracking.log_model", "true"],
        ["pretrain", "--data", "tokens", "--output", "res", "--model.connectivity", "residual", *TINY],
        ["export", "acn", "half", "--depth", "1"],
        *(["glue", "--model", f"{twin}/model", "--tasks", "cats", "--glue_dir", "glue", "--output", f"glue-{twin}",
           "--tracking.log_model", "true"]
          for twin in ("acn", "res")),
        ["study", "lesion,similarity", "--model", "glue-acn/cats", "--glue_dir", "glue", "--output", "study"],
        ["compress", "--model", "glue-acn/cats", "--tolerance", "0.01", "--output", "small", "--force"],
        ["predict", "small", "texts.txt", "--depth", "0", "--output", "labels.csv"],
        ["report", "glue-acn", "glue-res", "--output", "report"],
        ["publish", "small", "--repo_id", "tester/acn-small", "--dry_run", "--output", "hub"],
    ]  # fmt: skip
    for command in chain:
        code, out, err = acn(*command)
        assert code == 0, (command, err)
        output = command[command.index("--output") + 1] if "--output" in command else command[2]
        assert output in out, f"{command[0]} does not say where its result is"
    results = json.loads((tmp_path / "glue-acn" / "cats" / "results.json").read_text())
    assert len(results["depth_scores"]) == len(results["params_by_depth"]) == len(results["flops_by_depth"]) == 3
    small = AutoModelForSequenceClassification.from_pretrained(tmp_path / "small")
    assert small.config.num_hidden_layers == results["cut_depth"]
    assert len((tmp_path / "labels.csv").read_text().splitlines()) == 3
    page = (tmp_path / "report" / "index.html").read_text()
    assert "cats" in page
    assert "residual" in page
    store = mlflow.MlflowClient(f"sqlite:///{tmp_path}/mlruns.db")
    experiment = store.get_experiment_by_name("acn-lm").experiment_id
    runs = {run.info.run_name: run for run in store.search_runs([experiment])}
    assert set(runs) == {"acn", "res", "glue-acn", "glue-res", "study", "small"}
    assert runs["small"].data.tags["mlflow.parentRunId"] == runs["glue-acn"].info.run_id
    model = {artifact.path for artifact in store.list_artifacts(runs["small"].info.run_id, "model")}
    assert {"model/model.safetensors", "model/config.json", "model/README.md"} <= model
    assert runs["res"].data.params["model.connectivity"] == "residual"
    points = store.get_metric_history(runs["acn"].info.run_id, "train/loss")
    assert [point.step for point in points] == [2, 4]
    figures = store.list_artifacts(runs["acn"].info.run_id, "figures")
    assert [figure.path for figure in figures] == ["figures/pretraining.png"]
    for name, folder in (("acn", "model"), ("glue-acn", "cats")):
        model = store.list_artifacts(runs[name].info.run_id, folder)
        assert f"{folder}/model.safetensors" in [file.path for file in model]
    assert store.list_artifacts(runs["res"].info.run_id, "model") == [], "only when asked for"
    curves = store.list_artifacts(runs["glue-acn"].info.run_id, "figures/cats")
    assert [figure.path for figure in curves] == ["figures/cats/depth.png"]


def test_the_saved_configuration_is_the_resolved_one(trained):
    saved = yaml.safe_load((trained / "run" / "config.yaml").read_text())
    assert saved["optim"]["lr"] == 0.01
    assert saved["optim"]["betas"] == [0.9, 0.98]
    assert saved["tracking"]["mlflow"] is None
    assert not (trained / "mlruns.db").exists()


PREPARE = ["prepare", "--output", "out", "--corpus.train"]
PRETRAIN = ["pretrain", "--output", "out", "--data"]
GLUE = ["glue", "--output", "out", "--glue_dir", "glue", "--model"]


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ([*PREPARE, "absent-*.parquet"], "absent-*.parquet"),
        ([*PREPARE, "empty.txt"], "empty.txt"),
        ([*PREPARE, "rows.jsonl"], "text"),
        ([*PREPARE, "text.txt", "--vocab_sise", "9"], "vocab_sise"),
        ([*PREPARE, "text.txt", "--vocab_size", "many"], "vocab_size"),
        ([*PRETRAIN, "absent"], "absent does not exist"),
        ([*PRETRAIN, "PREPARED", *TINY, "--nproc_per_node", "5"], "global_batch_size"),
        ([*PRETRAIN, "PREPARED", *TINY, "--global_batch_size", "35", "--micro_batch_size", "5",
          "--nproc_per_node", "7"], "7 ranks do not divide the 12 lanes"),
        ([*PRETRAIN, "PREPARED", *TINY, "--model.connectivity", "dense"], "connectivity"),
        ([*PRETRAIN, "PREPARED", *TINY, "--optim.learning_rate", "1"], "learning_rate"),
        ([*PRETRAIN, "CHANGED", *TINY], "vocabulary mismatch"),
        (["export", "absent", "out"], "absent"),
        ([*GLUE, "absent", "--tasks", "cats"], "absent"),
        ([*GLUE, "absent", "--tasks", "sst3"], "absent"),
        (["compress", "--model", "absent", "--output", "out"], "absent"),
        (["report", "absent", "--output", "out"], "absent"),
        (["pretend"], "pretend"),
    ],
)  # fmt: skip
def test_a_mistake_gets_one_clear_message_and_nothing_is_written(acn, tmp_path, prepared, command, message):
    (tmp_path / "empty.txt").write_text("")
    (tmp_path / "text.txt").write_text(sentences(100, seed=1))
    (tmp_path / "rows.jsonl").write_text('{"body": "no text here"}\n' * 9)
    shutil.copytree(prepared, tmp_path / "changed")
    vocabulary = tmp_path / "changed" / "tokenizer" / "tokenizer.json"
    vocabulary.write_text(vocabulary.read_text().replace('"cat"', '"cow"'))
    write_task(tmp_path / "glue" / "cats")
    before = sorted(tmp_path.rglob("*"))
    folders = {"PREPARED": str(prepared), "CHANGED": str(tmp_path / "changed")}
    code, out, err = acn(*(folders.get(word, word) for word in command))
    assert code == 2
    assert message in err
    assert "Traceback" not in out + err
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("command", [[*PREPARE, "text.txt"], [*PRETRAIN, "PREPARED", *TINY]])
def test_a_folder_with_something_else_in_it_is_left_alone(acn, tmp_path, prepared, command):
    (tmp_path / "text.txt").write_text(sentences(100, seed=1))
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("mine")
    code, _, err = acn(*(str(prepared) if word == "PREPARED" else word for word in command))
    assert code == 2
    assert "out" in err
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["thesis.txt"]


def test_an_unknown_task_and_a_depth_outside_the_model_are_named(acn, tmp_path, trained):
    write_task(tmp_path / "glue" / "cats")
    code, _, err = acn(
        "glue", "--model", str(trained / "run/model"), "--glue_dir", "glue", "--output", "tuned", "--tasks", "sst3"
    )
    assert code == 2
    assert "sst3" in err
    assert "cats" in err, "the message lists what there is"
    assert not (tmp_path / "tuned").exists()
    for command in (
        ["compress", "--model", str(trained / "tuned/cats"), "--output", "small", "--depth", "3", "--force"],
        ["export", str(trained / "run"), "small", "--depth", "3"],
    ):
        code, _, err = acn(*command)
        assert code == 2
        assert "0..2" in err
        assert not (tmp_path / "small").exists()


def test_help_of_every_verb_explains_its_options(acn):
    for verb in cli_verbs():
        code, out, _ = acn(verb, "--help")
        assert code == 0
        assert "--output" in out or "output" in out or (verb == "plan" and "--json" in out)  # a plan writes no folder
    assert "Blocks per optimizer step over all ranks" in acn("pretrain", "--help")[1]


def cli_verbs():
    from launch.cli import VERBS

    return list(VERBS)
