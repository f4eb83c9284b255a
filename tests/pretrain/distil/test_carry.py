"""Shortcuts carried by weights: exactly what the equations say, in float64, and where nothing can carry them."""

import numpy as np
import pytest
import torch

from modeling import AcnConfig, AcnModel
from pretrain.distil.carry import carry_problems, carry_shortcuts
from tests.pretrain.distil.conftest import SIZES, residual_config

FIELDS = {"num_attention_heads": 4, "intermediate_size": 64, "num_hidden_layers": 2}
CARRIED_HEADS, CARRIED_UNITS = 2, 32
COMPONENTS = CARRIED_HEADS * 4


def models(silenced: bool = False, **fields) -> tuple[AcnModel, AcnModel]:
    """A residual model and an ACN of its weights, in float64; silenced: half of the heads and units give nothing."""
    torch.manual_seed(3)
    source = AcnModel(residual_config(**(FIELDS | fields))).double().eval()
    if silenced:
        with torch.no_grad():
            for layer in source.layers:
                width = layer.attention.head_dim
                layer.attention.out_proj.weight[:, width : 3 * width] = 0
                layer.mlp.down_proj.weight[:, 16:48] = 0
    acn = AcnModel(AcnConfig(**source.config.to_dict() | {"connectivity": "acn"})).double().eval()
    acn.load_state_dict(source.state_dict())
    return source, acn


def words(rows: int, seed: int = 0) -> torch.Tensor:
    """(rows, 11) token ids."""
    return torch.randint(5, 53, (rows, 11), generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def read_by(source: AcnModel, ids: torch.Tensor) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """What attention and MLP of each layer are given, both (N, H): by the layers' own equations."""
    found = []
    for layer, states in zip(source.layers, source(ids, output_hidden_states=True).hidden_states[:-1], strict=True):
        between = layer.attention_norm(states + layer.attention(states)[0])
        found.append((states.flatten(0, 1), between.flatten(0, 1)))
    return found


def test_an_mlp_with_room_for_all_components_adds_its_input_exactly():
    source, acn = models(silenced=True)
    assert carry_shortcuts(acn, [({"input_ids": words(30)}, None)]) == (CARRIED_HEADS, CARRIED_UNITS)
    given = torch.randn(20, 16, dtype=torch.float64)
    for layer, before in zip(acn.layers, source.layers, strict=True):
        torch.testing.assert_close(layer.mlp(given), given + before.mlp(given), rtol=0, atol=1e-10)


def test_a_token_alone_is_handed_on_in_its_principal_components():
    """With one token every head attends to it: what is left is the linear algebra, here numpy's."""
    source, acn = models(silenced=True)
    ids = words(30)
    carry_shortcuts(acn, [({"input_ids": ids[:13]}, None), ({"input_ids": ids[13:]}, None)])
    alone = torch.randn(20, 1, 16, dtype=torch.float64)
    for layer, before, (read, _) in zip(acn.layers, source.layers, read_by(source, ids), strict=True):
        mean = read.numpy().mean(0)
        directions = np.linalg.svd(read.numpy() - mean, full_matrices=False)[2][:COMPONENTS]
        handed = (alone.numpy() - mean) @ directions.T @ directions + mean
        added = layer.attention(alone)[0] - before.attention(alone)[0]
        np.testing.assert_allclose(added.detach().numpy(), handed, atol=1e-9)


def test_what_matters_most_is_left_as_it_was_and_the_rest_gives_its_mean():
    source, acn = models()
    quiet_heads, quiet_units = slice(4, 12), slice(16, 48)
    with torch.no_grad():
        for model in (source, acn):
            for layer in model.layers:
                layer.attention.out_proj.weight[:, quiet_heads] *= 1e-3
                layer.mlp.down_proj.weight[:, quiet_units] *= 1e-3
    ids = words(30)
    carry_shortcuts(acn, [({"input_ids": ids}, None)])
    for layer, before, (_, read) in zip(acn.layers, source.layers, read_by(source, ids), strict=True):
        new, old = (attention.qkv_proj.weight.view(3, 16, 16) for attention in (layer.attention, before.attention))
        for kept in (slice(0, 4), slice(12, 16)):
            assert torch.equal(new[:, kept], old[:, kept])
        assert not torch.isclose(new[:, quiet_heads], old[:, quiet_heads]).all()
        for kept in (slice(0, 16), slice(48, 64)):
            assert torch.equal(layer.mlp.up_proj.weight[kept], before.mlp.up_proj.weight[kept])
            assert torch.equal(layer.mlp.down_proj.weight[:, kept], before.mlp.down_proj.weight[:, kept])
        added = (layer.mlp(read) - before.mlp(read)).mean(0)
        torch.testing.assert_close(added, read.mean(0), rtol=0, atol=1e-9)


def test_tokens_attend_to_themselves_in_the_heads_that_hand_on():
    _, acn = models(silenced=True, hidden_size=64)
    ids = torch.stack([torch.randperm(48)[:11] + 5 for _ in range(40)])
    carry_shortcuts(acn, [({"input_ids": ids}, None)])
    acn.set_attn_implementation("eager")
    with torch.no_grad():
        (weights, *_) = acn(input_ids=ids, output_attentions=True).attentions
    own = weights.diagonal(dim1=2, dim2=3).mean((0, 2))
    assert (own[1:3] > 0.9).all()
    assert (own[[0, 3]] < 0.5).all()


def test_tokens_that_do_not_count_are_not_measured():
    counted = torch.ones(20, 11, dtype=torch.bool)
    counted[12:] = False
    (_, some), (_, those) = models(), models()
    carry_shortcuts(some, [({"input_ids": words(20)}, counted)])
    carry_shortcuts(those, [({"input_ids": words(20)[:12]}, None)])
    ids = words(5, seed=1)
    with torch.no_grad():
        pair = [model(input_ids=ids).last_hidden_state for model in (some, those)]
    torch.testing.assert_close(*pair)


def test_measuring_leaves_no_hook_and_no_shortcut_and_reads_compiled_layers():
    (_, plain), (_, compiled) = models(), models()
    for layer in compiled.layers:
        layer.compile(backend="eager", dynamic=False)
    for model in (plain, compiled):
        carry_shortcuts(model, [({"input_ids": words(20)}, None)])
    torch.compiler.reset()
    assert not any(module._forward_pre_hooks for module in plain.modules())
    assert all(layer.shortcut.kind == "none" for layer in plain.layers)
    ours, theirs = plain.state_dict(), compiled.state_dict()
    assert all(torch.equal(ours[name], theirs[name.replace("._orig_mod", "")]) for name in ours)


@pytest.mark.parametrize("act", ["gelu", "gelu_new", "gelu_pytorch_tanh", "relu", "silu"])
def test_what_can_carry_is_not_refused(act):
    assert not carry_problems(AcnConfig(**SIZES, hidden_act=act))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"num_attention_heads": 1}, "needs two attention heads at least"),
        ({"gated_mlp": True}, "needs an MLP that is not gated"),
        ({"hidden_act": "tanh"}, "needs an activation with act(z) - act(-z) = z, as gelu, relu and silu; not tanh"),
    ],
)
def test_what_cannot_carry_is_refused_by_name(fields, message):
    (problem,) = carry_problems(AcnConfig(**SIZES | fields))
    assert str(problem) == f"carry_shortcuts {message}: set anneal.share instead"
