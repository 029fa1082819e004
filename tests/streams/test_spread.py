"""Calls that are spread over some seconds."""

import asyncio
from itertools import cycle

import pytest

from durable_streams_server.streams.spread import Spread

SECONDS = 0.3


async def until_empty(spread: Spread[int]) -> None:
    async with asyncio.timeout(5):
        while len(spread):  # noqa: ASYNC110  # the calls follow the clock
            await asyncio.sleep(0.005)


async def test_calls_are_spread_evenly_in_random_order() -> None:
    loop, called = asyncio.get_running_loop(), []
    began = loop.time()
    spread = Spread(range(300), SECONDS, lambda number: called.append((loop.time(), number)))
    await until_empty(spread)
    numbers = [number for _, number in called]
    assert sorted(numbers) == list(range(300))
    assert numbers != sorted(numbers)
    # No third of the time has many more calls than another, and the last call is near the end.
    early = sum(at - began < SECONDS / 3 for at, _ in called)
    assert 60 <= early <= 140
    assert called[-1][0] - began > SECONDS * 0.9


async def test_single_call_waits_for_random_part_of_the_time() -> None:
    called: list[int] = []
    spread = Spread([1], 60, called.append, cycle([0.9999999]).__next__)
    assert called == []
    await asyncio.sleep(0.03)
    assert called == [1]
    assert len(spread) == 0


async def test_cancelled_spread_makes_no_further_calls() -> None:
    called: list[int] = []
    spread = Spread([1, 2], 0.05, called.append, lambda: 0.0)
    spread.cancel()
    later = Spread([3], 0.1, called.append, lambda: 0.0)
    await until_empty(later)
    assert called == [3]


async def test_exception_in_a_call_is_logged_and_other_calls_follow(
    caplog: pytest.LogCaptureFixture,
) -> None:
    called: list[int] = []

    def call(number: int) -> None:
        called.append(number)
        raise ValueError(f"number {number}")

    await until_empty(Spread([1, 2], 0.01, call))
    assert sorted(called) == [1, 2]
    assert caplog.text.count("a step of a drain failed") == 2
