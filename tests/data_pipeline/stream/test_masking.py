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
    assert all(problem.field.startswith("masking.") for problem in problems)
    assert MaskingConfig().problems() == []


CONTINUES = np.zeros(1000, dtype=bool)
CONTINUES[500:] = True


def _units(row: list[int]) -> list[list[int]]:
    """Positions of the words of a block, one by one: ids from 500 on continue a word, special ids part words."""
    words: list[list[int]] = []
    for position, token in enumerate(row):
        if token < 5:
            continue
        if token >= 500 and position and row[position - 1] >= 5:
            words[-1].append(position)
        else:
            words.append([position])
    return words


@given(st.integers(0, 2**40), st.integers(0, 30))
def test_whole_words_are_masked_and_at_most_one_of_a_block_is_cut(first: int, seed: int):
    tokens = _blocks(20, seed=seed)
    config = MaskingConfig(unit="word")
    batch = mask_blocks(tokens, first + np.arange(20), seed, config, VOCABULARY, CONTINUES)
    assert (batch.masked_positions.diff(dim=1) > 0).all()
    assert (batch.labels >= 5).all(), "the number of targets stays exact"
    for row, positions in zip(tokens.tolist(), batch.masked_positions.tolist(), strict=True):
        touched = [word for word in _units(row) if set(word) & set(positions)]
        cut = [word for word in touched if not set(word) <= set(positions)]
        assert len(cut) <= 1
        assert all(word[0] in positions for word in cut), "a cut word keeps its beginning"


def test_words_long_and_short_are_equally_likely_to_be_masked():
    tokens = np.full((8000, 62), 7, dtype=np.uint16)
    tokens[:, 0], tokens[:, -1] = 2, 3
    tokens[:, 1:31:3], tokens[:, 2:31:3], tokens[:, 3:31:3] = 9, 600, 601  # ten words of three, thirty of one
    batch = mask_blocks(tokens, np.arange(8000), 0, MaskingConfig(unit="word"), VOCABULARY, CONTINUES)
    count = np.bincount(batch.masked_positions.flatten().numpy(), minlength=62)
    # the cut word keeps its beginning, so compare beginnings
    assert count[1:31:3].mean() == pytest.approx(count[31:61].mean(), rel=0.05)


def test_masking_words_without_knowing_them_is_refused():
    with pytest.raises(ValueError, match=r"masking\.unit=word"):
        mask_blocks(_blocks(1), np.arange(1), 0, MaskingConfig(unit="word"), VOCABULARY)


def test_spans_have_the_asked_mean_length_never_cross_special_tokens_and_are_replaced_together():
    tokens = _blocks(4000, 256)
    config = MaskingConfig(unit="span", span_length=4, probability=0.1)
    batch = mask_blocks(tokens, np.arange(4000), 0, config, VOCABULARY)
    assert (batch.labels >= 5).all()
    runs = (batch.masked_positions.diff(dim=1) > 1).sum(dim=1) + 1
    # neighbouring spans look like one: with a tenth of the tokens chosen, about a tenth of the spans have such a one
    assert (25 / runs.float()).mean().item() == pytest.approx(4, rel=0.25)
    single = mask_blocks(tokens, np.arange(4000), 0, MaskingConfig(probability=0.1), VOCABULARY)
    assert ((single.masked_positions.diff(dim=1) > 1).sum(dim=1) + 1).float().mean() > 2.5 * runs.float().mean()
    is_mask = batch.input_ids.gather(1, batch.masked_positions) == 4
    neighbours = batch.masked_positions.diff(dim=1) == 1
    same = (is_mask[:, 1:] == is_mask[:, :-1])[neighbours].float().mean().item()
    assert same > 0.9, "independent decisions would agree in 0.8**2 + 0.2**2 = 0.68"
    assert is_mask.float().mean().item() == pytest.approx(0.8, abs=0.01)


@given(st.sampled_from(["word", "span"]), st.integers(0, 2**50), st.lists(st.integers(0, 39), min_size=1, max_size=9))
def test_masks_of_words_and_spans_depend_on_seed_and_sample_alone(unit, first: int, rows: list[int]):
    tokens, samples, config = _blocks(40, 32), first + np.arange(40), MaskingConfig(unit=unit)
    together = mask_blocks(tokens, samples, 1, config, VOCABULARY, CONTINUES)
    chosen = mask_blocks(tokens[rows], samples[rows], 1, config, VOCABULARY, CONTINUES)
    for name, tensor in vars(chosen).items():
        assert (tensor == getattr(together, name)[rows]).all()


def test_padded_blocks_have_the_share_of_what_is_not_padding():
    tokens = _blocks(50)
    tokens[:, 22:] = 0
    tokens[25:, 3:] = 0
    batch = mask_blocks(tokens, np.arange(50), 0, MaskingConfig(), VOCABULARY, padded=True)
    assert batch.labels.shape == (50, 19)
    assert ((batch.labels != -100).sum(dim=1)[:25] == 3).all()  # 0.15 * 21
    assert ((batch.labels != -100).sum(dim=1)[25:] == 1).all()
    assert (batch.masked_positions.diff(dim=1) > 0).all()
    hit = batch.masked_positions[batch.labels != -100]
    assert hit[:75].unique().numel() > 15, "any of the tokens, not the first"
    assert (batch.input_ids[:, 22:] == 0).all()


def test_masks_of_a_released_version_never_change():
    """A resumed run continues with the masks it began with, so these numbers are a file format."""
    batch = mask_blocks(_blocks(2, 32), np.array([0, 123456789]), 7, MaskingConfig(), VOCABULARY)
    assert batch.masked_positions.tolist() == GOLDEN_POSITIONS


GOLDEN_POSITIONS = [[1, 8, 11, 15, 28], [12, 13, 18, 27, 28]]


def test_settings_that_came_later_are_part_of_the_identity_only_where_used():
    assert MaskingConfig().identity() == {"probability": 0.15, "mask_fraction": 0.8, "random_fraction": 0.1}
    assert MaskingConfig(unit="word").identity() == MaskingConfig().identity() | {"unit": "word"}
    spans = MaskingConfig(unit="span").identity()
    assert spans == MaskingConfig(unit="span", span_length=3.8).identity()
    assert spans != MaskingConfig(unit="span", span_length=3).identity()


def test_bad_units_and_span_lengths_are_named():
    assert any("masking.unit=letter" in str(problem) for problem in MaskingConfig(unit="letter").problems())
    assert any("needs masking.unit=span" in str(problem) for problem in MaskingConfig(span_length=3).problems())
    assert any("at least 1" in str(problem) for problem in MaskingConfig(unit="span", span_length=0.5).problems())
    assert MaskingConfig(unit="span", span_length=3).problems() == []
