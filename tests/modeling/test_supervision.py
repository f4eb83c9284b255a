"""Depth supervision: the weights of every kind, and the loss that they make, against the definitions in float64."""

from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from modeling import CONNECTIVITIES, AcnForSequenceClassification, DepthSupervision, supervised_loss

LAYERS = 4


def answer(logits, labels):
    return SimpleNamespace(loss=F.cross_entropy(logits, labels), logits=logits)


def losses_by_depth(model, ids, labels):
    """Numpy's cross-entropy of every depth, and the log-probabilities."""
    found, answers = [], []
    for logits in model.depth_logits(input_ids=ids):
        x = logits.detach().double().numpy()
        answers.append(x - np.log(np.exp(x).sum(-1, keepdims=True)))
        found.append(-answers[-1][np.arange(len(labels)), labels.numpy()].mean())
    return np.array(found), answers


@pytest.mark.parametrize("connectivity", CONNECTIVITIES)
@pytest.mark.parametrize("kind", ["deep", "adaptive", "layerskip"])
def test_the_loss_is_what_the_kind_says(tiny_config, connectivity, kind):
    torch.manual_seed(0)
    config = tiny_config(connectivity=connectivity, num_hidden_layers=LAYERS, num_labels=3)
    model = AcnForSequenceClassification(config).double().eval()
    ids, labels = torch.randint(5, config.vocab_size, (6, 9)), torch.tensor([0, 1, 2, 1, 0, 2])
    losses, answers = losses_by_depth(model, ids, labels)
    supervision = DepthSupervision(kind)
    for step in range(8):
        weights = supervision.weights(LAYERS, seed=3, step=step)
        if kind == "layerskip" and weights.left_out:
            continue
        read_outs = model.acn.read_outs(input_ids=ids)
        found = supervised_loss(weights, read_outs, lambda read_out: answer(model.head_logits(read_out), labels))
        if kind == "deep":
            expected = sum(k * losses[k] for k in range(1, 5)) / 10
        elif kind == "adaptive":
            (depth,) = weights.divergence
            divergence = (np.exp(answers[-1]) * (answers[-1] - answers[depth])).sum(-1).mean()
            expected = losses[-1] + losses[depth] / depth + divergence
        else:
            depth = 1 + step % 3
            own, last = 0.2 * sum(range(depth + 1)), 3 + 0.2 * (1 + 2 + 3)
            expected = (own * losses[depth] + last * losses[-1]) / (own + last)
        assert found.loss.item() == pytest.approx(expected, rel=1e-10)
        torch.testing.assert_close(found.logits, model(ids).logits)


def test_the_deepest_answer_is_not_taught_by_the_others():
    """The divergence moves the shallow answer alone."""
    shallow, deep = torch.randn(5, 3, requires_grad=True), torch.randn(5, 3, requires_grad=True)
    weights = DepthSupervision("adaptive", weight=1.0).weights(2, seed=0, step=0)
    only = type(weights)({}, weights.divergence | {2: 0.0}, frozenset())
    answers = [torch.zeros(5, 3), shallow, deep]
    supervised_loss(
        only, answers, lambda read_out: SimpleNamespace(loss=torch.zeros(()), logits=read_out)
    ).loss.backward()
    assert shallow.grad.abs().sum() > 0
    assert deep.grad is None or not deep.grad.any()


@pytest.mark.parametrize("connectivity", CONNECTIVITIES)
def test_a_layer_that_is_left_out_is_as_if_it_were_not_there(tiny_config, connectivity):
    torch.manual_seed(0)
    config = tiny_config(connectivity=connectivity, num_hidden_layers=LAYERS)
    model = AcnForSequenceClassification(config).eval()
    ids = torch.randint(5, config.vocab_size, (2, 7))
    read_outs = list(model.acn.read_outs(input_ids=ids, left_out={1, 3}))
    model.acn.layers = torch.nn.ModuleList([model.acn.layers[0], model.acn.layers[2]])
    shorter = list(model.acn.read_outs(input_ids=ids))
    for found, expected in zip(read_outs, [shorter[i] for i in (0, 1, 1, 2, 2)], strict=True):
        torch.testing.assert_close(found, expected)


def test_layers_are_left_out_as_often_as_the_kind_says():
    steps = 4000
    for kind, chances in (("layerdrop", [0.2] * 4), ("layerskip", [0.1 * (2 ** (i / 3) - 1) for i in range(4)])):
        supervision = DepthSupervision(kind)
        counts = Counter(i for step in range(steps) for i in supervision.weights(LAYERS, 1, step).left_out)
        for layer, chance in enumerate(chances):
            assert abs(counts[layer] / steps - chance) <= 4 * (chance * (1 - chance) / steps) ** 0.5
        assert supervision.drops
    assert not DepthSupervision("layerdrop", drop=0.0).drops


def test_a_depth_is_drawn_for_every_step_and_the_same_again():
    supervision = DepthSupervision("adaptive")
    drawn = [min(supervision.weights(LAYERS, 7, step).loss) for step in range(60)]
    assert set(drawn) == {1, 2, 3}
    assert drawn == [min(supervision.weights(LAYERS, 7, step).loss) for step in range(60)]
    assert drawn != [min(supervision.weights(LAYERS, 8, step).loss) for step in range(60)]
    turns = [min(DepthSupervision("layerskip").weights(LAYERS, 7, step).loss) for step in range(6)]
    assert turns == [1, 2, 3, 1, 2, 3]


@pytest.mark.parametrize(
    ("supervision", "field"),
    [
        (DepthSupervision("deeper"), "kind"),
        (DepthSupervision("deep", weight=1.0), "weight"),
        (DepthSupervision("layerdrop", weight=1.0), "weight"),
        (DepthSupervision("adaptive", drop=0.1), "drop"),
        (DepthSupervision("none", drop=0.1), "drop"),
        (DepthSupervision("adaptive", weight=0.0), "weight"),
        (DepthSupervision("adaptive", weight=float("nan")), "weight"),
        (DepthSupervision("layerdrop", drop=1.0), "drop"),
    ],
)
def test_what_makes_no_sense_is_named(supervision, field):
    ((found, value, _),) = supervision.mistakes()
    assert (found, value is getattr(supervision, field)) == (field, True)


def test_what_makes_sense_is_not():
    for kind in ("none", "deep", "adaptive", "layerskip", "layerdrop"):
        assert not list(DepthSupervision(kind).mistakes())
        assert DepthSupervision(kind).fits(2)
        assert DepthSupervision(kind).fits(1) == (kind == "none")
