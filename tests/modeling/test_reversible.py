"""Activations that are computed again give the gradients of activations that are kept."""

import gc
import weakref
from types import SimpleNamespace

import pytest
import torch
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from modeling import (
    AcnForMaskedLM,
    AcnForSequenceClassification,
    AcnModel,
    DepthSupervision,
    autocast,
    compile_layers,
    recomputed_flops,
    supervised_loss,
)
from modeling.reversible import Rebuilding
from tests.modeling.conftest import HEADS, inputs_of
from tests.modeling.test_heads import LABELS
from tests.modeling.test_packing import varlen_attention

DROPOUT = {"hidden_dropout_prob": 0.3, "attention_probs_dropout_prob": 0.2}


def build(head, tiny_config, **fields):
    torch.manual_seed(0)
    return head(tiny_config(connectivity="reversible", num_labels=3, **fields)).double().train()


def kept(model, monkeypatch):
    """From now on activations are kept, as of any other model."""
    monkeypatch.setattr(AcnModel, "_runner", lambda *_, **__: lambda layer, *args, **kwargs: layer(*args, **kwargs))


def gradients(model, loss):
    """The loss of a seeded forward pass, and all gradients of its backward pass."""
    model.zero_grad()
    torch.manual_seed(7)
    value = loss(model)
    value.backward()
    after = torch.rand(1)  # a backward pass leaves the random numbers to come as they were
    return [value.detach(), after, *(p.grad for p in model.parameters() if p.grad is not None)]


def assert_same(model, loss, monkeypatch, atol=1e-10):
    rebuilt = gradients(model, loss)
    with monkeypatch.context() as patch:
        kept(model, patch)
        plain = gradients(model, loss)
    assert len(rebuilt) == len(plain) > 2
    for ours, theirs in zip(rebuilt, plain, strict=True):
        torch.testing.assert_close(ours, theirs, atol=atol, rtol=0)


@pytest.fixture
def rebuilds(monkeypatch):
    """How many layers were let go of."""
    ran, call = [], Rebuilding.__call__
    monkeypatch.setattr(Rebuilding, "__call__", lambda self, *a, **k: ran.append(a[0]) or call(self, *a, **k))
    return ran


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("dropout", [{}, DROPOUT], ids=["plain", "dropout"])
@pytest.mark.parametrize("head", HEADS)
def test_every_head_has_the_gradients_of_plain_autograd(
    tiny_config, batch, monkeypatch, rebuilds, head, dropout, attention
):
    model = build(head, tiny_config, attn_implementation=attention, **dropout)
    inputs = inputs_of(head, batch) | LABELS[head.__name__]
    assert_same(model, lambda model: model(**inputs).loss, monkeypatch)
    assert rebuilds


@pytest.mark.parametrize("fields", [{"position_embedding_type": "rope"}, {"gated_mlp": True}, {"num_hidden_layers": 1}])
def test_so_do_all_wirings_of_a_layer(tiny_config, batch, monkeypatch, fields):
    model = build(AcnModel, tiny_config, **DROPOUT, **fields)
    assert_same(model, lambda model: model(**batch).last_hidden_state.square().sum(), monkeypatch)


@pytest.mark.parametrize("attention", ["eager", "sdpa", "flash_attention_2"])
@pytest.mark.parametrize("lengths", [True, False])
def test_packed_rows(tiny_config, monkeypatch, rebuilds, attention, lengths):
    model = build(AcnForMaskedLM, tiny_config)
    if attention == "flash_attention_2":  # stands where no CPU has a kernel, with its contract
        monkeypatch.setitem(ALL_ATTENTION_FUNCTIONS._global_mapping, attention, varlen_attention)
    model.config._attn_implementation_internal = attention
    ids = torch.randint(5, 53, (2, 9))
    inputs = {"seq_idx": torch.tensor([[0, 0, 0, 1, 1, 1, 1, 2, 2], [0] * 9])}
    if lengths:
        bounds = torch.tensor([0, 3, 7, 9, 18], dtype=torch.int32)
        inputs = {"cu_seq_lens_q": bounds, "cu_seq_lens_k": bounds, "max_length_q": 9, "max_length_k": 9}
    assert_same(model, lambda model: model(ids, labels=ids, **inputs).loss, monkeypatch)
    assert len(rebuilds) == 4


def test_masked_positions_limit_the_last_layer_which_keeps_its_few_activations(
    tiny_config, batch, monkeypatch, rebuilds
):
    model = build(AcnForMaskedLM, tiny_config, **DROPOUT)
    positions = torch.tensor([[0, 4], [1, 2], [2, 0]])
    inputs = batch | {"masked_positions": positions, "labels": batch["input_ids"].gather(1, positions)}
    assert_same(model, lambda model: model(**inputs).loss, monkeypatch)
    assert len(rebuilds) == 3


def test_losses_at_every_depth_of_one_pass(tiny_config, batch, monkeypatch, rebuilds):
    model = build(AcnModel, tiny_config, **DROPOUT)

    def loss(model):
        states = model(**batch, output_hidden_states=True).hidden_states
        return sum((k + 1) * state.sin().sum() for k, state in enumerate(states))

    assert_same(model, loss, monkeypatch)
    assert len(rebuilds) == 4


@pytest.mark.parametrize("kind", ["deep", "adaptive", "layerskip", "layerdrop"])
def test_depth_supervision_and_layers_left_out(tiny_config, batch, monkeypatch, rebuilds, kind):
    model = build(AcnForSequenceClassification, tiny_config, **DROPOUT)
    labels = torch.tensor([0, 2, 1])
    supervision = DepthSupervision(kind, drop=0.5 if kind.startswith("layer") else None)
    for step in range(6):
        weights = supervision.weights(4, seed=1, step=step)

        def loss(model, weights=weights):
            def answer(read_out):
                logits = model.head_logits(read_out)
                return SimpleNamespace(loss=F.cross_entropy(logits, labels), logits=logits)

            return supervised_loss(weights, model.acn.read_outs(weights.left_out, **batch), answer).loss

        assert_same(model, loss, monkeypatch)
    assert rebuilds


@pytest.mark.parametrize("depth", range(5))
def test_a_loss_below_the_last_layer_and_a_pass_that_stops_there(tiny_config, batch, monkeypatch, depth):
    """The layers above have no gradient, but have to be undone first."""
    model = build(AcnModel, tiny_config, **DROPOUT)
    above = lambda model: model(**batch, output_hidden_states=True).hidden_states[depth].sin().sum()  # noqa: E731
    below = lambda model: model(**batch, depth=depth).last_hidden_state.sin().sum()  # noqa: E731
    for loss in (above, below):
        assert_same(model, loss, monkeypatch)


def test_rows_that_go_on_alone(tiny_config, batch, monkeypatch):
    model = build(AcnModel, tiny_config, **DROPOUT)

    def loss(model):
        read_outs = model.read_outs(**batch)
        total = next(read_outs).sin().sum() + next(read_outs).sin().sum()
        return total + read_outs.send(torch.tensor([2, 0])).sin().sum() + next(read_outs).sin().sum()

    assert_same(model, loss, monkeypatch)


def test_two_backward_passes_over_one_forward_pass(tiny_config, batch, monkeypatch):
    model = build(AcnModel, tiny_config, **DROPOUT)
    model.zero_grad()
    torch.manual_seed(7)
    states = model(**batch, output_hidden_states=True).hidden_states
    states[2].sin().sum().backward(retain_graph=True)
    states[4].cos().sum().backward()
    twice = [p.grad.clone() for p in model.parameters() if p.grad is not None]
    kept(model, monkeypatch)

    def loss(model):
        states = model(**batch, output_hidden_states=True).hidden_states
        return states[2].sin().sum() + states[4].cos().sum()

    for ours, theirs in zip(twice, gradients(model, loss)[2:], strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-10, rtol=0)


@pytest.mark.parametrize("frozen", ["embeddings", "layers", "attention", "layers.1."])
def test_frozen_weights(tiny_config, batch, monkeypatch, frozen):
    model = build(AcnModel, tiny_config, **DROPOUT)
    for name, weight in model.named_parameters():
        weight.requires_grad_(frozen not in name)
    assert_same(model, lambda model: model(**batch).pooler_output.sum(), monkeypatch)


@pytest.mark.parametrize("inside", [True, False])
def test_the_backward_pass_has_the_arithmetic_of_the_forward_pass(tiny_config, batch, monkeypatch, inside):
    """Also where it runs within autocast itself, whose cache has weights that were cast without gradient."""
    model = build(AcnForMaskedLM, tiny_config, **DROPOUT).float()
    found = []
    for patch in (False, True):
        if patch:
            kept(model, monkeypatch)
        model.zero_grad()
        torch.manual_seed(7)
        with autocast("bf16", model.device):
            loss = model(**batch, labels=batch["input_ids"]).loss
            if inside:
                loss.backward()
        if not inside:
            loss.backward()
        found.append(torch.cat([p.grad.flatten() for p in model.parameters()]))
    error = (found[0] - found[1]).norm() / found[1].norm()
    assert error < 1e-2


def test_streams_of_half_precision_models_are_fp32_and_gradients_stay_near(tiny_config, batch, monkeypatch):
    """In bf16 streams 48 layers could not be undone; in fp32 the gradients are as near as bf16 itself allows."""
    fields = {"num_hidden_layers": 48, "hidden_size": 48, "intermediate_size": 96, "initializer_range": 0.05}
    model = build(AcnForMaskedLM, tiny_config, **fields).bfloat16()
    assert model.acn._streams(model.acn._embed(**batch)[0]).dtype is torch.float32
    assert model.acn(**batch).last_hidden_state.dtype is torch.bfloat16
    found = []
    for patch in (False, True):
        if patch:
            kept(model, monkeypatch)
        found.append([g.float() for g in gradients(model, lambda m: m(**batch, labels=batch["input_ids"]).loss)[2:]])
    errors = [(ours - theirs).norm() / theirs.norm() for ours, theirs in zip(*found, strict=True)]
    assert max(errors) < 0.02


class Held:
    """A tensor that autograd keeps for as long as this lives."""

    def __init__(self, tensor):
        self.tensor = tensor.detach()  # itself it would be a circle with its node, for ever


def test_what_autograd_keeps_does_not_grow_with_depth(tiny_config, batch):
    sizes = []
    for layers in (4, 48):
        model = build(AcnForMaskedLM, tiny_config, num_hidden_layers=layers)
        alive = weakref.WeakSet()
        hold = lambda t, s=alive: (h := Held(t), s.add(h))[0]  # noqa: E731
        with torch.autograd.graph.saved_tensors_hooks(hold, lambda held: held.tensor):
            loss = model(**batch, labels=batch["input_ids"]).loss
        sizes.append(sum(held.tensor.numel() for held in alive))
        loss.backward()
    assert sizes[0] == sizes[1] > 0


class FlopCounter(TorchDispatchMode):
    """torch's formulas; its own counter follows modules through the backward pass, where these run a second time."""

    total = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if (formula := flop_registry.get(func._overloadpacket)) is not None:
            self.total += formula(*args, **(kwargs or {}), out_val=result)
        return result


@pytest.mark.parametrize("limited", [True, False])
def test_what_is_computed_again_is_counted(tiny_config, batch, monkeypatch, limited):
    """By torch's counter, over forward and backward pass."""
    model = build(AcnForMaskedLM, tiny_config, attn_implementation="eager")
    ids = batch["input_ids"]
    positions = torch.tensor([[0, 4], [1, 2], [2, 0]])
    inputs = {"masked_positions": positions, "labels": ids.gather(1, positions)} if limited else {"labels": ids}
    counts = []
    for patch in (False, True):
        if patch:
            kept(model, monkeypatch)
        with FlopCounter() as counter:
            model(ids, **inputs).loss.backward()
        counts.append(counter.total)
    assert counts[0] - counts[1] == len(ids) * recomputed_flops(model.config, ids.shape[1], limited) > 0
    assert recomputed_flops(tiny_config(), 9, limited) == 0


def test_a_pass_is_freed_with_its_loss(tiny_config, batch, monkeypatch):
    """By counting references alone: it is no circle, which would keep it until the garbage collector comes."""
    model, made = build(AcnForMaskedLM, tiny_config), []
    begin = Rebuilding.__init__
    monkeypatch.setattr(Rebuilding, "__init__", lambda self: made.append(weakref.ref(self)) or begin(self))
    gc.disable()
    try:
        for backward in (True, False):
            loss = model(**batch, labels=batch["input_ids"]).loss
            assert made[-1]() is not None
            if backward:
                loss.backward()
            del loss
            assert made[-1]() is None
    finally:
        gc.enable()


def test_activations_are_kept_where_there_is_nothing_to_gain(tiny_config, batch, rebuilds):
    model = build(AcnForMaskedLM, tiny_config)
    with torch.no_grad():
        model(**batch)
    model(**batch, output_attentions=True)
    model.eval()(**batch)
    model.train().requires_grad_(False)(**batch)
    assert not rebuilds


def test_gradients_that_cannot_be_had_are_refused(tiny_config, batch):
    model = build(AcnForMaskedLM, tiny_config)
    embeds = torch.randn(2, 5, 12, dtype=torch.double, requires_grad=True)
    with pytest.raises(RuntimeError, match=r"model\.eval\(\), which keeps"):
        torch.autograd.grad(model(inputs_embeds=embeds).logits.sum(), embeds)
    torch.autograd.grad(model.eval()(inputs_embeds=embeds).logits.sum(), [embeds, *model.acn.layers.parameters()])


def test_gradient_checkpointing_asks_for_what_is_there_already(tiny_config, batch, monkeypatch):
    model = build(AcnForMaskedLM, tiny_config, **DROPOUT)
    model.gradient_checkpointing_enable()
    assert_same(model, lambda model: model(**batch, labels=batch["input_ids"]).loss, monkeypatch)


@pytest.mark.parametrize("dropout", [{}, DROPOUT], ids=["plain", "dropout"])
def test_compiled_layers(tiny_config, batch, dropout):
    """What they drop is drawn by the compiler: the gradient is compared with slopes of the loss, at one seed."""
    model = build(AcnForMaskedLM, tiny_config, num_hidden_layers=2, **dropout)
    compile_layers(model)
    loss = lambda model: model(**batch, labels=batch["input_ids"]).logits.sin().sum()  # noqa: E731
    found = gradients(model, loss)[2:]
    generator = torch.Generator().manual_seed(3)
    parameters = [p for p in model.parameters() if p.grad is not None]
    directions = [torch.randn(p.shape, generator=generator, dtype=p.dtype) for p in parameters]
    values = []
    for step in (1e-6, -1e-6):
        with torch.no_grad():
            for parameter, direction in zip(parameters, directions, strict=True):
                parameter.add_(direction, alpha=step)
        torch.manual_seed(7)
        values.append(loss(model).item())
        with torch.no_grad():
            for parameter, direction in zip(parameters, directions, strict=True):
                parameter.sub_(direction, alpha=step)
    slope = (values[0] - values[1]) / 2e-6
    assert sum((g * d).sum().item() for g, d in zip(found, directions, strict=True)) == pytest.approx(slope, rel=1e-5)
