"""The loss of the masked positions against torch's cross-entropy in float64."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

import pretrain.step.loss
from pretrain import masked_cross_entropy


def reference(logits: torch.Tensor, labels: torch.Tensor, share: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Loss and gradient by torch, in float64."""
    exact = logits.detach().double().requires_grad_()
    loss = F.cross_entropy(exact.flatten(0, 1), labels.flatten(), reduction="sum") / share
    (gradient,) = torch.autograd.grad(loss, exact)
    return loss.detach(), gradient


@pytest.mark.parametrize(
    ("dtype", "error"), [(torch.float32, 1e-6), (torch.bfloat16, 8e-3), (torch.float16, 1e-3)], ids=str
)
@given(rows=st.integers(1, 9), vocabulary=st.integers(2, 40), at_once=st.integers(1, 200), seed=st.integers(0, 9))
@settings(max_examples=30, deadline=None)
def test_loss_and_gradient_are_torchs(
    dtype: torch.dtype, error: float, rows: int, vocabulary: int, at_once: int, seed: int
) -> None:
    """However many rows are computed at once; a step's loss is divided by its micro-batches and a share of targets."""
    torch.manual_seed(seed)
    logits = (3 * torch.randn(rows, 2, vocabulary)).to(dtype).requires_grad_()
    labels = torch.randint(0, vocabulary, (rows, 2))
    labels[torch.rand(rows, 2) < 0.3] = -100
    share = 7 / 3
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(pretrain.step.loss, "_IN_CACHE", at_once)
        loss = masked_cross_entropy(logits, labels, vocab_size=vocabulary, num_items_in_batch=torch.tensor(share))
        (loss / 3).backward()
    expected, gradient = reference(logits, labels, share)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5, abs=1e-6)
    # a target's own gradient is a probability less one: where that is nearly nothing, the one's rounding is left
    torch.testing.assert_close(logits.grad.double(), gradient / 3, rtol=error, atol=error * 0.1)


def test_without_a_share_it_is_the_mean_over_the_targets() -> None:
    logits, labels = torch.randn(4, 11, requires_grad=True), torch.tensor([3, -100, 0, 10])
    assert masked_cross_entropy(logits, labels).item() == pytest.approx(F.cross_entropy(logits, labels).item())
    assert masked_cross_entropy(logits.detach(), labels).item() == pytest.approx(F.cross_entropy(logits, labels).item())


@pytest.mark.parametrize("scale", [1e3, 3e4])
def test_a_word_that_is_out_of_the_question_costs_what_its_logit_says(scale: float) -> None:
    """Its probability vanishes in fp32, and its logarithm must not be infinite."""
    logits = torch.tensor([[0.0, scale, 0.0]], dtype=torch.bfloat16, requires_grad=True)
    loss = masked_cross_entropy(logits, torch.tensor([0]))
    assert loss.item() == pytest.approx(scale, rel=1e-2)
    loss.backward()
    assert logits.grad.tolist() == [[-1.0, 1.0, 0.0]]


def test_what_is_not_finite_stays_so() -> None:
    logits = torch.tensor([[0.0, float("nan"), 1.0]], requires_grad=True)
    loss = masked_cross_entropy(logits, torch.tensor([0]))
    assert loss.isnan()
    loss.backward()
    assert logits.grad.isnan().any()


def test_a_second_backward_pass_is_refused() -> None:
    logits = torch.randn(2, 5, requires_grad=True)
    loss = masked_cross_entropy(logits, torch.tensor([0, 4]))
    loss.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="once only"):
        loss.backward()
