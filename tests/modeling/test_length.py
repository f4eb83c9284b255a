"""A text that is longer than the model has positions is an error that says so, wherever it comes in."""

import pytest
import torch

from modeling import AcnForMaskedLM, AcnForSequenceClassification, AcnModel

POSITIONS = 16
MESSAGE = r"17 tokens.*max_position_embeddings=16.*truncation=True, max_length=16"


def tokens(length: int) -> torch.Tensor:
    return torch.randint(5, 50, (2, length), generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("head", [AcnModel, AcnForMaskedLM, AcnForSequenceClassification])
def test_more_tokens_than_positions_are_named_with_the_fix(tiny_config, head):
    model = head(tiny_config()).eval()
    model(input_ids=tokens(POSITIONS))
    with pytest.raises(ValueError, match=MESSAGE):
        model(input_ids=tokens(POSITIONS + 1))
    with pytest.raises(ValueError, match=MESSAGE):
        model(inputs_embeds=torch.zeros(1, POSITIONS + 1, 12))


def test_the_read_outs_of_every_depth_say_it_too(tiny_config):
    model = AcnForSequenceClassification(tiny_config()).eval()
    with pytest.raises(ValueError, match=MESSAGE):
        list(model.depth_logits(input_ids=tokens(POSITIONS + 1)))


def test_a_row_of_short_documents_may_be_longer_and_one_of_a_long_document_may_not(tiny_config):
    model = AcnModel(tiny_config()).eval()
    documents = torch.tensor([[0] * 10 + [1] * 10] * 2)
    assert model(input_ids=tokens(20), seq_idx=documents).last_hidden_state.shape == (2, 20, 12)
    with pytest.raises(ValueError, match=MESSAGE):
        model(input_ids=tokens(20), seq_idx=torch.tensor([[0] * 17 + [1] * 3] * 2))


def test_rotated_positions_have_no_end(tiny_config):
    model = AcnModel(tiny_config(position_embedding_type="rope", hidden_size=12, num_attention_heads=3)).eval()
    assert model(input_ids=tokens(POSITIONS + 9)).last_hidden_state.shape == (2, POSITIONS + 9, 12)


def test_the_check_is_part_of_a_graph_without_breaks(tiny_config):
    model = AcnModel(tiny_config()).eval()
    compiled = torch.compile(model, fullgraph=True, backend="eager", dynamic=True)
    for length in (9, 12, POSITIONS):
        torch.testing.assert_close(
            compiled(input_ids=tokens(length)).last_hidden_state, model(input_ids=tokens(length)).last_hidden_state
        )
    with pytest.raises((ValueError, torch._dynamo.exc.Unsupported), match=MESSAGE):
        compiled(input_ids=tokens(POSITIONS + 1))
