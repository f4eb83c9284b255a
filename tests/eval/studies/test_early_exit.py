"""Early exit against the model stopped at the same depth, row by row."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats
from torch.utils.flop_counter import FlopCounterMode

from eval import TASKS
from eval.depth import DepthSweep
from eval.studies.early_exit import (
    EarlyExitOptions,
    Exits,
    exit_depths,
    exit_early,
    exit_flops,
    leave_below,
    make_leave,
    thresholds_of,
    uncertainty,
    weighted_depth_loss,
)
from modeling import AcnForSequenceClassification

MakeClassifier = Callable[..., AcnForSequenceClassification]
FAMILY: list[dict[str, Any]] = [
    {"connectivity": "acn"},
    {"connectivity": "residual", "attn_implementation": "eager"},
    {"connectivity": "hybrid", "hybrid_init": 0.5, "position_embedding_type": "rope"},
]


def _inputs(rows: int = 7, length: int = 11) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(5, 20, (rows, length), generator=generator)
    lengths = torch.randint(2, length + 1, (rows, 1), generator=generator)
    mask = (torch.arange(length) < lengths).long()
    return {"input_ids": ids * mask, "attention_mask": mask, "token_type_ids": ids % 2 * mask}


def _row(inputs: dict[str, torch.Tensor], row: int) -> dict[str, torch.Tensor]:
    return {name: value[row : row + 1] for name, value in inputs.items()}


@pytest.mark.parametrize("overrides", FAMILY)
def test_a_row_gets_exactly_the_prediction_of_the_depth_it_stopped_at(
    classifier: MakeClassifier, overrides: dict[str, Any]
) -> None:
    model, inputs = classifier(num_labels=3, **overrides), _inputs()
    stop = torch.tensor([1, 3, 2, 1, 3, 2, 1])
    logits, depths = exit_early(model, inputs, lambda depth, logits, rows: stop[rows] == depth)
    assert depths.tolist() == stop.tolist()
    with torch.no_grad():
        for row, depth in enumerate(stop.tolist()):
            whole_batch = model(**inputs, depth=depth).logits[row]
            alone = model(**_row(inputs, row), depth=depth).logits[0]
            torch.testing.assert_close(logits[row], whole_batch, atol=1e-6, rtol=1e-5)
            torch.testing.assert_close(logits[row], alone, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("overrides", FAMILY)
@pytest.mark.parametrize("criterion", ["entropy", "confidence"])
def test_threshold_0_is_the_full_model_and_above_1_stops_at_once(
    classifier: MakeClassifier, overrides: dict[str, Any], criterion: str
) -> None:
    model, inputs = classifier(**overrides), _inputs()
    logits, depths = exit_early(model, inputs, leave_below(0.0, criterion))
    with torch.no_grad():
        assert torch.equal(logits, model(**inputs).logits)
        assert depths.tolist() == [3] * 7
        logits, depths = exit_early(model, inputs, leave_below(1.1, criterion))
        assert torch.equal(logits, model(**inputs, depth=1).logits)
    assert depths.tolist() == [1] * 7


def test_layers_compute_only_the_rows_that_are_still_in(classifier: MakeClassifier) -> None:
    model, sizes = classifier(), []
    for layer in model.acn.layers:
        layer.register_forward_hook(lambda module, args, output: sizes.append(len(output)))
    stop = torch.tensor([1, 2, 1, 1, 2])
    exit_early(model, _inputs(5), lambda depth, logits, rows: stop[rows] == depth)
    assert sizes == [5, 2]  # and the third layer never runs


def test_a_model_without_layers_answers_from_the_embeddings(classifier: MakeClassifier) -> None:
    model, inputs = classifier(num_hidden_layers=0), _inputs()
    logits, depths = exit_early(model, inputs, leave_below(1.0, "entropy"))
    with torch.no_grad():
        assert torch.equal(logits, model(**inputs).logits)
    assert not depths.any()


@pytest.mark.parametrize("criterion", ["entropy", "confidence"])
@pytest.mark.parametrize("threshold", [0.0, 0.3, 0.7, 0.9, 1.0])
def test_the_depths_read_off_a_sweep_are_those_that_running_gives(
    classifier: MakeClassifier, criterion: str, threshold: float
) -> None:
    model, inputs = classifier(), _inputs(40)
    with torch.no_grad():
        sweep = torch.stack(list(model.depth_logits(**inputs))).numpy()
    logits, depths = exit_early(model, inputs, leave_below(threshold, criterion))
    expected = exit_depths(sweep, threshold, criterion)
    assert depths.tolist() == expected.tolist()
    np.testing.assert_allclose(logits.numpy(), sweep[expected, np.arange(40)], atol=1e-6)


@pytest.mark.parametrize("patience", [1, 2, 3])
def test_patience_counts_the_depths_that_answer_as_the_one_before(classifier: MakeClassifier, patience: int) -> None:
    model, inputs = classifier(num_labels=3, num_hidden_layers=6, initializer_range=1.0), _inputs(40)
    with torch.no_grad():
        sweep = torch.stack(list(model.depth_logits(**inputs))).numpy()
    expected = []
    for answers in sweep.argmax(-1).T:
        depth, agreed = 1, 0
        while depth < 6 and agreed < patience:
            depth += 1
            agreed = agreed + 1 if answers[depth] == answers[depth - 1] else 0
        expected.append(depth)
    assert len(set(expected)) > 1, "the case is not trivial"
    rule = make_leave(patience, "patience")
    for _ in range(2):  # nothing is left of the batch before
        logits, depths = exit_early(model, inputs, rule)
        assert depths.tolist() == expected
    assert exit_depths(sweep, patience, "patience").tolist() == expected
    np.testing.assert_allclose(logits.numpy(), sweep[expected, np.arange(40)], atol=1e-5)
    never, *_, eager = thresholds_of("patience", [], 6)
    assert (exit_depths(sweep, never, "patience") == 6).all()
    assert exit_depths(sweep, eager, "patience").min() == 2


@given(hnp.arrays(np.float32, (6, 4), elements=st.floats(-30, 30, width=32)))
def test_uncertainty_is_scipys_entropy_or_one_minus_the_largest_probability(logits: np.ndarray) -> None:
    p = np.exp(logits.astype(np.float64) - logits.max(1, keepdims=True).astype(np.float64))
    p /= p.sum(1, keepdims=True)
    entropy = uncertainty(torch.from_numpy(logits), "entropy").numpy()
    np.testing.assert_allclose(entropy, stats.entropy(p, axis=1) / math.log(4), atol=1e-5)
    confidence = uncertainty(torch.from_numpy(logits), "confidence").numpy()
    np.testing.assert_allclose(confidence, 1 - p.max(1), atol=1e-5)
    assert entropy.min() >= 0
    assert entropy.max() <= 1


def test_flops_are_what_torch_counts_while_exiting(classifier: MakeClassifier) -> None:
    model = classifier(attn_implementation="eager")
    inputs = {"input_ids": torch.full((1, 9), 6), "attention_mask": torch.ones(1, 9, dtype=torch.long)}
    for stop in (1, 2, 3):
        with FlopCounterMode(display=False) as counter:
            exit_early(model, inputs, lambda depth, logits, rows, stop=stop: torch.tensor([depth == stop]))
        assert exit_flops(model.config, np.array([9]), np.array([stop])).tolist() == [counter.get_total_flops()]


def _exits(certainties: list[list[float]], labels: list[int]) -> Exits:
    """By depth and example, p(class 1)."""
    p = np.array(certainties, dtype=np.float32)
    logits = np.stack([np.log(1 - p), np.log(p)], axis=-1)
    config = AcnForSequenceClassification.config_class(num_hidden_layers=len(p) - 1)
    lengths = np.full(len(labels), 8)
    metrics = [{"accuracy": float(np.mean((row > 0.5) == np.array(labels)))} for row in p]
    return Exits(TASKS["sst2"], config, DepthSweep(logits, p > 0.5, metrics), np.array(labels), lengths)


def test_the_threshold_picked_is_the_largest_that_keeps_the_score() -> None:
    # example 0 is right and sure at once; 1 is wrong at depth 1, where it is not so sure, and right at depth 2
    exits = _exits([[0.5, 0.5], [0.99, 0.3], [0.99, 0.9]], [1, 1])
    both = np.array([0, 1])
    thresholds = [0.0, 0.1, 0.2, 0.5, 0.9]  # 1 - 0.7 = 0.3: example 1 leaves wrong from 0.5 on
    assert exits.pick(thresholds, "confidence", 0.0, both) == 0.2
    assert exits.pick(thresholds, "confidence", 0.5, both) == 0.9
    at = exits.at(0.2, "confidence", both)
    assert (at.score, at.depth) == (1.0, 1.5)
    assert exits.at(0.2, "confidence", np.array([1])).depth == 2
    assert exits.cut(2).flops == 1.0
    assert 0.4 < exits.cut(1).flops < 0.6


def test_the_loss_at_every_depth_weighs_each_by_its_depth(classifier: MakeClassifier) -> None:
    inputs = _inputs() | {"labels": torch.tensor([0, 1, 1, 0, 1, 0, 0])}
    expected = sum(
        weight * classifier().truncate(k)(**inputs).loss for k, weight in ((1, 1 / 6), (2, 2 / 6), (3, 3 / 6))
    )
    torch.testing.assert_close(weighted_depth_loss(classifier(), inputs), expected)


def test_bad_options_are_named_all_at_once() -> None:
    options = EarlyExitOptions(criteria="doubt", thresholds="0,2", tolerance=-1, latency_rounds=0)
    assert [problem.field for problem in options.problems()] == [
        "early_exit.thresholds",
        "early_exit.criteria",
        "early_exit.tolerance",
        "early_exit.latency_rounds",
    ]
    assert EarlyExitOptions().problems() == []
