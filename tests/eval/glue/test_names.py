"""From files to answers by name: whole suites whose splits write the same classes in different ways."""

import json
import random
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from eval import CompressConfig, EvalError, FinetuneConfig, compress_model, read_model_config, run_suite
from eval.tasks import DatasetConfig

WORDS = {"good": "yes", "bad": "no"}


def examples(size: int, seed: int) -> list[tuple[str, str]]:
    """Sentences of which one word decides the class."""
    draw = random.Random(seed)
    kinds = [draw.choice(list(WORDS)) for _ in range(size)]
    return [(f"the {kind} {draw.choice(['film', 'book', 'plot'])}", WORDS[kind]) for kind in kinds]


def write_rte(folder: Path, names: dict[str, list[str]], rows: dict[str, list[tuple[str, str]]]) -> None:
    """RTE as a mirror may have it: class ids by names in an order of its own."""
    means = {"yes": "entailment", "no": "not_entailment"}
    for split, found in rows.items():
        labels = [-1 if split == "test" else names[split].index(means[kind]) for _, kind in found]
        texts = [text for text, _ in found]
        columns = {"sentence1": texts, "sentence2": texts, "label": labels, "idx": list(range(len(found)))}
        features = {"label": {"names": names[split], "_type": "ClassLabel"}}
        table = pa.table(columns).replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
        (folder / "rte").mkdir(parents=True, exist_ok=True)
        pq.write_table(table, folder / "rte" / f"{split}.parquet")


@pytest.fixture
def config(pretrained: Path, tmp_path: Path) -> FinetuneConfig:
    return FinetuneConfig(
        str(pretrained), "rte", str(tmp_path / "out"), str(tmp_path / "data [v2]"), epochs=6, learning_rate=3e-3,
        batch_size=16, max_length=16, speed=False,
    )  # fmt: skip


def test_a_mirror_of_rte_in_another_order_is_answered_by_name(
    config: FinetuneConfig, tmp_path: Path, tracker: Any
) -> None:
    glues, others = ["entailment", "not_entailment"], ["not_entailment", "entailment"]
    rows = {"train": examples(96, 0), "validation": examples(32, 1), "test": examples(10, 2)}
    write_rte(Path(config.glue_dir or ""), {"train": others, "validation": glues, "test": others}, rows)
    (results,) = run_suite(config, tracker.open)
    assert results.full_score == 1.0
    assert read_model_config(str(tmp_path / "out" / "rte")).id2label == dict(enumerate(glues))
    _, *lines = (tmp_path / "out" / "submission" / "RTE.tsv").read_text().splitlines()
    answers = {"yes": "entailment", "no": "not_entailment"}
    assert lines == [f"{n}\t{answers[kind]}" for n, (_, kind) in enumerate(rows["test"])]
    small = compress_model(CompressConfig(str(tmp_path / "out" / "rte"), str(tmp_path / "small"), depth=3, force=True))
    assert small.checked_score == 1.0


def test_csv_labels_that_look_like_numbers_in_one_split_only(
    config: FinetuneConfig, tmp_path: Path, tracker: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    spelled = {"yes": "1", "no": "other"}
    for split, rows in (
        ("train", examples(96, 0)),
        ("validation", [row for row in examples(40, 1) if row[1] == "yes"]),
    ):
        lines = [f'"{text}, and more\nand a second line",{spelled[kind]}' for text, kind in rows]
        (tmp_path / f"{split}.csv").write_text("\n".join(["sentence,label", *lines]))
    config.tasks, config.glue_dir, config.max_length = "own", None, 8
    config.dataset = DatasetConfig(str(tmp_path))
    (results,) = run_suite(config, tracker.open)
    assert results.full_score == 1.0
    assert read_model_config(str(tmp_path / "out" / "own")).id2label == {0: "1", 1: "other"}

    # 3 words, a comma, 2 + 4 words, [CLS] and [SEP] make 12 tokens
    assert results.truncation is not None
    assert results.truncation["train"] == {"texts": 96, "cut_texts": 96, "tokens": 96 * 12, "cut_tokens": 96 * 4}
    said = capsys.readouterr().out
    assert "warning: own, train: max_length=8 cuts off 384 of 1152 tokens (33.3%), in 96 of 96 texts: raise" in said


def test_a_malformed_test_split_is_found_before_anything_is_trained(
    config: FinetuneConfig, tmp_path: Path, tracker: Any
) -> None:
    folder = tmp_path / "data [v2]" / "own"
    folder.mkdir(parents=True)
    for split in ("train", "validation"):
        (folder / f"{split}.csv").write_text("sentence,label\na,yes\nb,no\n")
    (folder / "test.csv").write_text("sentence,label\na,yes\nb\n")
    config.tasks = "own"
    with pytest.raises(EvalError, match=r"test\.csv, line 3 has 1 field, the header has 2"):
        run_suite(config, tracker.open)
    assert not (tmp_path / "out").exists()
