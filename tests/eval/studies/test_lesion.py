"""Lesions against models built without, with swapped or with repeated layers."""

from collections.abc import Callable

import pytest
import torch

from eval.studies.base import Context
from eval.studies.lesion import LesionOptions, lesioned, orders, run
from modeling import AcnForSequenceClassification

MakeClassifier = Callable[..., AcnForSequenceClassification]
IDS = torch.tensor([[2, 7, 9, 12, 3], [2, 6, 15, 8, 3]])


def test_the_orders_of_a_model_of_three_layers() -> None:
    assert orders("delete", 3) == {1: [1, 2], 2: [0, 2], 3: [0, 1]}
    assert orders("swap", 3) == {1: [1, 0, 2], 2: [0, 2, 1]}
    assert orders("repeat", 3) == {1: [0, 0, 1, 2], 2: [0, 1, 1, 2], 3: [0, 1, 2, 2]}


def _by_hand(model: AcnForSequenceClassification, order: list[int]) -> torch.Tensor:
    x = model.acn.embeddings(IDS, None, torch.arange(IDS.shape[1])[None])
    y = x
    for i in order:
        x = model.acn.layers[i](x)
        y = y + x if model.config.connectivity == "acn" else x
    return model.head_logits(y)


@torch.no_grad()
@pytest.mark.parametrize("connectivity", ["acn", "residual"])
@pytest.mark.parametrize("order", [[0, 1, 2], [0, 2], [1, 0, 2], [0, 1, 1, 2], []])
def test_a_lesioned_model_runs_these_layers_and_reads_them_out(
    classifier: MakeClassifier, connectivity: str, order: list[int]
) -> None:
    model = classifier(connectivity=connectivity)
    intact = model(IDS).logits
    with lesioned(model, order):
        torch.testing.assert_close(model(IDS).logits, _by_hand(classifier(connectivity=connectivity), order))
    assert torch.equal(model(IDS).logits, intact), "the lesion heals"
    assert model.config.num_hidden_layers == 3


@torch.no_grad()
def test_a_lesion_of_nothing_is_the_model_and_deleting_the_last_layer_the_cut_one(classifier: MakeClassifier) -> None:
    model = classifier()
    intact, cut = model(IDS).logits, model(IDS, depth=2).logits
    with lesioned(model, [0, 1, 2]):
        assert torch.equal(model(IDS).logits, intact)
    with lesioned(model, orders("delete", 3)[3]):
        assert torch.equal(model(IDS).logits, cut)


def test_damage_is_the_score_lost(make_context: Callable[..., Context]) -> None:
    study = run(make_context(), LesionOptions(kinds="delete,swap"))
    assert [(curve.label, [point.x for point in curve.points]) for curve in study.curves] == [
        ("delete", [1, 2, 3]),
        ("swap", [1, 2]),
    ]
    full = study.curves[0].reference
    assert full is not None
    for layer, damage in enumerate(row[1] for row in study.rows):
        assert damage == pytest.approx(full - study.curves[0].points[layer].values[0])
    assert study.rows[2][2] is None, "the last layer has no next one to be swapped with"
