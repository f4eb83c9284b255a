"""The four ways to a depth are one model, bit for bit."""

import itertools
import json

import pytest
import torch

from modeling import (
    CONNECTIVITIES,
    AcnForMaskedLM,
    AcnForSequenceClassification,
    AcnModel,
    autocast,
    parameters_by_depth,
)
from modeling.modeling_acn import select_rows
from tests.modeling.conftest import HEADS, inputs_of, logits_of

DEPTHS = range(5)


@pytest.mark.parametrize("connectivity", CONNECTIVITIES)
@pytest.mark.parametrize("depth", DEPTHS)
def test_hidden_state_depth_truncation_and_loading_agree(tiny_config, batch, tmp_path, connectivity, depth):
    model = AcnModel(tiny_config(connectivity=connectivity, hybrid_init=0.3)).eval()
    model.save_pretrained(tmp_path)
    read_out = model(**batch, output_hidden_states=True).hidden_states[depth]
    assert torch.equal(model(**batch, depth=depth).last_hidden_state, read_out)
    loaded = AcnModel.from_pretrained(tmp_path, num_hidden_layers=depth)
    assert loaded.config.num_hidden_layers == len(loaded.layers) == depth
    assert torch.equal(loaded(**batch).last_hidden_state, read_out)
    model.truncate(depth)
    assert model.config.num_hidden_layers == len(model.layers) == depth
    outputs = model(**batch, output_hidden_states=True)
    assert torch.equal(outputs.last_hidden_state, read_out)
    assert len(outputs.hidden_states) == depth + 1
    assert torch.equal(outputs.hidden_states[-1], read_out)


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("connectivity", CONNECTIVITIES)
@torch.no_grad()
def test_the_four_ways_agree_bit_for_bit_in_bf16_too(tiny_config, batch, tmp_path, connectivity, attention):
    config = tiny_config(connectivity=connectivity, hybrid_init=0.3, attn_implementation=attention)
    AcnForSequenceClassification(config).save_pretrained(tmp_path)
    model = AcnForSequenceClassification.from_pretrained(tmp_path, attn_implementation=attention)
    plain = model(**batch).logits
    with autocast("bf16", model.device):
        swept = list(model.depth_logits(**batch))
        read_outs = model(**batch, output_hidden_states=True).hidden_states
        for depth in reversed(DEPTHS):
            assert torch.equal(model(**batch, depth=depth).logits, swept[depth])
            assert torch.equal(model.head_logits(read_outs[depth]), swept[depth])
            loaded = AcnForSequenceClassification.from_pretrained(
                tmp_path, num_hidden_layers=depth, attn_implementation=attention
            )
            assert torch.equal(loaded(**batch).logits, swept[depth])
            assert torch.equal(model.truncate(depth)(**batch).logits, swept[depth])
    assert swept[-1].dtype == torch.bfloat16
    assert not torch.equal(swept[-1].float(), plain)


@pytest.mark.parametrize("connectivity", CONNECTIVITIES)
@pytest.mark.parametrize("head", HEADS)
def test_logits_of_every_depth_come_from_one_forward(tiny_config, batch, tmp_path, head, connectivity):
    head(tiny_config(connectivity=connectivity, hybrid_init=0.3)).save_pretrained(tmp_path)
    # both from the file: where a weight lies in memory (aligned or not) may change the last bit of a matrix product
    model = head.from_pretrained(tmp_path)
    inputs = inputs_of(head, batch)
    all_depths = list(model.depth_logits(**inputs))
    hidden_states = model(**inputs, output_hidden_states=True).hidden_states
    assert len(all_depths) == len(hidden_states) == 5
    assert torch.equal(all_depths[-1], logits_of(model(**inputs)))
    for depth in reversed(DEPTHS):
        assert torch.equal(all_depths[depth], logits_of(model(**inputs, depth=depth)))
        assert torch.equal(model.head_logits(hidden_states[depth]).view_as(all_depths[depth]), all_depths[depth])
        assert torch.equal(all_depths[depth], logits_of(model.truncate(depth)(**inputs)))
        loaded = head.from_pretrained(tmp_path, num_hidden_layers=depth)
        assert torch.equal(all_depths[depth], logits_of(loaded(**inputs)))


@pytest.mark.parametrize("fields", [{}, {"position_embedding_type": "rope"}, {"attn_implementation": "eager"}])
@pytest.mark.parametrize("connectivity", CONNECTIVITIES)
def test_rows_that_are_not_sent_back_are_not_computed_further(tiny_config, batch, connectivity, fields):
    model = AcnModel(tiny_config(connectivity=connectivity, hybrid_init=0.3, **fields)).eval()
    whole = list(model.read_outs(**batch))
    read_outs = model.read_outs(**batch)
    assert torch.equal(next(read_outs), whole[0])
    assert torch.equal(next(read_outs), whole[1])
    torch.testing.assert_close(read_outs.send(torch.tensor([2, 0])), whole[2][[2, 0]])
    torch.testing.assert_close(next(read_outs), whole[3][[2, 0]])
    torch.testing.assert_close(read_outs.send(torch.tensor([1])), whole[4][[0]])


def test_what_cannot_be_divided_by_rows_is_refused():
    rows = torch.tensor([0])
    mask = torch.ones(2, 1, 3, 3)
    assert select_rows({"attention_mask": mask, "cu_seq_lens": None}, rows, 2)["attention_mask"].shape == (1, 1, 3, 3)
    with pytest.raises(ValueError, match="attn_implementation='sdpa'"):
        select_rows({"cu_seq_lens_q": torch.tensor([0, 3, 6])}, rows, 2)


def test_neighbouring_depths_differ(tiny_config, batch):
    """Or the equalities above would hold of a model that ignores its depth."""
    read_outs = AcnModel(tiny_config()).eval()(**batch, output_hidden_states=True).hidden_states
    for shallower, deeper in itertools.pairwise(read_outs):
        assert not torch.allclose(shallower, deeper, atol=0.1)


def test_a_caller_that_stops_early_runs_no_further_layer(tiny_config, batch):
    model = AcnForSequenceClassification(tiny_config()).eval()
    ran = []
    for i, layer in enumerate(model.acn.layers):
        layer.register_forward_hook(lambda *_, i=i: ran.append(i))
    for depth, _ in enumerate(model.depth_logits(**batch)):
        if depth == 2:
            break
    assert ran == [0, 1]


def test_a_truncated_model_survives_saving(tiny_config, batch, tmp_path):
    model = AcnForSequenceClassification(tiny_config()).eval().truncate(2)
    model.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["num_hidden_layers"] == 2
    assert torch.equal(AcnForSequenceClassification.from_pretrained(tmp_path)(**batch).logits, model(**batch).logits)


def test_loading_fewer_layers_is_silent(tiny_config, tmp_path, caplog):
    AcnForMaskedLM(tiny_config()).save_pretrained(tmp_path)
    _, info = AcnForMaskedLM.from_pretrained(tmp_path, num_hidden_layers=1, output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    assert "LOAD REPORT" not in caplog.text


@pytest.mark.parametrize("head", [AcnModel, AcnForMaskedLM])
def test_more_layers_than_the_checkpoint_has_is_an_error(tiny_config, tmp_path, head):
    head(tiny_config()).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"num_hidden_layers=6.*at most 4"):
        head.from_pretrained(tmp_path, num_hidden_layers=6)


@pytest.mark.parametrize("depth", [-1, 5])
def test_a_depth_outside_the_model_is_an_error(tiny_config, batch, depth):
    model = AcnForMaskedLM(tiny_config())
    with pytest.raises(ValueError, match=rf"depth={depth} is outside 0\.\.4"):
        model(**batch, depth=depth)
    with pytest.raises(ValueError, match=rf"depth={depth} is outside 0\.\.4"):
        model.truncate(depth)


def test_parameters_by_depth_count_the_truncated_models(tiny_config):
    counted = parameters_by_depth(tiny_config())
    for depth in DEPTHS:
        model = AcnForMaskedLM(tiny_config()).truncate(depth)
        assert counted[depth] == sum(p.numel() for p in model.parameters())
