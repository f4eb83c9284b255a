"""One pass gives the accuracy of every depth, equal to evaluating each depth alone."""

import itertools
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch.nn import functional as F

from data_pipeline import Manifest, MaskingConfig, validation_batches
from data_pipeline.stream import validation_batch_count
from modeling import AcnConfig, AcnForMaskedLM
from pretrain.distil import Lessons
from pretrain.validate import spoken, validate_depths


@pytest.fixture
def one_rank(tmp_path):
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def test_packed_documents_are_scored_as_if_each_were_alone(packed, one_rank):
    manifest = Manifest.load(packed)
    torch.manual_seed(0)
    config = AcnConfig(
        vocab_size=manifest.tokenizer.vocab_size, hidden_size=16, num_hidden_layers=2, num_attention_heads=2,
        initializer_range=0.5,
    )  # fmt: skip
    model = AcnForMaskedLM(config).eval()

    def packed_batches():
        return validation_batches(packed, MaskingConfig(), batch_size=4, max_blocks=8, rank=0, world_size=1)

    metrics = validate_depths(model, packed_batches(), Lessons(torch.device("cpu")))
    loss = count = 0
    for batch in packed_batches():
        for row, positions, labels in zip(batch.input_ids, batch.masked_positions, batch.labels, strict=True):
            starts = (row == manifest.tokenizer.cls_token_id).nonzero().flatten().tolist()
            assert len(starts) > 1, "the blocks hold several documents"
            padding = (row == manifest.tokenizer.pad_token_id).nonzero().flatten().tolist()
            for begin, end in itertools.pairwise([*starts, padding[0] if padding else len(row)]):
                logits = model(row[None, begin:end]).logits[0]
                for position, label in zip(positions.tolist(), labels.tolist(), strict=True):
                    if label != -100 and begin <= position < end:
                        loss += F.cross_entropy(logits[position - begin], torch.tensor(label)).item()
                        count += 1
    assert metrics["validation/loss"] == pytest.approx(loss / count, rel=1e-5)


def batches(prepared: Path, size: int):
    return validation_batches(prepared, MaskingConfig(), batch_size=size, max_blocks=13, rank=0, world_size=1)


def test_validation_equals_the_naive_evaluation_of_each_depth(prepared, one_rank):
    torch.manual_seed(0)
    vocabulary = Manifest.load(prepared).tokenizer.vocab_size
    config = AcnConfig(
        vocab_size=vocabulary, hidden_size=16, num_hidden_layers=3, num_attention_heads=2, initializer_range=0.5
    )
    model = AcnForMaskedLM(config).eval()
    metrics = validate_depths(model, batches(prepared, 4), Lessons(torch.device("cpu")))
    for depth in range(4):
        correct = count = 0
        loss = 0.0
        for batch in batches(prepared, 13):
            dense = model(batch.input_ids, depth=depth).logits
            for row, (positions, labels) in enumerate(zip(batch.masked_positions, batch.labels, strict=True)):
                for position, label in zip(positions.tolist(), labels.tolist(), strict=True):
                    if label != -100:
                        scores = dense[row, position]
                        correct += int(scores.argmax() == label)
                        loss += F.cross_entropy(scores, torch.tensor(label)).item()
                        count += 1
        assert metrics[f"validation/accuracy_depth_{depth:02d}"] == pytest.approx(correct / count)
    assert metrics["validation/accuracy"] == pytest.approx(correct / count)
    assert metrics["validation/loss"] == pytest.approx(loss / count, rel=1e-5)


def test_a_long_validation_says_how_far_it_is_and_a_short_one_nothing():
    lines: list[str] = []
    ticks = itertools.count(0, 4)  # a batch takes four seconds
    passed = list(spoken(["a", "b", "c", "d", "e", "f", "g"], 7, lines.append, clock=lambda: next(ticks)))
    assert passed == ["a", "b", "c", "d", "e", "f", "g"]
    assert lines == ["validating: 2 of 7 batches, 30s left", "validating: 5 of 7 batches, 10s left"]
    lines.clear()
    assert list(spoken(["a", "b"], 2, lines.append, clock=lambda: 1.0)) == ["a", "b"]
    assert lines == []


@pytest.mark.parametrize(("size", "world"), [(4, 1), (5, 2), (13, 3), (1, 4)])
def test_every_rank_gets_as_many_batches_as_are_counted(prepared, size, world):
    for rank in range(world):
        found = list(validation_batches(prepared, MaskingConfig(), size, 13, rank, world))
        assert len(found) == validation_batch_count(13, size, world)
