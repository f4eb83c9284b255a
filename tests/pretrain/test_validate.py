"""One pass gives the accuracy of every depth, equal to evaluating each depth alone."""

from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch.nn import functional as F

from data_pipeline import Manifest, MaskingConfig, validation_batches
from modeling import AcnConfig, AcnForMaskedLM
from pretrain.validate import validate


@pytest.fixture
def one_rank(tmp_path):
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def batches(prepared: Path, size: int):
    return validation_batches(prepared, MaskingConfig(), batch_size=size, max_blocks=13, rank=0, world_size=1)


def test_validation_equals_the_naive_evaluation_of_each_depth(prepared, one_rank):
    torch.manual_seed(0)
    vocabulary = Manifest.load(prepared).tokenizer.vocab_size
    config = AcnConfig(
        vocab_size=vocabulary, hidden_size=16, num_hidden_layers=3, num_attention_heads=2, initializer_range=0.5
    )
    model = AcnForMaskedLM(config).eval()
    metrics = validate(model, batches(prepared, 4), torch.device("cpu"))
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
