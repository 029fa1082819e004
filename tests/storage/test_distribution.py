"""`Distribution` counts each value in the first bucket whose bound is not smaller."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from durable_streams_server.storage.distribution import (
    LONG_SECONDS,
    NUMBERS,
    SHORT_SECONDS,
    Distribution,
)


def test_value_at_a_bound_belongs_to_its_bucket() -> None:
    seen = Distribution((1, 2))
    for value in (0, 1, 1.5, 2, 2.5):
        seen.add(value)
    assert seen.counts == [2, 2, 1]
    assert seen.total == 7


@given(st.lists(st.floats(0, 100)))
def test_counts_below_each_bound_are_right(values: list[float]) -> None:
    seen = Distribution(LONG_SECONDS)
    for value in values:
        seen.add(value)
    for index, bound in enumerate(seen.bounds):
        assert sum(seen.counts[: index + 1]) == sum(value <= bound for value in values)
    assert sum(seen.counts) == len(values)


@pytest.mark.parametrize("bounds", [SHORT_SECONDS, LONG_SECONDS, NUMBERS])
def test_bounds_ascend(bounds: tuple[float, ...]) -> None:
    assert list(bounds) == sorted(set(bounds))
