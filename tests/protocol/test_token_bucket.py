"""The arithmetic of token buckets."""

from hypothesis import given
from hypothesis import strategies as st

from durable_streams_server.protocol.token_bucket import (
    BURST,
    pay,
    time_of,
    wait_for,
    whole_seconds,
)
from durable_streams_server.protocol.units import NANOSECONDS

times = st.integers(0, 10**18)
costs = st.integers(0, 20 * BURST)
rates = st.integers(1, 10**9)


def test_full_bucket_pays_exactly_its_burst_at_once() -> None:
    full_at, now, cost = 0, 7, time_of(1, 10)
    for _ in range(50):  # 10 a second for 5 seconds
        assert wait_for(full_at, now, cost) == 0
        full_at = pay(full_at, now, cost)
    assert wait_for(full_at, now, cost) == cost
    assert wait_for(full_at, now + cost - 1, cost) == 1
    assert wait_for(full_at, now + cost, cost) == 0


def test_full_bucket_pays_cost_above_its_burst_and_is_then_in_debt() -> None:
    cost = time_of(100, 1)
    assert wait_for(0, 0, cost) == 0
    full_at = pay(0, 0, cost)
    assert whole_seconds(wait_for(full_at, 0, time_of(1, 1))) == 96  # 100 - 5 + 1
    assert whole_seconds(wait_for(full_at, 0, cost)) == 100


def test_rate_below_one_in_a_burst_lets_one_pass_at_a_time() -> None:
    cost = time_of(6, 1)  # as for one append in six seconds
    full_at = pay(0, 0, cost)
    assert whole_seconds(wait_for(full_at, 0, cost)) == 6


def test_seconds_are_rounded_up() -> None:
    assert [whole_seconds(wait) for wait in (1, NANOSECONDS, NANOSECONDS + 1)] == [1, 1, 2]


@given(times, times, costs)
def test_cost_can_be_paid_exactly_after_the_wait(full_at: int, now: int, cost: int) -> None:
    wait = wait_for(full_at, now, cost)
    assert wait_for(full_at, now + wait, cost) == 0
    if wait:
        assert wait_for(full_at, now + wait - 1, cost) == 1
        assert wait_for(full_at, now + whole_seconds(wait) * NANOSECONDS, cost) == 0


@given(st.lists(st.tuples(st.integers(0, 2 * BURST), st.integers(0, 1000)), max_size=50), rates)
def test_long_term_rate_is_never_exceeded(steps: list[tuple[int, int]], rate: int) -> None:
    """In any time, a bucket pays at most its burst and what is refilled, besides one cost above the burst."""
    full_at = now = paid = 0
    largest = 0
    for pause, amount in steps:
        now += pause
        cost = time_of(amount, rate)
        if wait_for(full_at, now, cost) == 0:
            full_at = pay(full_at, now, cost)
            paid += cost
            largest = max(largest, cost)
    assert paid <= now + max(BURST, largest)


@given(full_at=times, late=times, cost=costs)
def test_bucket_that_is_full_again_is_like_a_new_one(full_at: int, late: int, cost: int) -> None:
    now = full_at + late
    assert wait_for(full_at, now, cost) == wait_for(0, now, cost) == 0
    assert pay(full_at, now, cost) == pay(0, now, cost)
