"""The one-pass sweep against truncated copies, the cut depth, and FLOPs against torch's counter."""

from collections.abc import Callable
from typing import Any

import datasets
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode
from transformers import DataCollatorWithPadding

from eval import TASKS, EvalError, compute_metrics, cut_depth, depth_sweep, flops_by_depth
from eval.depth import majority_score
from modeling import AcnForSequenceClassification

MakeClassifier = Callable[..., AcnForSequenceClassification]


def _examples(vocab_size: int, size: int, regression: bool = False) -> datasets.Dataset:
    rng = np.random.default_rng(3)
    ids = [[2, *rng.integers(5, vocab_size, rng.integers(1, 15)).tolist(), 3] for _ in range(size)]
    labels = rng.normal(size=size).tolist() if regression else rng.integers(0, 2, size).tolist()
    return datasets.Dataset.from_dict(
        {"input_ids": ids, "attention_mask": [[1] * len(i) for i in ids], "labels": labels}
    )


@pytest.mark.parametrize("connectivity", ["acn", "residual"])
@pytest.mark.parametrize("name", ["sst2", "stsb"])
def test_the_sweep_says_what_each_truncated_copy_says_about_each_example(
    classifier: MakeClassifier, tokenizer: Any, connectivity: str, name: str
) -> None:
    task = TASKS[name]
    overrides: dict[str, Any] = {"connectivity": connectivity, "num_labels": task.num_labels}
    model = classifier(**overrides)
    data = _examples(model.config.vocab_size, 21, task.is_regression)
    sweep = depth_sweep(model, data, task, DataCollatorWithPadding(tokenizer), batch_size=4)
    assert sweep.logits.shape == (4, 21, task.num_labels)
    assert sweep.predictions.shape == (4, 21)
    for depth in range(4):
        copy = classifier(**overrides).truncate(depth)
        naive = []
        for row in data:  # one by one, unpadded, in the order of the data
            with torch.no_grad():
                naive.append(copy(torch.tensor([row["input_ids"]])).logits[0].numpy())
        logits = np.stack(naive)
        np.testing.assert_allclose(sweep.logits[depth], logits, atol=1e-5)
        predictions = logits[:, 0] if task.is_regression else logits.argmax(-1)
        np.testing.assert_allclose(sweep.predictions[depth], predictions, atol=1e-5)
        expected = compute_metrics(task, sweep.predictions[depth], np.array(data["labels"]))
        assert sweep.metrics[depth] == expected
    assert sweep.scores(task.metric) == [by_name[task.metric] for by_name in sweep.metrics]


def test_depths_of_the_sweep_differ_so_that_the_comparison_means_something(
    classifier: MakeClassifier, tokenizer: Any
) -> None:
    model = classifier()
    sweep = depth_sweep(model, _examples(21, 30), TASKS["sst2"], DataCollatorWithPadding(tokenizer))
    for a in range(1, 4):
        for b in range(a):
            assert np.abs(sweep.logits[a] - sweep.logits[b]).max() > 1e-2
    np.testing.assert_allclose(sweep.logits[0], np.broadcast_to(sweep.logits[0][0], sweep.logits[0].shape), atol=1e-6)


def test_the_sweep_runs_the_encoder_once_per_batch_and_leaves_the_mode_alone(
    classifier: MakeClassifier, tokenizer: Any
) -> None:
    model = classifier(hidden_dropout_prob=0.5).train()
    calls: list[int] = []
    model.acn.layers[0].register_forward_hook(lambda module, args, output: calls.append(len(output)))
    data, collate = _examples(21, 10), DataCollatorWithPadding(tokenizer)
    first = depth_sweep(model, data, TASKS["sst2"], collate, batch_size=4)
    assert calls == [4, 4, 2]
    assert model.training
    np.testing.assert_array_equal(first.logits, depth_sweep(model, data, TASKS["sst2"], collate, batch_size=4).logits)


@pytest.mark.parametrize(
    ("scores", "tolerance", "depth"),
    [
        ([0.5, 0.7, 0.9, 0.9], 0.0, 2),
        ([0.5, 0.86, 0.865, 0.87], 0.005, 2),
        ([0.5, 0.7, 0.8, 0.9], 0.1, 2),
        ([0.9, 0.2, 0.9], 0.0, 0),
        ([0.1, 0.2, 0.3], 1.0, 0),
        ([0.9], 0.0, 0),
        ([0.3, 0.5, 0.8, 0.6], 0.005, 2),
    ],
)
def test_the_cut_depth_is_the_smallest_within_tolerance(scores: list[float], tolerance: float, depth: int) -> None:
    assert cut_depth(scores, scores[-1], tolerance) == depth


@given(st.lists(st.floats(-1, 1), min_size=1, max_size=14), st.floats(0, 2))
def test_the_cut_depth_satisfies_its_definition(scores: list[float], tolerance: float) -> None:
    depth = cut_depth(scores, scores[-1], tolerance)
    slack = 2e-9
    assert scores[depth] >= scores[-1] - tolerance - slack
    assert all(score < scores[-1] - tolerance for score in scores[:depth])


def test_a_negative_tolerance_or_an_unreachable_score_is_an_error() -> None:
    with pytest.raises(EvalError, match="tolerance"):
        cut_depth([0.5, 0.9], 0.9, -0.1)
    with pytest.raises(EvalError, match="no depth reaches"):
        cut_depth([0.5, 0.6], 0.9, 0.1)


@pytest.mark.parametrize("connectivity", ["acn", "residual"])
@pytest.mark.parametrize(("length", "labels"), [(7, 2), (16, 5)])
def test_flops_by_depth_equal_what_torch_counts(
    classifier: MakeClassifier, connectivity: str, length: int, labels: int
) -> None:
    model = classifier(connectivity=connectivity, num_labels=labels, attn_implementation="eager")
    ids = torch.full((1, length), 5)
    for depth, flops in enumerate(flops_by_depth(model, length)):
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            model(ids, attention_mask=torch.ones_like(ids), depth=depth)
        assert counter.get_total_flops() == flops


def test_the_majority_score_is_that_of_the_commonest_label() -> None:
    assert majority_score(TASKS["sst2"], np.array([1, 1, 0, 1])) == 0.75
    assert majority_score(TASKS["stsb"], np.array([1.0, 4.0, 2.0])) == 0.0
