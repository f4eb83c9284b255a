"""Magnitude and movement pruning by hand, and shrunken matrices against masked ones."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from eval.studies.base import Context
from eval.studies.pruning import MovementPruning, PruningOptions, prunable, prune_by_magnitude, remaining, run
from eval.studies.structured import Importance, gradient_importance, magnitude_importance, shrink
from eval.studies.training import fit
from modeling import AcnForSequenceClassification

MakeClassifier = Callable[..., AcnForSequenceClassification]
IDS = torch.tensor([[2, 7, 9, 12, 3], [2, 6, 15, 8, 3]])
MASK = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]])
BATCH = {"input_ids": IDS, "attention_mask": MASK, "labels": torch.tensor([0, 1])}


def test_magnitude_pruning_removes_the_smallest_weights_of_all_matrices_together(classifier: MakeClassifier) -> None:
    model, intact = classifier(), classifier()
    prune_by_magnitude(model, 0.7)
    before = np.concatenate([m.weight.detach().numpy().ravel() for m in prunable(intact)])
    after = np.concatenate([m.weight.detach().numpy().ravel() for m in prunable(model)])
    threshold = np.quantile(np.abs(before), 0.7)
    np.testing.assert_array_equal(after, np.where(np.abs(before) > threshold, before, 0))
    assert remaining(model) == round(0.3 * len(before))
    assert torch.equal(model.classifier.weight, intact.classifier.weight)
    assert torch.equal(model.acn.embeddings.word_embeddings.weight, intact.acn.embeddings.word_embeddings.weight)
    assert model.state_dict().keys() == intact.state_dict().keys(), "the pruned model is an ordinary one"


def test_nothing_is_pruned_at_sparsity_0_or_from_a_model_without_layers(classifier: MakeClassifier) -> None:
    model = classifier()
    prune_by_magnitude(model, 0.0)
    assert torch.equal(model(IDS).logits, classifier()(IDS).logits)
    empty = classifier(num_hidden_layers=0)
    prune_by_magnitude(empty, 0.5)
    assert remaining(empty) == 0


def test_movement_pruning_by_hand() -> None:
    """Two steps on w = (1, -2, 3, -4); scores -w g: step 1 (-1, -2, 3, 0), step 2 (-1, 4, 3, -4)."""
    linear = nn.Linear(2, 2, bias=False)
    with torch.no_grad():
        linear.weight.copy_(torch.tensor([[1.0, -2.0], [3.0, -4.0]]))
    pruning = MovementPruning([linear], rate=0.5, steps_per_epoch=4)
    for gradient in ([[1.0, -1.0], [-1.0, 0.0]], [[1.0, 2.0], [-1.0, -1.0]]):
        linear.weight.grad = torch.tensor(gradient)
        pruning.accumulate()
    assert pruning.scores[0].tolist() == [[-2.0, 2.0], [6.0, -4.0]]
    pruning.prune_to(0.75)
    assert linear.weight.tolist() == [[1.0, -2.0], [3.0, 0.0]], "-4 is the largest, but it moves towards zero"
    pruning.prune_to(0.5)
    assert linear.weight.tolist() == [[0.0, -2.0], [3.0, 0.0]]
    pruning.scores[0].fill_(9.0)
    pruning.scores[0][0, 1] = -9.0
    pruning.prune_to(0.25)
    assert linear.weight.tolist() == [[0.0, 0.0], [3.0, 0.0]], "what is gone stays so, whatever its score becomes"
    with torch.no_grad():
        linear.weight.add_(1.0)
    pruning.apply()
    assert linear.weight.tolist() == [[0.0, 0.0], [4.0, 0.0]]


@pytest.mark.parametrize(("rate", "samples"), [(0.2, 40), (0.4, 100)])
def test_each_epoch_removes_its_share_of_what_it_starts_with(
    make_context: Callable[..., Context], classifier: MakeClassifier, rate: float, samples: int
) -> None:
    context = make_context(max_train_samples=samples, epochs=2.0, batch_size=8)
    model, data = classifier(), context.train_samples(context.only, 1)
    total, steps = remaining(model), -(-samples // 8)
    pruning, seen = MovementPruning(prunable(model), rate, steps), []
    apply = pruning.on_optimizer_step

    def watch(*args: Any, **kwargs: Any) -> None:
        apply(*args, **kwargs)
        seen.append(remaining(model) / total)

    pruning.on_optimizer_step = watch  # type: ignore[method-assign]
    fit(context, model, data, 1, "test", [pruning])
    assert len(seen) == 2 * steps
    assert seen == sorted(seen, reverse=True)
    assert seen[steps - 1] == pytest.approx(1 - rate, abs=1e-3)
    assert seen[-1] == pytest.approx((1 - rate) ** 2, abs=1e-3)
    assert seen[steps // 2 - 1] == 1, "scores gather for half an epoch"
    assert 1 - rate < seen[steps - 2] < 1, "then they go gradually"


@pytest.mark.parametrize(
    "overrides", [{}, {"connectivity": "residual", "gated_mlp": True}, {"position_embedding_type": "rope"}]
)
def test_a_shrunken_model_computes_what_the_whole_one_does_without_these_heads_and_neurons(
    classifier: MakeClassifier, tmp_path: Path, overrides: dict[str, Any]
) -> None:
    overrides |= {"num_attention_heads": 4}
    model, masked = classifier(**overrides), classifier(**overrides)
    generator = torch.Generator().manual_seed(5)
    importance = Importance(
        [torch.rand(4, generator=generator) for _ in range(3)], [torch.rand(64, generator=generator) for _ in range(3)]
    )
    shrink(model, 0.5, importance)
    for layer, heads, neurons in zip(masked.acn.layers, importance.heads, importance.neurons, strict=True):
        with torch.no_grad():
            for head in heads.argsort()[:2].tolist():
                layer.attention.out_proj.weight[:, head * 8 : head * 8 + 8] = 0
            layer.mlp.down_proj.weight[:, neurons.argsort()[:32]] = 0
    inputs = {"input_ids": IDS, "attention_mask": MASK}
    expected = masked(**inputs).logits
    torch.testing.assert_close(model(**inputs).logits, expected, atol=1e-5, rtol=1e-4)
    assert remaining(model) * 2 == sum(m.weight.numel() for m in prunable(masked))
    model.save_pretrained(tmp_path / "small")
    again = AcnForSequenceClassification.from_pretrained(tmp_path / "small")
    assert torch.equal(again(**inputs).logits, model(**inputs).logits)
    assert (again.config.num_attention_heads, again.config.head_dim, again.config.intermediate_size) == (2, 8, 32)


def test_removing_no_share_is_the_model_and_removing_all_leaves_one_of_each(classifier: MakeClassifier) -> None:
    model = classifier()
    shrink(model, 0.0, magnitude_importance(model))
    torch.testing.assert_close(model(IDS).logits, classifier()(IDS).logits)
    shrink(model, 1.0, magnitude_importance(model))
    assert (model.config.num_attention_heads, model.config.intermediate_size) == (1, 1)
    assert model(IDS).logits.isfinite().all()


def test_gradient_importance_is_the_slope_of_the_loss_in_a_gate_on_the_unit(classifier: MakeClassifier) -> None:
    model = classifier().double()
    importance = gradient_importance(model, [BATCH])
    step = 1e-5

    def slope(columns: slice, weight: torch.Tensor) -> float:
        losses = []
        for gate in (1 + step, 1 - step):
            with torch.no_grad():
                intact = weight.clone()
                weight[:, columns] *= gate
                losses.append(model(**BATCH).loss.item())
                weight.copy_(intact)
        return abs(losses[0] - losses[1]) / (2 * step)

    layer = model.acn.layers[1]
    for head in (0, 1):
        expected = slope(slice(16 * head, 16 * head + 16), layer.attention.out_proj.weight)
        assert importance.heads[1][head].item() == pytest.approx(expected, rel=1e-4)
    expected = slope(slice(3, 4), layer.mlp.down_proj.weight)
    assert importance.neurons[1][3].item() == pytest.approx(expected, rel=1e-4)


def test_magnitude_importance_is_the_norm_of_the_weights_that_read_a_unit(classifier: MakeClassifier) -> None:
    model = classifier()
    weight = model.acn.layers[0].attention.out_proj.weight
    assert magnitude_importance(model).heads[0][1].item() == pytest.approx(weight[:, 16:].norm().item())


def test_the_study_has_a_curve_per_method_for_the_whole_and_the_cut_model(
    make_context: Callable[..., Context],
) -> None:
    context = make_context(max_train_samples=32, epochs=1.0, seeds="1,2")
    study = run(context, PruningOptions(sparsities="0.5", movement_rates="0.4", movement_epochs=1, depth=2))
    shapes = {curve.label: [round(point.x, 2) for point in curve.points] for curve in study.curves}
    assert shapes == {
        "magnitude, 3 layers": [1.0, 0.5],
        "movement, 40% an epoch, 3 layers": [1.0, 0.6],
        "heads and neurons by gradient, 3 layers": [1.0, 0.5],
        "magnitude, 2 layers": [0.67, 0.33],
        "movement, 40% an epoch, 2 layers": [0.67, 0.4],
        "heads and neurons by gradient, 2 layers": [0.67, 0.33],
    }
    assert [len(curve.points[1].values) for curve in study.curves] == [1, 2, 2, 1, 2, 2]
