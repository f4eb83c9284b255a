"""What must not change the outputs: padding, company in the batch, dropout at evaluation, precision within bounds."""

import pytest
import torch

from modeling import CONNECTIVITIES, AcnForMaskedLM, AcnModel


def variants(tiny_config):
    for connectivity in CONNECTIVITIES:
        for positions in ("absolute", "rope"):
            yield AcnModel(tiny_config(connectivity=connectivity, position_embedding_type=positions)).double().eval()


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_neither_padding_nor_company_matters(tiny_config, batch, attention):
    for model in variants(tiny_config):
        model.set_attn_implementation(attention)
        together = model(**batch, output_hidden_states=True).hidden_states
        for row, length in enumerate(batch["attention_mask"].sum(1).tolist()):
            alone = {name: value[row : row + 1, :length] for name, value in batch.items()}
            for padded, plain in zip(together, model(**alone, output_hidden_states=True).hidden_states, strict=True):
                torch.testing.assert_close(padded[row : row + 1, :length], plain, atol=1e-12, rtol=0)


def test_what_stands_in_padding_does_not_matter(tiny_config, batch):
    scrambled = dict(batch)
    scrambled["input_ids"] = torch.where(batch["attention_mask"] == 1, batch["input_ids"], 7)
    kept = batch["attention_mask"].bool()
    assert not torch.equal(scrambled["input_ids"], batch["input_ids"])
    for model in variants(tiny_config):
        first, second = (model(**inputs).last_hidden_state[kept] for inputs in (batch, scrambled))
        torch.testing.assert_close(first, second, atol=1e-12, rtol=0)


@pytest.mark.parametrize("connectivity", CONNECTIVITIES)
def test_bf16_stays_near_fp32(tiny_config, batch, connectivity):
    """bf16 has 8 bits: relative steps of 2^-8. LayerNorm keeps each x_k at norm sqrt(H), errors add up over layers."""
    config = tiny_config(connectivity=connectivity, hidden_size=48, intermediate_size=96, initializer_range=0.05)
    model = AcnModel(config).eval()
    exact = model(**batch, output_hidden_states=True).hidden_states
    rounded = model.bfloat16()(**batch, output_hidden_states=True).hidden_states
    for depth, (x, y) in enumerate(zip(exact, rounded, strict=True)):
        error = (x - y.float()).norm() / x.norm()
        assert 0 < error < (depth + 1) * 2**-7, f"depth {depth}: {error}"


def test_the_same_seed_gives_the_same_model_loss_and_gradients(tiny_config, batch):
    runs = []
    for _ in range(2):
        torch.manual_seed(5)
        model = AcnForMaskedLM(tiny_config(hidden_dropout_prob=0.1, attention_probs_dropout_prob=0.1)).train()
        loss = model(**batch, labels=batch["input_ids"]).loss
        loss.backward()
        runs.append([loss.detach(), *(p.grad for p in model.parameters())])
    assert all(torch.equal(a, b) for a, b in zip(*runs, strict=True))


def test_dropouts_are_on_in_training_only(tiny_config, batch):
    for field in ("hidden_dropout_prob", "attention_probs_dropout_prob"):
        model = AcnModel(tiny_config(**{field: 0.5}))
        model.eval()
        assert torch.equal(model(**batch).last_hidden_state, model(**batch).last_hidden_state)
        model.train()
        assert not torch.equal(model(**batch).last_hidden_state, model(**batch).last_hidden_state)
    model = AcnModel(tiny_config()).train()  # the defaults are 0
    assert torch.equal(model(**batch).last_hidden_state, model(**batch).last_hidden_state)


@pytest.mark.parametrize("connectivity", CONNECTIVITIES)
def test_gradient_checkpointing_gives_the_same_gradients(tiny_config, batch, connectivity):
    model = AcnForMaskedLM(tiny_config(connectivity=connectivity, position_embedding_type="rope")).train()
    gradients = []
    for checkpointing in (False, True):
        if checkpointing:
            model.gradient_checkpointing_enable()
        model.zero_grad()
        model(**batch, labels=batch["input_ids"]).loss.backward()
        gradients.append([p.grad.clone() for p in model.parameters()])
    for plain, checkpointed in zip(*gradients, strict=True):
        torch.testing.assert_close(plain, checkpointed)


ALL_NEW = {"connectivity": "hybrid", "position_embedding_type": "rope", "gated_mlp": True}


@pytest.mark.slow  # compilers take their time
@pytest.mark.parametrize(("fields", "kind"), [({}, "masked positions"), ({}, "labels"), (ALL_NEW, "packed")])
def test_the_model_compiles_without_graph_breaks(tiny_config, batch, fields, kind):
    model = AcnForMaskedLM(tiny_config(**fields)).train()
    positions = torch.tensor([[0, 4], [1, 5], [0, 2]])
    labels = torch.where(batch["attention_mask"] == 1, batch["input_ids"], -100)
    inputs = {
        "masked positions": batch | {"masked_positions": positions, "labels": labels.gather(1, positions)},
        "labels": batch | {"labels": labels},
        "packed": batch | {"labels": labels, "seq_idx": torch.tensor([[0, 0, 0, 1, 1, 1, 1, 2, 2]] * 3)},
    }[kind]
    torch.compiler.reset()
    losses, gradients = [], []
    for forward in (model, torch.compile(model, fullgraph=True)):
        model.zero_grad()
        loss = forward(**inputs).loss
        loss.backward()
        losses.append(loss.detach())
        gradients.append(torch.cat([p.grad.flatten() for p in model.parameters()]))
    torch.testing.assert_close(*losses)
    assert (gradients[0] - gradients[1]).norm() < 1e-4 * gradients[0].norm()
