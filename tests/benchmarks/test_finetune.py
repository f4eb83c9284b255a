"""The comparison of fine-tuning with Trainer and BERT compares like with like."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from transformers import TrainingArguments

from benchmarks.aims import finetune_losses
from benchmarks.finetune import (
    ACN,
    BY_DEFAULT,
    EQUAL,
    QUICK,
    RESIDUAL,
    case_row,
    contenders,
    difference,
    prepare_bench,
)
from benchmarks.finetune_jobs import TASK, Bench, Contender, Found, take_turns, training_arguments
from benchmarks.finetune_reading import EXAMPLES, Reading
from benchmarks.sst2 import SPLITS, STAND_IN, WORDS, tokenizer_of, write_task

ROUNDS = 2


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """A sixteenth of the stand-in, and models of two layers."""
    return prepare_bench(tmp_path_factory.mktemp("bench"), QUICK, None, quick=True)[0]


def named(*names: str) -> list[Contender]:
    """Of those in fp32, with two steps a turn."""
    return [who for who in contenders("fp32", 2) if who.name in names]


@pytest.fixture(scope="module")
def found(bench: Bench) -> dict[str, Found]:
    """What our residual twin and Trainer with BERT did in turns."""
    return take_turns(bench, named(RESIDUAL, EQUAL), ROUNDS)


def test_the_residual_twin_has_trainers_losses_on_the_same_batches(found: dict[str, Found]) -> None:
    assert [len(one.losses) for one in found.values()] == [1 + 2 * ROUNDS] * 2
    assert difference(found) <= finetune_losses("fp32").bound
    losses = found[RESIDUAL].losses
    assert max(losses) - min(losses) > 2 * finetune_losses("fp32").bound * losses[0], "they should have learned"


def test_getting_ready_every_turn_and_the_end_are_timed(found: dict[str, Found]) -> None:
    for one in found.values():
        assert len(one.seconds) == 1 + ROUNDS + 1
        assert min(one.seconds) > 0


def test_a_whole_fine_tuning_is_what_is_around_and_its_steps_at_their_mean(bench: Bench) -> None:
    (acn,) = named(ACN)
    row = case_row(bench, acn, Found([5.0, 1.0, 3.0, 7.0], []))
    assert row["step_seconds"] == 1.0  # of two turns of two steps
    assert row["around_seconds"] == 12.0
    assert bench.whole == 3 * bench.epoch
    assert row["whole_seconds"] == 12.0 + bench.whole - 1


def test_run_glue_py_by_default_is_padded_and_fp32_beside_contenders_of_any_precision(bench: Bench) -> None:
    assert {who.precision for who in contenders("bf16", 2) if who.name != BY_DEFAULT} == {"bf16"}
    default = next(who for who in contenders("bf16", 2) if who.name == BY_DEFAULT)
    assert default.pad_to_max_length
    arguments = training_arguments(bench, default, steps=9)
    assert not arguments.bf16
    assert arguments.train_sampling_strategy == "random"
    assert arguments.per_device_eval_batch_size == TrainingArguments("unused").per_device_eval_batch_size
    assert arguments.learning_rate == bench.values.learning_rate


def test_a_contender_that_fails_is_named(bench: Bench, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="Trainer and BERT, equal"):
        take_turns(replace(bench, folder=tmp_path), named(EQUAL), 1)


def test_the_sweep_and_the_study_say_the_same_as_the_truncated_berts(bench: Bench, found: dict[str, Found]) -> None:
    (twin,) = named(RESIDUAL)
    reading = Reading.of(bench, f"{bench.output(twin)}/{TASK}", "fp32", bench.folder)
    reading.check()
    assert len(reading.berts) == QUICK.layers + 1
    assert len(reading.data) == min(EXAMPLES, SPLITS["validation"] // 16 + 1)
    whole = [curve["points"] for curve in reading.our_study()["curves"] if "cut at" not in curve["label"]][:2]
    by_hand = reading.their_study()[::2]  # the whole model's: clean, then by kind and strength
    assert [points[0]["mean"] for points in whole] == [by_hand[0]] * 2
    assert [point["mean"] for points in whole for point in points[1:]] == by_hand[1:]


@pytest.mark.parametrize("split", SPLITS)
def test_the_stand_in_has_as_many_sentences_as_long_as_those_of_sst2(split: str, tmp_path: Path) -> None:
    assert write_task(tmp_path, None) == STAND_IN
    table = pq.read_table(tmp_path / TASK / f"{split}.parquet")
    lengths = np.array([len(text.split()) for text in table["sentence"].to_pylist()])
    assert len(lengths) == SPLITS[split]
    assert np.abs(np.quantile(lengths, np.linspace(0, 1, 11)) - WORDS[split]).max() <= 1
    assert set(table["label"].to_pylist()) == {0, 1}


def test_the_real_task_is_read_where_it_is(tmp_path: Path) -> None:
    (tmp_path / "glue" / TASK).mkdir(parents=True)
    for split in SPLITS:
        texts = [f"text {i}" for i in range(6000)]
        columns = {"sentence": texts, "label": [0, 1] * 3000, "idx": list(range(6000))}
        pq.write_table(pa.table(columns), tmp_path / "glue" / TASK / f"{split}.parquet")
    assert write_task(tmp_path / "ours", tmp_path / "glue") == "SST-2"
    for split, size in SPLITS.items():
        rows = pq.read_table(tmp_path / "ours" / TASK / f"{split}.parquet")["sentence"].to_pylist()
        assert len(rows) == len(set(rows)) == size
        assert (rows[0], rows[-1]) == ("text 0", "text 5999")


def test_a_tokenizer_of_the_words_cuts_none_that_it_has_seen(tmp_path: Path) -> None:
    write_task(tmp_path, None, divisor=50)
    tokenizer = tokenizer_of(tmp_path / TASK)
    for text in pq.read_table(tmp_path / TASK / "train.parquet")["sentence"].to_pylist():
        tokens = tokenizer(text)["input_ids"]
        assert tokenizer.convert_ids_to_tokens(tokens) == ["[CLS]", *text.split(), "[SEP]"]
    assert json.loads(tokenizer.backend_tokenizer.to_str())["model"]["type"] == "WordPiece"
