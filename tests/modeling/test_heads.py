"""Every head computes what transformers' BERT head computes, and learns from its labels."""

import pytest
import torch
import transformers
from torch.nn import functional as F

from modeling import (
    AcnForMultipleChoice,
    AcnForQuestionAnswering,
    AcnForSequenceClassification,
    AcnForTokenClassification,
    AcnModel,
    acn_to_bert,
)
from tests.modeling.conftest import HEADS, inputs_of, logits_of

LABELS = {
    "AcnForMaskedLM": {"labels": torch.tensor([[7, -100, 8, -100, 9, -100, -100, 6, 5]] * 3)},
    "AcnForSequenceClassification": {"labels": torch.tensor([0, 2, 1])},
    "AcnForTokenClassification": {"labels": torch.tensor([[0, 1, 2, -100, 1, 1, 0, 2, -100]] * 3)},
    "AcnForQuestionAnswering": {"start_positions": torch.tensor([1, 0, 99]), "end_positions": torch.tensor([2, 3, 99])},
    "AcnForMultipleChoice": {"labels": torch.tensor([2])},
}


@pytest.mark.parametrize("head", HEADS)
def test_logits_and_loss_of_a_residual_model_are_berts(tiny_config, batch, head):
    model = head(tiny_config(connectivity="residual", num_labels=3)).eval()
    bert = acn_to_bert(model)
    inputs = inputs_of(head, batch) | LABELS[head.__name__]
    ours, theirs = model(**inputs), bert(**inputs)
    torch.testing.assert_close(logits_of(ours), logits_of(theirs), atol=2e-5, rtol=1e-5)
    torch.testing.assert_close(ours.loss, theirs.loss, atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize("head", HEADS)
def test_every_head_learns_at_a_depth_it_is_asked_for(tiny_config, batch, head):
    model = head(tiny_config(num_labels=3)).train()
    inputs = inputs_of(head, batch) | LABELS[head.__name__]
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    first = model(**inputs, depth=2).loss.item()
    for _ in range(20):
        optimizer.zero_grad()
        model(**inputs, depth=2).loss.backward()
        optimizer.step()
    assert model(**inputs, depth=2).loss.item() < 0.5 * first
    assert all(p.grad is None for layer in model.acn.layers[2:] for p in layer.parameters())
    assert all(p.grad is not None for layer in model.acn.layers[:2] for p in layer.parameters())


@pytest.mark.parametrize(
    ("problem", "labels", "loss"),
    [
        ("single_label_classification", torch.tensor([0, 2, 1]), F.cross_entropy),
        ("multi_label_classification", torch.eye(3), F.binary_cross_entropy_with_logits),
        ("regression", torch.randn(3, 3), F.mse_loss),
    ],
)
def test_sequences_are_classified_by_problem_type(tiny_config, batch, problem, labels, loss):
    model = AcnForSequenceClassification(tiny_config(num_labels=3, problem_type=problem)).eval()
    outputs = model(**batch, labels=labels)
    torch.testing.assert_close(outputs.loss, loss(outputs.logits, labels))


@pytest.mark.parametrize("head", [AcnForTokenClassification, AcnForQuestionAnswering])
def test_token_heads_read_every_token_on_its_own(tiny_config, batch, head):
    model = head(tiny_config(num_labels=3)).eval()
    read_out = model.acn(**batch).last_hidden_state
    last = model.classifier if head is AcnForTokenClassification else model.qa_outputs
    torch.testing.assert_close(logits_of(model(**batch)), F.linear(read_out, last.weight, last.bias))


def test_choices_are_scored_independently(tiny_config, batch):
    model = AcnForMultipleChoice(tiny_config()).eval()
    scores = model(**inputs_of(AcnForMultipleChoice, batch)).logits
    assert scores.shape == (1, 3)
    for choice in range(3):
        alone = {name: value[None, choice : choice + 1] for name, value in batch.items()}
        torch.testing.assert_close(model(**alone).logits[0, 0], scores[0, choice])
    embedded = model.get_input_embeddings()(batch["input_ids"]).unsqueeze(0)
    rest = {name: value.unsqueeze(0) for name, value in batch.items() if name != "input_ids"}
    torch.testing.assert_close(model(inputs_embeds=embedded, **rest).logits, scores)


def test_multiple_choice_refuses_packed_rows(tiny_config, batch):
    model = AcnForMultipleChoice(tiny_config())
    inputs = inputs_of(AcnForMultipleChoice, batch)
    packed = inputs | {"seq_idx": torch.zeros_like(inputs["input_ids"])}
    with pytest.raises(ValueError, match=r"seq_idx.*one document per row"):
        model(**packed)
    with pytest.raises(ValueError, match=r"seq_idx.*one document per row"):
        next(model.depth_logits(**packed))


def test_the_bare_model_pools_on_request(tiny_config, batch):
    pooling = AcnModel(tiny_config()).eval()
    outputs = pooling(**batch)
    expected = torch.tanh(pooling.pooler.dense(outputs.last_hidden_state[:, 0]))
    torch.testing.assert_close(outputs.pooler_output, expected)
    assert AcnModel(tiny_config(), add_pooling_layer=False)(**batch).pooler_output is None


@pytest.mark.parametrize("head", HEADS)
def test_auto_classes_find_every_head(tiny_config, tmp_path, head):
    model = head(tiny_config())
    model.save_pretrained(tmp_path)
    auto = getattr(transformers, "AutoModel" + head.__name__.removeprefix("Acn"))
    assert type(auto.from_pretrained(tmp_path)) is head
