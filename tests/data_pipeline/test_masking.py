import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from data_pipeline import MaskingConfig, Vocabulary, mask_blocks

VOCABULARY = Vocabulary("", 1000, 4, 0, 2, 3, 1, (0, 1, 2, 3, 4))


def _blocks(count: int, length: int = 128, seed: int = 0) -> np.ndarray:
    tokens = np.random.default_rng(seed).integers(5, 1000, (count, length)).astype(np.uint16)
    tokens[:, 0], tokens[:, -1], tokens[:, length // 2] = 2, 3, 3
    return tokens


def test_every_block_has_exactly_the_same_number_of_ascending_targets():
    tokens = _blocks(300)
    batch = mask_blocks(tokens, np.arange(300), 0, MaskingConfig(), VOCABULARY)
    assert batch.masked_positions.shape == batch.labels.shape == (300, 19)  # 0.15 * 126
    assert (batch.masked_positions.diff(dim=1) > 0).all()
    assert (batch.labels >= 5).all(), "special tokens are never targets"
    assert {tensor.dtype for tensor in vars(batch).values()} == {torch.int64}


def test_labels_are_the_true_tokens_and_nothing_else_changes():
    tokens = _blocks(50)
    batch = mask_blocks(tokens, np.arange(50), 3, MaskingConfig(), VOCABULARY)
    original = torch.from_numpy(tokens.astype(np.int64))
    assert (original.gather(1, batch.masked_positions) == batch.labels).all()
    restored = batch.input_ids.scatter(1, batch.masked_positions, batch.labels)
    assert (restored == original).all()


@given(st.integers(0, 2**50), st.integers(0, 1000), st.lists(st.integers(0, 39), min_size=1, max_size=20))
def test_a_mask_depends_on_seed_and_sample_alone(first_sample: int, seed: int, rows: list[int]):
    tokens, samples = _blocks(40, 32), first_sample + np.arange(40)
    together = mask_blocks(tokens, samples, seed, MaskingConfig(), VOCABULARY)
    chosen = mask_blocks(tokens[rows], samples[rows], seed, MaskingConfig(), VOCABULARY)
    for name, tensor in vars(chosen).items():
        assert (tensor == getattr(together, name)[rows]).all()


def test_samples_and_seeds_have_different_masks():
    tokens = np.repeat(_blocks(1), 100, axis=0)
    positions = [
        mask_blocks(tokens, np.arange(100), seed, MaskingConfig(), VOCABULARY).masked_positions for seed in (0, 1)
    ]
    assert len({tuple(row) for row in torch.cat(positions).tolist()}) == 200


def test_positions_are_uniform_and_replacements_80_10_10():
    tokens = _blocks(20000, 34)
    batch = mask_blocks(tokens, np.arange(20000), 0, MaskingConfig(), VOCABULARY)
    count = np.bincount(batch.masked_positions.flatten().numpy(), minlength=34)
    ordinary = np.delete(count, [0, 17, 33])
    assert count[[0, 17, 33]].sum() == 0
    expected = 20000 * 5 / 31
    assert np.abs(ordinary - expected).max() < 5 * expected**0.5
    seen = batch.input_ids.gather(1, batch.masked_positions)
    is_mask, is_same = seen == 4, seen == batch.labels
    assert is_mask.float().mean().item() == pytest.approx(0.8, abs=0.005)
    assert is_same.float().mean().item() == pytest.approx(0.1 + 0.1 / 995, abs=0.004)
    random = seen[~is_mask & ~is_same]
    assert random.min() >= 5, "special tokens are never drawn"
    assert random.unique().numel() > 990
    # the replacement must not depend on where in the block a token stands
    assert np.corrcoef(batch.masked_positions.flatten(), is_mask.flatten())[0, 1] == pytest.approx(0, abs=0.02)


def test_spare_slots_of_blocks_with_few_ordinary_tokens_are_ignored():
    tokens = np.full((2, 20), 3, dtype=np.uint16)
    tokens[0, 7] = 99
    batch = mask_blocks(tokens, np.array([5, 6]), 0, MaskingConfig(probability=0.2), VOCABULARY)
    assert batch.labels[0].tolist().count(-100) == 3
    assert batch.labels[0][batch.masked_positions[0] == 7].tolist() == [99]
    assert (batch.labels[1] == -100).all()
    assert (batch.input_ids[1] == 3).all()
    assert (batch.masked_positions.diff(dim=1) > 0).all()


def test_mask_and_random_fractions_are_obeyed_at_their_limits():
    tokens = _blocks(20)
    for mask, random in ((1.0, 0.0), (0.0, 0.0)):
        batch = mask_blocks(tokens, np.arange(20), 0, MaskingConfig(0.15, mask, random), VOCABULARY)
        seen = batch.input_ids.gather(1, batch.masked_positions)
        assert (seen == (4 if mask else batch.labels)).all()


@pytest.mark.parametrize(("length", "targets"), [(128, 19), (64, 9), (3, 1), (512, 77)])
def test_number_of_targets_rounds_the_share_of_inner_tokens(length: int, targets: int):
    assert MaskingConfig().targets(length) == targets


def test_all_bad_settings_are_reported_together_by_name():
    problems = MaskingConfig(probability=1.5, mask_fraction=-1, random_fraction=3).problems()
    assert len(problems) == 4
    assert all("masking." in problem for problem in problems)
    assert MaskingConfig().problems() == []
