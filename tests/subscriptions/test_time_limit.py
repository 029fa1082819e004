"""Tests the time limit of one exchange, without a network."""

import asyncio

import pytest

from durable_streams_server.subscriptions.time_limit import FIRST_BYTE_SECONDS, TimeLimit
from tests.subscriptions.loop_clock import LoopClock
from tests.subscriptions.services import run_turns


def remaining(time_limit: TimeLimit) -> float:
    """Returns the seconds until the exchange times out, rounded to a whole second."""
    assert time_limit.deadline is not None
    return round(time_limit.deadline - asyncio.get_running_loop().time())


async def test_time_limit_is_30_seconds_until_response_headers_arrive() -> None:
    time_limit = TimeLimit(600)
    async with time_limit.enforce():
        assert remaining(time_limit) == FIRST_BYTE_SECONDS == 30
        time_limit.head_received()
        assert remaining(time_limit) == 600


async def test_short_lease_also_limits_wait_for_response_headers() -> None:
    time_limit = TimeLimit(5)
    async with time_limit.enforce():
        assert remaining(time_limit) == 5
        time_limit.head_received()
        assert remaining(time_limit) == 5


async def test_heartbeat_removes_limit_for_first_byte() -> None:
    time_limit = TimeLimit(100)
    async with time_limit.enforce():
        time_limit.extend(200)
        assert remaining(time_limit) == 200
        time_limit.head_received()
        assert remaining(time_limit) == 200


async def test_heartbeat_before_exchange_also_removes_limit_for_first_byte() -> None:
    time_limit = TimeLimit(100)
    time_limit.extend(200)
    assert time_limit.deadline is None
    async with time_limit.enforce():
        assert remaining(time_limit) == 200


async def test_heartbeat_never_shortens_the_limit() -> None:
    time_limit = TimeLimit(100)
    time_limit.extend(1)
    async with time_limit.enforce():
        assert remaining(time_limit) == 100
        time_limit.extend(1)
        assert remaining(time_limit) == 100
        time_limit.head_received()
        time_limit.extend(300)
        time_limit.extend(200)
        assert remaining(time_limit) == 300


async def test_time_limit_counts_from_start_of_exchange(loop_clock: LoopClock) -> None:
    time_limit = TimeLimit(10)
    await loop_clock.forward(30)
    async with time_limit.enforce():
        assert remaining(time_limit) == 10


async def test_exchange_times_out_at_the_limit_for_the_first_byte(loop_clock: LoopClock) -> None:
    async def wait() -> None:
        async with TimeLimit(60).enforce():
            await asyncio.get_running_loop().create_future()

    task = asyncio.create_task(wait())
    await run_turns()
    await loop_clock.forward(FIRST_BYTE_SECONDS - 5)
    assert not task.done()
    await loop_clock.forward(10)
    with pytest.raises(TimeoutError):
        await task


async def test_extension_after_the_timeout_has_no_effect() -> None:
    time_limit = TimeLimit(0.01)

    async def run() -> None:
        async with time_limit.enforce():
            try:
                await asyncio.get_running_loop().create_future()
            finally:
                time_limit.extend(60)  # the time limit has just cancelled this task
                time_limit.head_received()

    with pytest.raises(TimeoutError):
        await run()
    time_limit.extend(60)
    time_limit.head_received()
    assert time_limit.deadline is None
