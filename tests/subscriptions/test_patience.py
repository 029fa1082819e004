"""Tests the time limit of one exchange, without a network."""

import asyncio

import pytest

from durable_streams_server.subscriptions.patience import FIRST_BYTE_SECONDS, Patience
from tests.subscriptions.loop_clock import LoopClock
from tests.subscriptions.services import run_turns


def remaining(patience: Patience) -> float:
    """Returns the seconds until the exchange times out, rounded to a whole second."""
    assert patience.deadline is not None
    return round(patience.deadline - asyncio.get_running_loop().time())


async def test_limit_is_30_seconds_until_the_head_comes_and_the_lease_afterwards() -> None:
    patience = Patience(600)
    async with patience.limit():
        assert remaining(patience) == FIRST_BYTE_SECONDS == 30
        patience.head_came()
        assert remaining(patience) == 600


async def test_short_lease_also_limits_the_wait_for_the_head() -> None:
    patience = Patience(5)
    async with patience.limit():
        assert remaining(patience) == 5
        patience.head_came()
        assert remaining(patience) == 5


async def test_heartbeat_lifts_the_limit_for_the_first_byte() -> None:
    patience = Patience(100)
    async with patience.limit():
        patience.extend(200)
        assert remaining(patience) == 200
        patience.head_came()
        assert remaining(patience) == 200


async def test_heartbeat_before_the_exchange_lifts_the_limit_too() -> None:
    patience = Patience(100)
    patience.extend(200)
    assert patience.deadline is None
    async with patience.limit():
        assert remaining(patience) == 200


async def test_heartbeat_never_shortens_the_limit() -> None:
    patience = Patience(100)
    patience.extend(1)
    async with patience.limit():
        assert remaining(patience) == 100
        patience.extend(1)
        assert remaining(patience) == 100
        patience.head_came()
        patience.extend(300)
        patience.extend(200)
        assert remaining(patience) == 300


async def test_time_counts_from_the_start_of_the_exchange(loop_clock: LoopClock) -> None:
    patience = Patience(10)
    await loop_clock.forward(30)
    async with patience.limit():
        assert remaining(patience) == 10


async def test_exchange_times_out_at_the_limit_for_the_first_byte(loop_clock: LoopClock) -> None:
    async def wait() -> None:
        async with Patience(60).limit():
            await asyncio.get_running_loop().create_future()

    task = asyncio.create_task(wait())
    await run_turns()
    await loop_clock.forward(FIRST_BYTE_SECONDS - 5)
    assert not task.done()
    await loop_clock.forward(10)
    with pytest.raises(TimeoutError):
        await task


async def test_extension_after_the_timeout_has_no_effect() -> None:
    patience = Patience(0.01)

    async def run() -> None:
        async with patience.limit():
            try:
                await asyncio.get_running_loop().create_future()
            finally:
                patience.extend(60)  # the limit has just cancelled this task
                patience.head_came()

    with pytest.raises(TimeoutError):
        await run()
    patience.extend(60)
    patience.head_came()
    assert patience.deadline is None
