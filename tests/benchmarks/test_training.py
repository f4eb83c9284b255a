"""The comparison with Hugging Face Trainer compares like with like."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks.aims import same_losses
from benchmarks.contenders import Setting, blocks_dataset
from benchmarks.training import OURS, Job, difference, loss_curves, masked_rows
from data_pipeline import Manifest


@pytest.mark.parametrize(
    ("precision", "ours"),
    [
        ("fp32", {}),
        pytest.param("bf16", {}, marks=pytest.mark.slow),
        pytest.param("fp32", OURS, marks=pytest.mark.slow, id="as measured"),
    ],
)
def test_the_residual_twin_has_trainers_losses_on_the_same_batches(
    precision: str, ours: dict, prepared: Path, tmp_path: Path
) -> None:
    # two ranks with two micro-batches each, so that the averages over both are compared too
    setting = Setting(str(prepared), 16, 2, precision, micro_batch=4, global_batch=16, log_every=1)
    curves = loss_curves(Job(setting, rounds=1, turn=4, folder=str(tmp_path / "job"), ours=ours))
    assert [len(losses) for losses in curves.values()] == [4, 4]
    assert difference(curves) <= same_losses(precision).bound
    losses = curves["residual"]
    assert max(losses) - min(losses) > 2 * same_losses("fp32").bound * losses[0], "they should have learned something"


def test_trainer_gets_every_block_once_with_its_special_tokens_marked(prepared: Path) -> None:
    split = Manifest.load(prepared).split("train")
    rows = blocks_dataset(str(prepared)).with_format("numpy")
    assert len(rows) == split.blocks
    ids, special = rows[:]["input_ids"], rows[:]["special_tokens_mask"]
    vocabulary = Manifest.load(prepared).tokenizer
    assert (special[:, 0] == 1).all()
    assert ((ids == vocabulary.cls_token_id) <= (special == 1)).all()
    assert special.mean() < 0.5


def test_bert_is_given_the_same_masks_as_the_run(prepared: Path) -> None:
    rows = masked_rows(str(prepared), 8)
    labels = np.stack([row["labels"].numpy() for row in rows])
    ids = np.stack([row["input_ids"].numpy() for row in rows])
    assert ((labels != -100).sum(axis=1) == (labels[0] != -100).sum()).all()
    changed = (labels != -100) & (ids != labels)
    assert 0.5 < changed.sum() / (labels != -100).sum() <= 1
