"""Documents packed into one row are encoded as if each had a row of its own."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F
from transformers import DataCollatorWithFlattening
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from modeling import (
    CONNECTIVITIES,
    AcnConfig,
    AcnForMaskedLM,
    AcnForSequenceClassification,
    AcnForTokenClassification,
    AcnModel,
)
from modeling.modeling_acn import document_positions, documents_of_lengths, lengths_of_documents

LENGTHS = (3, 1, 5)


def documents(lengths=LENGTHS):
    generator = torch.Generator().manual_seed(3)
    return [torch.randint(5, 53, (length,), generator=generator) for length in lengths]


def packed(docs, trailing_padding=0):
    """One row: ids, document of each token, attention mask."""
    ids = F.pad(torch.cat(docs), (0, trailing_padding))
    index = torch.cat([torch.full_like(doc, i) for i, doc in enumerate(docs)])
    mask = F.pad(torch.ones_like(index), (0, trailing_padding))
    return ids[None], F.pad(index, (0, trailing_padding), value=len(docs) - 1)[None], mask[None]


def one_by_one(model, docs):
    """The documents in a padded batch, cut back to their own tokens."""
    states = model(**padded(docs)).last_hidden_state
    return torch.cat([row[: len(doc)] for row, doc in zip(states, docs, strict=True)])


@pytest.mark.parametrize("positions", ["absolute", "rope"])
@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("connectivity", CONNECTIVITIES)
def test_packed_equals_padded_one_by_one(tiny_config, connectivity, attention, positions):
    model = AcnModel(tiny_config(connectivity=connectivity, position_embedding_type=positions)).double().eval()
    expected = one_by_one(model, documents())
    model.set_attn_implementation(attention)
    for padding in (0, 4):
        ids, seq_idx, mask = packed(documents(), padding)
        states = model(input_ids=ids, seq_idx=seq_idx, attention_mask=mask if padding else None).last_hidden_state
        torch.testing.assert_close(states[0, : expected.shape[0]], expected, atol=1e-12, rtol=0)


@pytest.mark.slow  # flex_attention is compiled first
@torch.no_grad()  # and has no backward pass on a CPU
def test_packed_equals_padded_one_by_one_with_flex_attention(tiny_config):
    model = AcnModel(tiny_config(position_embedding_type="rope")).eval()
    expected = one_by_one(model, documents())
    model.set_attn_implementation("flex_attention")
    for padding in (0, 4):
        ids, seq_idx, mask = packed(documents(), padding)
        states = model(input_ids=ids, seq_idx=seq_idx, attention_mask=mask if padding else None).last_hidden_state
        torch.testing.assert_close(states[0, : expected.shape[0]], expected, atol=1e-5, rtol=1e-4)


def varlen_attention(module, query, key, value, attention_mask, scaling, dropout=0.0, **kwargs):
    """What a flash kernel computes: attention within the cumulative lengths over the flattened batch."""
    assert attention_mask is None
    bounds = kwargs["cu_seq_lens_q"]
    assert bounds.dtype == torch.int32
    assert torch.equal(bounds, kwargs["cu_seq_lens_k"])
    assert kwargs["max_length_q"] == kwargs["max_length_k"] == bounds.diff().max()
    flat = [t.transpose(1, 2).flatten(0, 1).transpose(0, 1) for t in (query, key, value)]  # heads, tokens, width
    pieces = [
        F.scaled_dot_product_attention(*(t[None, :, start:end] for t in flat), scale=scaling)[0].transpose(0, 1)
        for start, end in zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True)
    ]
    return torch.cat(pieces).view(query.shape[0], query.shape[2], *pieces[0].shape[1:]), None


@pytest.mark.parametrize("positions", ["absolute", "rope"])
def test_flash_kernels_get_the_lengths_of_the_documents(tiny_config, monkeypatch, positions):
    model = AcnModel(tiny_config(position_embedding_type=positions)).double().eval()
    expected = one_by_one(model, documents())
    # no flash kernel runs on a CPU: this stands where it would be called, with its contract
    monkeypatch.setitem(ALL_ATTENTION_FUNCTIONS._global_mapping, "flash_attention_2", varlen_attention)
    model.config._attn_implementation_internal = "flash_attention_2"
    ids, seq_idx, mask = packed(documents(), trailing_padding=4)
    rows = {"input_ids": ids.repeat(2, 1), "seq_idx": seq_idx.repeat(2, 1), "attention_mask": mask.repeat(2, 1)}
    for row in model(**rows).last_hidden_state:
        torch.testing.assert_close(row[: expected.shape[0]], expected, atol=1e-12, rtol=0)


@pytest.mark.parametrize("keyword", ["return_seq_idx", "return_flash_attn_kwargs"])
@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_transformers_flattening_collator_packs(tiny_config, keyword, attention):
    model = AcnForTokenClassification(tiny_config()).double().eval()
    model.set_attn_implementation(attention)
    rows = [{"input_ids": doc.tolist(), "labels": [1] * len(doc)} for doc in documents()]
    batch = DataCollatorWithFlattening(**{keyword: True}, return_tensors="pt")(rows)
    batch.pop("labels")
    expected = one_by_one(model.acn, documents())
    torch.testing.assert_close(model(**batch).logits[0], model.head_logits(expected), atol=1e-12, rtol=0)


def padded(docs):
    """A row for each document."""
    longest = max(map(len, docs))
    ids = torch.stack([F.pad(doc, (0, longest - len(doc))) for doc in docs])
    mask = torch.stack([F.pad(torch.ones_like(doc), (0, longest - len(doc))) for doc in docs])
    return {"input_ids": ids, "attention_mask": mask}


@pytest.mark.parametrize("keyword", ["return_seq_idx", "return_flash_attn_kwargs"])
def test_packed_documents_are_classified_as_padded_ones(tiny_config, keyword):
    """Logits, losses and every parameter's gradient, at every depth; labels in the order of the documents."""
    model = AcnForSequenceClassification(tiny_config(num_labels=3)).double()
    labels = torch.tensor([2, 0, 1])
    rows = [{"input_ids": doc.tolist(), "labels": [1] * len(doc)} for doc in documents()]
    flat = DataCollatorWithFlattening(**{keyword: True}, return_tensors="pt")(rows) | {"labels": labels}
    found = {}
    for name, inputs in (("padded", padded(documents()) | {"labels": labels}), ("flat", flat)):
        model.zero_grad()
        outputs = model(**inputs)
        outputs.loss.backward()
        gradients = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
        inputs.pop("labels")
        with torch.no_grad():
            found[name] = outputs.logits, outputs.loss, gradients, torch.stack(list(model.depth_logits(**inputs)))
    for one, other in zip(*found.values(), strict=True):
        torch.testing.assert_close(one, other, atol=1e-11, rtol=0)


def test_padding_between_packed_documents_is_not_classified(tiny_config):
    model = AcnForSequenceClassification(tiny_config(num_labels=3)).double().eval()
    ids, seq_idx, mask = packed(documents(), trailing_padding=4)
    twice = {"input_ids": ids.repeat(2, 1), "seq_idx": seq_idx.repeat(2, 1), "attention_mask": mask.repeat(2, 1)}
    expected = model(**padded(documents())).logits.repeat(2, 1)
    torch.testing.assert_close(model(**twice).logits, expected, atol=1e-12, rtol=0)
    torch.testing.assert_close(list(model.depth_logits(**twice))[-1], expected, atol=1e-12, rtol=0)


def test_empty_documents_at_the_end_and_a_longer_bound_change_nothing(tiny_config, monkeypatch):
    """What pretraining hands to flash kernels: lengths of a few shapes, and one bound for all batches."""
    model = AcnModel(tiny_config()).double().eval()
    expected = one_by_one(model, documents())

    def within_lengths(*args, **kwargs):
        assert kwargs.pop("max_length_q") == kwargs.pop("max_length_k") == 9
        longest = kwargs["cu_seq_lens_q"].diff().max()
        return varlen_attention(*args, max_length_q=longest, max_length_k=longest, **kwargs)

    monkeypatch.setitem(ALL_ATTENTION_FUNCTIONS._global_mapping, "flash_attention_2", within_lengths)
    bounds = torch.tensor([0, 3, 4, 9, 9, 9], dtype=torch.int32)
    ids, seq_idx, _ = packed(documents())
    lengths = {"cu_seq_lens_q": bounds, "cu_seq_lens_k": bounds, "max_length_q": 9, "max_length_k": 9}
    for attention in ("sdpa", "flash_attention_2"):
        model.config._attn_implementation_internal = attention
        states = model(input_ids=ids, seq_idx=seq_idx, **lengths).last_hidden_state
        torch.testing.assert_close(states[0], expected, atol=1e-12, rtol=0)


def test_masked_positions_of_packed_rows(tiny_config):
    model = AcnForMaskedLM(tiny_config()).double().eval()
    ids, seq_idx, _ = packed(documents())
    expected = model.head_logits(one_by_one(model.acn, documents()))
    positions = torch.tensor([[0, 3, 8]])
    inputs = {"input_ids": ids, "seq_idx": seq_idx, "masked_positions": positions}
    torch.testing.assert_close(model(**inputs).logits[0], expected[positions[0]], atol=1e-12, rtol=0)
    *_, last = model.depth_logits(**inputs)
    assert torch.equal(last, model(**inputs).logits)


@given(st.lists(st.lists(st.integers(1, 6), min_size=1, max_size=5), min_size=1, max_size=3))
@settings(deadline=None, max_examples=60)
def test_documents_lengths_and_positions_agree(rows):
    """Any packing: the three descriptions of it are the same packing."""
    width = max(map(sum, rows))
    rows = [[*row, width - sum(row)] if sum(row) < width else row for row in rows]
    flat = [length for row in rows for length in row]
    index = torch.tensor([i for i, length in enumerate(flat) for _ in range(length)]).view(len(rows), width)
    lengths = lengths_of_documents(index)
    assert lengths["cu_seq_lens_q"].diff().tolist() == flat
    assert lengths["max_length_q"] == max(flat)
    assert torch.equal(documents_of_lengths(lengths["cu_seq_lens_q"], len(rows), width), index)
    assert document_positions(index).flatten().tolist() == [t for length in flat for t in range(length)]


@given(lengths=st.lists(st.integers(1, 5), min_size=1, max_size=3))
@settings(deadline=None, max_examples=20)
def test_any_packing_equals_one_by_one(lengths):
    config = AcnConfig(
        vocab_size=53, hidden_size=8, num_hidden_layers=2, num_attention_heads=2, intermediate_size=12,
        max_position_embeddings=16, initializer_range=0.3,
    )  # fmt: skip
    torch.manual_seed(0)
    model = AcnModel(config).double().eval()
    ids, seq_idx, _ = packed(documents(lengths))
    states = model(input_ids=ids, seq_idx=seq_idx).last_hidden_state[0]
    torch.testing.assert_close(states, one_by_one(model, documents(lengths)), atol=1e-12, rtol=0)
