"""The probe's direct and full gradients are those of autograd with the other paths cut."""

import pytest
import torch

from modeling import CONNECTIVITIES, AcnForMaskedLM, AcnGradientProbe


def model_and_inputs(tiny_config, batch, **fields):
    model = AcnForMaskedLM(tiny_config(**fields)).double().train()
    return model, batch | {"labels": batch["input_ids"]}


def by_hand(model, inputs, connectivity, direct_only):
    """dL/dx_i, i = 0..L, from a forward pass written out; with `direct_only`, layers do not hand gradients down."""
    encoder = model.acn
    x, layer_inputs = encoder._embed(**{name: value for name, value in inputs.items() if name != "labels"})
    states = [x]
    x = encoder._streams(x)
    for layer in encoder.layers:
        x = layer(x.detach() if direct_only else x, **layer_inputs)
        states.append(x)
    read_out = sum(states) if connectivity in ("acn", "hybrid") else states[-1]
    if connectivity == "reversible":
        read_out = encoder.read_out.norm(read_out.unflatten(-1, (2, -1)).mean(-2))
    logits = model.decoder(model.head(read_out))
    # transformers computes its loss in float32
    loss = torch.nn.functional.cross_entropy(logits.float().flatten(0, 1), inputs["labels"].flatten())
    gradients = torch.autograd.grad(loss, states, allow_unused=True)
    return [0.0 if g is None else g.norm().item() for g in gradients]


@pytest.mark.parametrize("connectivity", CONNECTIVITIES)
def test_full_and_direct_norms_are_those_of_detached_paths(tiny_config, batch, connectivity):
    model, inputs = model_and_inputs(tiny_config, batch, connectivity=connectivity, hybrid_init=0.4)
    with AcnGradientProbe(model) as probe:
        model(**inputs).loss.backward()
    report = probe.report()
    full = by_hand(model, inputs, connectivity, direct_only=False)
    direct = by_hand(model, inputs, connectivity, direct_only=True)
    assert [g.layer for g in report] == list(range(5))
    assert [g.full_norm for g in report] == pytest.approx(full, rel=1e-5)
    assert [g.direct_norm for g in report] == pytest.approx(direct, rel=1e-5)
    assert [g.direct_share for g in report] == pytest.approx(
        [d / f for d, f in zip(direct, full, strict=True)], rel=1e-5
    )
    assert report[-1].direct_share == pytest.approx(1.0)


def test_parameter_norms_are_those_of_grad(tiny_config, batch):
    model, inputs = model_and_inputs(tiny_config, batch)
    with AcnGradientProbe(model) as probe:
        model(**inputs).loss.backward()
    for module, gradient in zip([model.acn.embeddings, *model.acn.layers], probe.report(), strict=True):
        norms = torch.stack([p.grad.norm() for p in module.parameters()])
        assert gradient.parameter_norm == pytest.approx(norms.norm().item(), rel=1e-5)


def test_training_does_not_notice_the_probe(tiny_config, batch):
    model, inputs = model_and_inputs(tiny_config, batch)
    model(**inputs).loss.backward()
    plain = {name: p.grad.clone() for name, p in model.named_parameters()}
    model.zero_grad()
    with AcnGradientProbe(model):
        model(**inputs).loss.backward()
    assert all(torch.equal(p.grad, plain[name]) for name, p in model.named_parameters())
    assert not model.acn.read_out._forward_hooks
    assert not model.acn.embeddings._forward_hooks
    assert not any(p._backward_hooks for p in model.parameters())


def test_accumulated_gradients_do_not_enter(tiny_config, batch):
    model, inputs = model_and_inputs(tiny_config, batch)
    reports = []
    for _ in range(2):  # .grad is not cleared in between
        with AcnGradientProbe(model) as probe:
            model(**inputs).loss.backward()
        reports.append(probe.report())
    assert reports[0] == reports[1]


def test_gradient_checkpointing_changes_nothing(tiny_config, batch):
    reports = []
    for checkpointing in (False, True):
        torch.manual_seed(0)
        model, inputs = model_and_inputs(tiny_config, batch)
        if checkpointing:
            model.gradient_checkpointing_enable()
        with AcnGradientProbe(model) as probe:
            model(**inputs).loss.backward()
        reports.append(probe.report())
    for plain, checkpointed in zip(*reports, strict=True):
        assert checkpointed.full_norm == pytest.approx(plain.full_norm, rel=1e-9)
        assert checkpointed.parameter_norm == pytest.approx(plain.parameter_norm, rel=1e-9)


def test_a_shallower_pass_reports_its_own_layers(tiny_config, batch):
    model, inputs = model_and_inputs(tiny_config, batch)
    with AcnGradientProbe(model) as probe:
        model(**inputs, depth=2).loss.backward()
    assert [g.layer for g in probe.report()] == [0, 1, 2]
    assert probe.report()[-1].direct_share == pytest.approx(1.0)


def test_misuse_is_explained(tiny_config, batch):
    model, inputs = model_and_inputs(tiny_config, batch)
    with AcnGradientProbe(model) as probe:
        model(**inputs)
    with pytest.raises(RuntimeError, match="saw no backward pass"):
        probe.report()
    with AcnGradientProbe(model):
        model(**inputs)
        with pytest.raises(RuntimeError, match="one forward pass"):
            model(**inputs)
