"""Fine-tuning without padding is fine-tuning with it, by way of rows that hold a whole batch."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import DataCollatorWithPadding

from eval import FinetuneConfig, run_suite
from eval.glue.flat import FlatCollator, flash_works, pads_nothing
from eval.models import load_tokenizer, read_model_config
from modeling import AcnForSequenceClassification

ROWS = [
    {"input_ids": [2, 7, 9, 3], "token_type_ids": [0, 0, 1, 1], "attention_mask": [1] * 4, "labels": 1},
    {"input_ids": [2, 8, 3], "token_type_ids": [0, 0, 0], "attention_mask": [1] * 3, "labels": 0},
    {"input_ids": [2, 7, 8, 9, 10, 3], "token_type_ids": [0, 0, 0, 1, 1, 1], "attention_mask": [1] * 6, "labels": 1},
]


def test_a_flat_batch_has_the_scores_of_a_padded_one(pretrained: Path) -> None:
    model = AcnForSequenceClassification.from_pretrained(pretrained).double().eval()
    tokenizer = load_tokenizer(str(pretrained), read_model_config(str(pretrained)))
    padded, flat = DataCollatorWithPadding(tokenizer)(ROWS), FlatCollator()(ROWS)
    assert padded["input_ids"].shape == (3, 6)
    assert flat["input_ids"].shape == (1, 13)
    assert flat["labels"].tolist() == [1, 0, 1]
    assert flat["max_length_q"] == 6
    one, other = model(**padded), model(**flat)
    torch.testing.assert_close(one.logits, other.logits, atol=1e-12, rtol=0)
    torch.testing.assert_close(one.loss, other.loss, atol=1e-12, rtol=0)


@pytest.mark.parametrize("task", ["sst2", "stsb"])
def test_fine_tuning_on_flat_batches_comes_to_the_same(
    pretrained: Path, glue_dir: Path, tmp_path: Path, make_tracker: type, task: str
) -> None:
    """A text and its class, two texts and a number; through the Trainer, in the order that groups texts by length."""
    config = FinetuneConfig(
        model=str(pretrained), tasks=task, output="", glue_dir=str(glue_dir), epochs=2, learning_rate=1e-3,
        batch_size=8, max_length=16, max_train_samples=48, max_eval_samples=16, precision="fp32", speed=False,
    )  # fmt: skip
    found = {}
    for flat in (True, False):
        output = tmp_path / str(flat)
        (results,) = run_suite(replace(config, output=str(output), padding_free=flat), make_tracker().open)
        assert results.train["padding_free"] is flat
        assert results.train["steps"] == 12
        found[flat] = [results.train["mean_loss"], *results.depth_scores]
    # not the weights: what has no gradient, as the biases of keys, follows Adam's share of the rounding
    assert found[True] == pytest.approx(found[False], rel=1e-3, abs=1e-3)


@pytest.mark.parametrize(
    ("installed", "precision", "used"), [(True, "bf16", True), (True, "fp32", False), (False, "bf16", False)]
)
def test_it_is_done_by_itself_where_flash_attention_works(
    monkeypatch: pytest.MonkeyPatch, installed: bool, precision: str, used: bool
) -> None:
    monkeypatch.setattr("eval.glue.flat.is_flash_attn_2_available", lambda: installed)
    assert flash_works(precision) is used
    assert pads_nothing("auto", precision) is used
    assert (pads_nothing(True, precision), pads_nothing(False, precision)) == (True, False)
