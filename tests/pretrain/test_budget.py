"""The course of a run as pure functions: budgets, batches, rates."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pretrain.budget import BatchWarmupConfig, Branch, Budget, Plan, TrainingClock
from pretrain.optim.schedule import ScheduleConfig


@st.composite
def batches(draw) -> tuple[int, BatchWarmupConfig]:
    """A global batch size and a warm-up that fits it."""
    start, times = draw(st.integers(1, 6)), draw(st.integers(2, 9))
    warmup = BatchWarmupConfig(start=start, steps=draw(st.integers(times - 1, 40)))
    return start * times, draw(st.sampled_from([warmup, BatchWarmupConfig()]))


def plan(sizes: tuple[int, BatchWarmupConfig], **fields) -> Plan:
    return Plan(global_batch_size=sizes[0], batch_warmup=sizes[1], peak_rate=1.0, **fields)


@given(batches(), st.integers(0, 60))
def test_the_samples_before_a_step_are_the_sum_of_the_batches_before_it(sizes, step):
    course = plan(sizes, steps=100)
    assert not sizes[1].problems(sizes[0])
    assert course.samples(step) == sum(course.batch(before) for before in range(step))


@given(batches())
def test_batches_grow_by_the_first_one_up_to_the_global_batch(sizes):
    course = plan(sizes, steps=100)
    seen = [course.batch(step) for step in range(60)]
    assert seen == sorted(seen)
    assert set(seen) == (set(range(sizes[1].start, sizes[0] + 1, sizes[1].start)) if sizes[1].start else {sizes[0]})
    assert [size == sizes[0] for size in seen] == [step >= sizes[1].steps for step in range(60)]


@given(batches(), st.integers(0, 2000))
def test_a_budget_of_samples_is_used_up_to_less_than_one_batch(sizes, samples):
    course = plan(sizes, steps=1)
    steps = course.steps_within(samples)
    assert course.samples(steps) <= samples < course.samples(steps + 1)


def test_the_smaller_batches_share_the_warm_up_equally():
    course = Plan(8, 1.0, steps=10, batch_warmup=BatchWarmupConfig(start=2, steps=6))
    assert [course.batch(step) for step in range(8)] == [2, 2, 4, 4, 6, 6, 8, 8]


SCHEDULES = [
    ScheduleConfig(0.5),
    ScheduleConfig(0.1, name="cosine"),
    ScheduleConfig(0.1, name="cosine", min_fraction=0.1),
    ScheduleConfig(0.1, name="wsd"),
    ScheduleConfig(0.3, name="wsd", decay_fraction=0.7, decay_shape="sqrt"),
    ScheduleConfig(0.0, name="wsd", decay_fraction=1.0, decay_shape="cosine"),
]


@given(st.sampled_from(SCHEDULES), st.integers(1, 300))
def test_every_step_has_a_rate_up_to_the_peak_that_rises_and_then_never_rises_again(schedule, steps):
    course = Plan(8, 2.0, steps=steps, schedule=schedule)
    rates = [course.rate(step, 0.0) for step in range(steps)]
    assert all(0 < rate <= 2 for rate in rates)
    assert max(rates) == 2
    top = rates.index(2)
    assert rates[: top + 1] == sorted(rates[: top + 1])
    assert rates[top:] == sorted(rates[top:], reverse=True)
    assert not course.finished(steps - 1, 0.0)
    assert course.finished(steps, 0.0)


@given(
    st.sampled_from(SCHEDULES),
    st.floats(1, 1e6),
    st.lists(st.floats(0, 1, exclude_max=True), min_size=2, max_size=30).map(sorted),
)
def test_an_hours_budget_moves_along_the_same_schedule_by_the_clock(schedule, budget, fractions):
    course = Plan(8, 2.0, seconds=budget, schedule=schedule)
    for step, fraction in enumerate(fractions):
        rate = course.rate(step, fraction * budget)
        assert 0 < rate <= 2
        steps = Plan(8, 2.0, steps=1_000_000, schedule=schedule)
        assert rate == pytest.approx(steps.rate(int(fraction * 1_000_000), 0.0), abs=0.1)
    assert course.finished(3, budget)
    assert not course.finished(10**9, budget * 0.999)


@given(st.sampled_from(["linear", "cosine", "sqrt"]), st.integers(1, 50), st.integers(1, 50))
def test_a_decay_goes_on_below_the_rate_it_started_from_and_ends_above_zero(shape, at, more):
    schedule = ScheduleConfig(name="decay", decay_shape=shape)
    course = Plan(8, 1.0, steps=at + more, schedule=schedule, branch=Branch(step=at, rate=0.25))
    rates = [course.rate(step, 0.0) for step in range(at, at + more)]
    assert rates == sorted(rates, reverse=True)
    assert all(0 < rate < 0.25 for rate in rates)


def test_a_linear_decay_takes_equal_steps_to_zero():
    course = Plan(8, 1.0, steps=13, schedule=ScheduleConfig(name="decay"), branch=Branch(step=10, rate=0.4))
    assert [course.rate(step, 0.0) for step in (10, 11, 12)] == pytest.approx([0.3, 0.2, 0.1])


def test_wsd_holds_the_peak_between_warm_up_and_decay():
    course = Plan(8, 1.0, steps=10, schedule=ScheduleConfig(0.2, name="wsd", decay_fraction=0.4))
    rates = [course.rate(step, 0.0) for step in range(10)]
    assert rates == pytest.approx([0.5, 1, 1, 1, 1, 1, 0.8, 0.6, 0.4, 0.2])


def test_cosine_is_half_way_down_in_the_middle_and_ends_near_its_floor():
    course = Plan(8, 1.0, steps=1000, schedule=ScheduleConfig(0.0, name="cosine", min_fraction=0.1))
    assert course.rate(500, 0.0) == pytest.approx(0.55, abs=0.01)
    assert course.rate(999, 0.0) == pytest.approx(0.1, abs=1e-4)


@pytest.mark.parametrize(("budget", "samples"), [(Budget(tokens=1000), 62), (Budget(epochs=1.5), 150)])
def test_tokens_and_epochs_are_whole_blocks(budget, samples):
    assert budget.samples(blocks=100, seq_length=16) == samples


def test_a_run_has_exactly_one_budget():
    assert Budget(hours=1.5).problems() == []
    both = map(str, Budget(steps=100, tokens=1e9).problems())
    assert list(both) == [
        "steps=100 and tokens=1000000000.0 are several budgets, a run has one: for tokens add --steps null"
    ]
    assert "set one of them" in str(Budget().problems()[0])
    assert list(map(str, Budget(epochs=0).problems())) == ["epochs=0 must be above 0"]


@pytest.mark.parametrize(
    ("warmup", "message"),
    [
        (BatchWarmupConfig(steps=5), "needs batch_warmup.start"),
        (BatchWarmupConfig(start=3, steps=5), "must divide global_batch_size=8"),
        (BatchWarmupConfig(start=8, steps=5), "must divide global_batch_size=8 and be smaller"),
        (BatchWarmupConfig(start=2, steps=2), "batch_warmup.steps=2 must be at least 3"),
    ],
)
def test_a_batch_warm_up_that_does_not_fit_is_named(warmup, message):
    assert message in str(warmup.problems(global_batch_size=8)[0])


def test_the_clock_goes_on_after_a_restart():
    began = time.monotonic()
    seconds = TrainingClock(3600.0).seconds()
    assert 3600 <= seconds <= 3600 + time.monotonic() - began
