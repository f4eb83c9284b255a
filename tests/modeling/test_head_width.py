"""Heads whose width is stated, for models that have lost some."""

import pytest
import torch
from huggingface_hub.errors import StrictDataclassError

from modeling import AcnModel, acn_to_bert


def test_the_width_of_a_full_set_of_heads_changes_nothing(tiny_config, batch):
    model = AcnModel(tiny_config()).eval()
    stated = AcnModel(tiny_config(head_dim=4)).eval()
    stated.load_state_dict(model.state_dict())
    assert torch.equal(stated(**batch).last_hidden_state, model(**batch).last_hidden_state)


def test_fewer_heads_are_smaller_projections_and_survive_saving(tiny_config, batch, tmp_path):
    model = AcnModel(tiny_config(num_attention_heads=2, head_dim=4)).eval()
    attention = model.layers[0].attention
    assert tuple(attention.qkv_proj.weight.shape) == (24, 12)
    assert tuple(attention.out_proj.weight.shape) == (12, 8)
    model.save_pretrained(tmp_path)
    again = AcnModel.from_pretrained(tmp_path)
    assert torch.equal(again(**batch).last_hidden_state, model(**batch).last_hidden_state)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"head_dim": 0}, "head_dim=0: give 1 or more"),
        ({"num_attention_heads": 5}, "num_attention_heads=5: change one"),
        ({"head_dim": 3, "position_embedding_type": "rope"}, "odd head width"),
        ({"num_attention_heads": 2, "head_dim": 4, "identity_attention_init": True}, "square projections"),
    ],
)
def test_widths_that_do_not_fit_are_named(tiny_config, fields, message):
    with pytest.raises(StrictDataclassError, match=message):
        tiny_config(**fields)


def test_bert_has_no_such_heads(tiny_config):
    model = AcnModel(tiny_config(connectivity="residual", num_attention_heads=2, head_dim=4))
    with pytest.raises(ValueError, match="head_dim=4"):
        acn_to_bert(model)
