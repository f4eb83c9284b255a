"""Quantities read as a person writes them."""

import pytest

from data_pipeline import duration


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0s"), (0.4, "0s"), (59.6, "1m00s"), (200, "3m20s"), (3723, "1h02m"), (7500, "2h05m")]
)
def test_durations_read_as_a_person_writes_them(seconds: float, text: str) -> None:
    assert duration(seconds) == text
