"""CONTRIBUTING's recipe for a new task, followed to the letter: what it adds, and that it changes nothing else."""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import datasets
import pyarrow.parquet as pq
import pytest
from huggingface_hub import ModelCard

from eval import GLUE_TASKS, TASKS, CompressConfig, FinetuneConfig, Task, compress_model, run_suite
from eval.glue import glue_average
from eval.report import Run
from eval.report.sections import glue_table

RECIPE = Path(__file__).parents[3] / "CONTRIBUTING.md"
SaveSplit = Callable[[Path, str, str, dict[str, list]], None]


@pytest.fixture
def register(monkeypatch: pytest.MonkeyPatch) -> Callable[[], Task]:
    """Adds the entry that the recipe shows to the table."""

    def add() -> Task:
        section = RECIPE.read_text(encoding="utf-8").partition("## Adding a task")[2].partition("\n## ")[0]
        (entry,) = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
        (added,) = eval(f"{{{entry}}}", {"Task": Task}).items()
        monkeypatch.setitem(TASKS, *added)
        return added[1]

    return add


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch, glue_dir: Path, tmp_path: Path, save_split: SaveSplit) -> set:
    """A Hub with nyu-mll/glue and stanfordnlp/snli, of rows made here; what it is asked for is kept."""
    asked: set[tuple[str, str | None]] = set()
    texts = ["a good film", "the bad book", "the very long plot"]
    for split, copies in (("train", 16), ("validation", 4)):
        columns = {"premise": texts * copies, "hypothesis": texts[::-1] * copies, "label": [0, 1, 2] * copies}
        save_split(tmp_path, "snli", split, columns)
    folders = {("nyu-mll/glue", "sst2"): glue_dir / "sst2", ("stanfordnlp/snli", None): tmp_path / "snli"}

    def load_dataset(path: str, name: str | None, split: str) -> datasets.Dataset:
        asked.add((path, name))
        return datasets.Dataset(pq.read_table(folders[path, name] / f"{split}.parquet"))

    def split_names(path: str, name: str | None) -> list[str]:
        return [file.stem for file in folders[path, name].iterdir()]

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    monkeypatch.setattr(datasets, "get_dataset_split_names", split_names)
    return asked


@pytest.fixture
def run(pretrained: Path, tmp_path: Path, tracker: Any, asked: set) -> Callable[[str], dict[str, Any]]:
    """Fine-tunes on some tasks for a few steps; the results by task."""

    def fine_tune(tasks: str) -> dict[str, Any]:
        config = FinetuneConfig(
            str(pretrained), tasks, str(tmp_path / "suite"), epochs=1, learning_rate=3e-3, batch_size=16, max_length=16,
            max_train_samples=48, speed=False,
        )  # fmt: skip
        return dict(zip(config.task_names, run_suite(config, tracker.open), strict=True))

    return fine_tune


def _card(suite: Path, task: str, output: Path) -> tuple[str, Any]:
    compress_model(CompressConfig(str(suite / task), str(output), depth=1, force=True))
    text = (output / "README.md").read_text()
    return re.sub(r"(?m)^\| (latency|sequences/s).*\n", "", text), ModelCard(text).data


def test_a_new_task_is_one_entry_and_leaves_glue_as_it_was(
    register: Callable[[], Task], run: Callable[[str], dict[str, Any]], asked: set, tmp_path: Path
) -> None:
    glue, suite = dict(GLUE_TASKS), tmp_path / "suite"
    sst2 = run("sst2")["sst2"]
    card, _ = _card(suite, "sst2", tmp_path / "small-before")
    average = glue_average({"sst2": sst2})
    assert asked == {("nyu-mll/glue", "sst2")}

    task = register()
    snli = run("sst2,snli")["snli"]
    assert asked == {("nyu-mll/glue", "sst2"), ("stanfordnlp/snli", None)}, "each from its own address"
    assert (snli.task, snli.metric, len(snli.depth_scores)) == ("snli", task.metric, 4)
    assert snli.train["steps"] == 3

    assert glue == GLUE_TASKS
    assert glue_average({"sst2": sst2, "snli": snli}) == average
    assert "snli" not in (average or {})["missing"]
    assert _card(suite, "sst2", tmp_path / "small-after")[0].replace("small-after", "small-before") == card
    runs = [Run(suite / name, "suite", results) for name, results in (("sst2", sst2), ("snli", snli))]
    rte = Run(suite / "rte", "suite", replace(sst2, task="rte"))
    table = glue_table([*runs, rte])
    assert table is not None
    assert table == glue_table([runs[0], rte])
    assert "snli" not in table.columns


def test_the_card_of_a_new_task_names_its_own_address(
    register: Callable[[], Task], run: Callable[[str], dict[str, Any]], tmp_path: Path
) -> None:
    register()
    run("snli")
    text, data = _card(tmp_path / "suite", "snli", tmp_path / "small")
    (score,) = data.eval_results
    assert data.datasets == ["stanfordnlp/snli"]
    assert (score.dataset_type, score.dataset_name, score.dataset_config) == ("stanfordnlp/snli", "snli", None)
    assert "GLUE" not in text


def test_a_task_without_an_address_says_that_it_needs_a_local_folder(
    register: Callable[[], Task], run: Callable[[str], dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(TASKS, "snli", replace(register(), hub_dataset=None))
    with pytest.raises(ValueError, match=r"snli has no address on the Hub: give the local folder .* --glue_dir"):
        run("snli")
