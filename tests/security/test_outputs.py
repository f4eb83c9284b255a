"""Publications and reports hold what lies in the folders that were named, and are written where they were told to."""

import json
import os
import shutil
from pathlib import Path

import pytest

from tests.launch.publishing.lab import TASK

DRY = ("--repo_id", "me/acn", "--dry_run", "--output")


@pytest.fixture
def runs(lab, tmp_path) -> Path:
    shutil.copytree(lab / "runs", tmp_path / "runs")
    (tmp_path / "key").write_text("private")
    return tmp_path / "runs"


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def change(path: Path, **values) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


@pytest.mark.parametrize("name", ["../victim", "../../victim", "train/../../victim", "/tmp/victim"])
def test_a_corpus_that_names_files_elsewhere_is_not_published_and_nothing_is_overwritten(publish, runs, tmp_path, name):
    (tmp_path / "victim").write_text("mine")
    (runs / "victim").write_text("theirs")
    manifest = json.loads((runs / "tokens/manifest.json").read_text())
    manifest["splits"]["train"]["shards"][0] |= {"file": name, "bytes": 6}
    (runs / "tokens/manifest.json").write_text(json.dumps(manifest))
    code, out, err = publish(runs / "tokens", *DRY, tmp_path / "hub")
    assert code == 2, out
    assert "names the shard" in err
    assert (tmp_path / "victim").read_text() == "mine"
    assert not (tmp_path / "hub").exists()


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("acn/model", "model.safetensors"),
        ("acn/model", "tokenizer_config.json"),
        ("acn", "pretraining.png"),
        (f"glue/{TASK}", "depth.png"),
        ("tokens", "tokenizer/extra.json"),
    ],
)
def test_what_a_link_leads_to_is_not_published(publish, runs, tmp_path, model, name):
    path = runs / model / name
    if path.exists():
        path.rename(tmp_path / "moved")  # sound, but of another folder
    else:
        (tmp_path / "moved").write_text("{}")
    path.symlink_to(tmp_path / "moved")
    code, _, err = publish(runs / model, *DRY, tmp_path / "hub")
    assert code == 2
    assert path.name in err
    assert "link out of the folder" in err
    assert not (tmp_path / "hub").exists()


def test_folders_that_links_of_a_run_or_suite_lead_to_are_not_published(publish, runs, tmp_path):
    (runs / "acn/model").rename(tmp_path / "private")
    (runs / "acn/model").symlink_to(tmp_path / "private")
    code, _, err = publish(runs / "acn", *DRY, tmp_path / "hub")
    assert code == 2
    assert "'model' is a link out of the folder" in err
    (runs / f"glue/{TASK}").rename(tmp_path / "task")
    (runs / f"glue/{TASK}").symlink_to(tmp_path / "task")
    code, _, err = publish(tmp_path / "private", "--glue", runs / "glue", *DRY, tmp_path / "hub")
    assert code == 2
    assert "holds no results" in err


@pytest.mark.parametrize("extra", ["link", "pipe"])
def test_a_publication_that_somebody_put_something_into_is_not_replaced(publish, runs, tmp_path, extra):
    assert publish(runs / "small", *DRY, tmp_path / "hub")[0] == 0
    place = tmp_path / "hub" / "extra"
    place.symlink_to(tmp_path / "key") if extra == "link" else os.mkfifo(place)
    code, _, err = publish(runs / "small", *DRY, tmp_path / "hub")
    assert code == 2
    assert "was changed by hand (extra)" in err
    shutil.move(tmp_path / "hub", tmp_path / "elsewhere")
    place = tmp_path / "hub"
    place.symlink_to(tmp_path / "elsewhere")
    code, _, err = publish(runs / "small", *DRY, tmp_path / "hub")
    assert code == 2
    assert place.is_symlink()


def test_a_receipt_of_another_making_is_no_permission(publish, runs, tmp_path):
    for content in ("[]", "{}", '{"repo_id": 3, "files": []}', '{"repo_id": "me/acn", "files": {"a": []}}', "[" * 5000):
        folder = tmp_path / "thesis"
        folder.mkdir(exist_ok=True)
        (folder / "thesis.txt").write_text("years of work")
        (folder / ".acn-publication.json").write_text(content)
        code, _, err = publish(runs / "small", *DRY, folder)
        assert code == 2
        assert "no publication" in err
        assert (folder / "thesis.txt").read_text() == "years of work"


def test_a_result_that_names_somebody_elses_run_does_not_publish_its_facts(publish, runs, tmp_path):
    """Only weights prove it: a name could be any folder of whoever publishes."""
    private = tmp_path / "home" / "private"
    shutil.copytree(runs / "acn", private)
    shutil.rmtree(runs / "acn")
    path = runs / f"glue/{TASK}/results.json"
    settings = {**json.loads(path.read_text())["settings"], "weights": None}
    change(path, model=str(private / "model"), settings=settings)
    code, _, err = publish(path.parent, *DRY, tmp_path / "hub")
    assert code == 0, err
    assert "nothing is known of it here" in (tmp_path / "hub" / "README.md").read_text()
    assert not (tmp_path / "hub" / "recipe.yaml").exists()


@pytest.mark.parametrize("task", ["../../escaped", "a/b", "/tmp/escaped", "..", "a\nb", "a\\b"])
def test_a_report_writes_no_figure_outside_its_folder(acn, runs, tmp_path, task):
    change(runs / f"glue/{TASK}/results.json", task=task)
    before = files(tmp_path)
    code, _, err = acn("report", "runs/glue", "--output", "deep/report")
    assert code == 2
    assert "results.json" in err
    assert files(tmp_path) == before


@pytest.mark.parametrize(
    ("study", "task", "code"), [("../../noise", "sst2", 2), ("a/b", "sst2", 2), ("noise", "../../x,a/b", 0)]
)
def test_a_report_of_studies_neither(acn, runs, tmp_path, study, task, code):
    point = {"x": 0.0, "mean": 0.5, "std": None}
    curve = {"label": "a", "x_label": "x", "y_label": "y", "points": [point], "reference": None}
    content = {"study": study, "model": "m", "connectivity": "acn", "task": task, "seeds": [1], "curves": [curve],
               "table": {"columns": ["c"], "rows": [[1]]}, "notes": ""}  # fmt: skip
    for number in (1, 2):
        folder = runs / f"studies{number}" / "noise"
        folder.mkdir(parents=True)
        (folder / "study.json").write_text(json.dumps(content | {"task": task * number}))
    before = files(tmp_path)
    found, _, err = acn("report", "runs/studies1", "runs/studies2", "--output", "deep/report")
    assert found == code, err
    written = set(files(tmp_path)) - set(before)
    assert all(name.startswith("deep/report/") for name in written)


@pytest.mark.parametrize("task", ["../x", "a/b", "/tmp/x"])
def test_a_task_is_no_path(acn, runs, task):
    words = ("--dataset.path", "runs", "--dataset.text_columns", "text", "--dataset.label_column", "label")
    code, _, err = acn("glue", "--model", "runs/acn/model", "--tasks", task, "--output", "out", *words)
    assert code == 2
    assert "tasks=" in err
    assert not Path("out").exists()
