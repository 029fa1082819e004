"""Calls that are spread over some seconds."""

from itertools import cycle

import pytest

from durable_streams_server.streams.spread import Spread
from tests.loop_clock import LoopClock

SECONDS = 3.0


@pytest.fixture
async def clock(monkeypatch: pytest.MonkeyPatch) -> LoopClock:
    return LoopClock(monkeypatch)


async def test_calls_are_spread_evenly_in_random_order(clock: LoopClock) -> None:
    called: list[int] = []
    spread = Spread(range(300), SECONDS, called.append)
    for third in (100, 200, 300):
        await clock.forward(SECONDS / 3)
        # A round every 20 ms makes the calls that are due.
        assert third - 4 <= len(called) <= third + 1
    await clock.forward(0.1)
    assert len(spread) == 0
    assert sorted(called) == list(range(300))
    assert called != sorted(called)


async def test_single_call_waits_for_random_part_of_the_time(clock: LoopClock) -> None:
    called: list[int] = []
    Spread([1], 60, called.append, cycle([0.25]).__next__)
    await clock.forward(44)
    assert called == []
    await clock.forward(2)
    assert called == [1]


async def test_cancelled_spread_makes_no_further_calls(clock: LoopClock) -> None:
    called: list[int] = []
    spread = Spread([1, 2], 10, called.append, lambda: 0.0)
    await clock.forward(6)
    assert len(called) == 1
    spread.cancel()
    await clock.forward(6)
    assert len(called) == 1
    assert len(spread) == 0


async def test_exception_in_a_call_is_logged_and_other_calls_follow(
    clock: LoopClock, caplog: pytest.LogCaptureFixture
) -> None:
    called: list[int] = []

    def call(number: int) -> None:
        called.append(number)
        raise ValueError(f"number {number}")

    Spread([1, 2], 1, call)
    await clock.forward(2)
    assert sorted(called) == [1, 2]
    assert caplog.text.count("a step of a drain failed") == 2
