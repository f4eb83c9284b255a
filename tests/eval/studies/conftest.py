"""A fine-tuned model that knows something, and what a study is given."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from eval import TASKS, FinetuneConfig, load_task, read_results, run_suite
from eval.models import load_tokenizer, read_model_config
from eval.studies.base import Context, TaskData
from eval.studies.registry import StudyConfig


@pytest.fixture(scope="session")
def finetuned(tmp_path_factory: pytest.TempPathFactory, pretrained: Path, glue_dir: Path, make_tracker: Any) -> Path:
    """OUTPUT/sst2 as `acn glue` leaves it."""
    output = tmp_path_factory.mktemp("suite")
    config = FinetuneConfig(
        model=str(pretrained),
        tasks="sst2",
        output=str(output),
        glue_dir=str(glue_dir),
        epochs=6,
        batch_size=16,
        learning_rate=3e-3,
        precision="fp32",  # the same on every processor
    )
    run_suite(config, make_tracker().open)
    assert read_results(output / "sst2").full_score > 0.8
    return output / "sst2"


@pytest.fixture
def make_context(finetuned: Path, glue_dir: Path, tmp_path: Path, tracker: Any) -> Callable[..., Context]:
    """A context of the fine-tuned model on sst2; keyword arguments are options."""

    def make(**overrides: Any) -> Context:
        values = {"studies": "lesion", "model": str(finetuned), "output": str(tmp_path / "out"), "batch_size": 16}
        values |= {"precision": "fp32"}
        options = StudyConfig(**values | {"glue_dir": str(glue_dir), "max_eval_samples": 24} | overrides)
        config = read_model_config(options.model)
        splits = load_task(TASKS["sst2"], str(glue_dir))
        data = TaskData(TASKS["sst2"], splits["train"], splits["validation"].select(range(options.max_eval_samples)))
        tokenizer = load_tokenizer(options.model, config)
        return Context(options, config, tokenizer, [data], read_results(finetuned), tracker)

    return make
