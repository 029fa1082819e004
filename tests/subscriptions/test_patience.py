"""The time limit of one exchange, without a network."""

import asyncio

import pytest

from durable_streams_server.subscriptions import patience as patience_module
from durable_streams_server.subscriptions.patience import FIRST_BYTE_SECONDS, Patience


def remaining(patience: Patience) -> float:
    """Returns the seconds until the exchange is broken off, rounded to a whole second."""
    assert patience.deadline is not None
    return round(patience.deadline - asyncio.get_running_loop().time())


async def test_exchange_has_30_seconds_until_the_head_comes_and_the_lease_afterwards() -> None:
    patience = Patience(600)
    async with patience.limit():
        assert remaining(patience) == FIRST_BYTE_SECONDS == 30
        patience.head_came()
        assert remaining(patience) == 600


async def test_lease_under_30_seconds_also_limits_the_wait_for_the_head() -> None:
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


async def test_seconds_count_from_the_start_of_the_exchange() -> None:
    patience = Patience(0.2)
    await asyncio.sleep(0.3)
    async with patience.limit():
        await asyncio.sleep(0)


async def test_exchange_is_broken_off_at_the_limit_for_the_first_byte(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(patience_module, "FIRST_BYTE_SECONDS", 0.05)
    with pytest.raises(TimeoutError):
        async with Patience(60).limit():
            await asyncio.sleep(60)


async def test_extending_after_the_end_changes_nothing() -> None:
    patience = Patience(0.01)

    async def run() -> None:
        async with patience.limit():
            try:
                await asyncio.sleep(60)
            finally:
                patience.extend(60)  # the limit has just cancelled this task
                patience.head_came()

    with pytest.raises(TimeoutError):
        await run()
    patience.extend(60)
    patience.head_came()
    assert patience.deadline is None
