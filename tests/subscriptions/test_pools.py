"""Tests that each receiver has its own connection pool, and when pools are closed."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest
from httpcore2._async.http11 import AsyncHTTP11Connection

from durable_streams_server.subscriptions import pools as pools_module
from durable_streams_server.subscriptions.client import WebhookClient
from durable_streams_server.subscriptions.network import DeliveryFailed
from durable_streams_server.subscriptions.pools import (
    IDLE_SECONDS,
    MAX_CONNECTIONS,
    MAX_IDLE_CONNECTIONS,
    Pools,
    Receiver,
)
from durable_streams_server.subscriptions.time_limit import TimeLimit
from tests.subscriptions.connections import (
    CountingNetwork,
    idle_connections,
    wait_until_closed,
)
from tests.subscriptions.exchanges import LOCAL, never_answer
from tests.subscriptions.loop_clock import LoopClock
from tests.subscriptions.receivers import OK, LoopbackNetwork, receiver
from tests.subscriptions.services import run_turns, wait_until

OTHER = Receiver("http", "127.0.1.2", 80)


def url(number: int) -> str:
    return f"http://127.0.1.{number}/"


async def post(client: WebhookClient, number: int, seconds: float = 10) -> int:
    return (await client.post(url(number), b"{}", [], TimeLimit(seconds))).status


@asynccontextmanager
async def client_of(network: LoopbackNetwork) -> AsyncIterator[WebhookClient]:
    client = WebhookClient(LOCAL, network=network)
    try:
        yield client
    finally:
        await client.aclose()


async def test_connections_to_other_receivers_do_not_slow_exchange(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looks = 0
    is_closed, has_expired = AsyncHTTP11Connection.is_closed, AsyncHTTP11Connection.has_expired

    def counted_is_closed(self: AsyncHTTP11Connection) -> bool:
        nonlocal looks
        looks += 1
        return is_closed(self)

    def counted_has_expired(self: AsyncHTTP11Connection) -> bool:
        nonlocal looks
        looks += 1
        return has_expired(self)

    monkeypatch.setattr(AsyncHTTP11Connection, "is_closed", counted_is_closed)
    monkeypatch.setattr(AsyncHTTP11Connection, "has_expired", counted_has_expired)
    async with receiver() as quick, client_of(LoopbackNetwork(quick.port)) as client:
        counts = []
        for others in (0, 10, 20):
            await asyncio.gather(*(post(client, 2 + n) for n in range(others)))
            await post(client, 1)
            looks = 0
            await post(client, 1)
            counts.append(looks)
        assert counts[0] > 0
        assert counts == [counts[0]] * 3


async def test_concurrent_exchanges_with_one_receiver_share_a_pool() -> None:
    pools = Pools(ssl.create_default_context(), LoopbackNetwork(0))
    here = Receiver("http", "127.0.0.1", 80)
    with pools.use(here) as first:
        with pools.use(here) as second:
            assert first is second
        with pools.use(here) as third:  # the first exchange still uses it
            assert first is third
    for other in (here._replace(scheme="https"), here._replace(port=81), here._replace(host="h")):
        with pools.use(here) as first, pools.use(other) as second:
            assert first is not second
    await pools.aclose()


async def test_connection_pool_leaves_limited_number_of_connections_idle() -> None:
    together = asyncio.Barrier(MAX_CONNECTIONS)

    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await together.wait()
        writer.write(OK)

    async with receiver(answer) as it:
        network = CountingNetwork(it.port)
        async with client_of(network) as client:
            await asyncio.gather(*(post(client, 1) for _ in range(MAX_CONNECTIONS)))
            await run_turns()
            assert network.open == idle_connections(client) == MAX_IDLE_CONNECTIONS


async def test_idle_pool_is_closed_after_its_idle_time(loop_clock: LoopClock) -> None:
    async with receiver() as it:
        network = CountingNetwork(it.port)
        async with client_of(network) as client:
            before = asyncio.all_tasks()
            await post(client, 1)
            await loop_clock.forward(IDLE_SECONDS * 2 / 3)
            await post(client, 2)
            assert network.open == 2
            await loop_clock.forward(IDLE_SECONDS * 2 / 3)
            await wait_until(lambda: network.open == 1)
            assert client._pools._idle.keys() == {OTHER}
            await loop_clock.forward(IDLE_SECONDS)
            await wait_until(lambda: network.open == 0)
            await wait_until_closed(it, 0)
            await run_turns()
            assert client._pools._timer is None
            assert not client._pools._idle
            assert asyncio.all_tasks() - before <= set(it._tasks)


async def test_exchange_restarts_the_idle_time_of_its_pool(loop_clock: LoopClock) -> None:
    async with receiver() as it:
        network = CountingNetwork(it.port)
        async with client_of(network) as client:
            for _ in range(4):
                await post(client, 1)
                await loop_clock.forward(IDLE_SECONDS * 2 / 3)
            assert it.connections == 1
            await loop_clock.forward(IDLE_SECONDS)
            await wait_until(lambda: network.open == 0)


async def test_pool_in_use_is_not_closed(loop_clock: LoopClock) -> None:
    ask = asyncio.Event()

    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await ask.wait()
        writer.write(OK)

    async with receiver(answer) as slow:
        network = CountingNetwork(slow.port)
        async with client_of(network) as client:
            ask.set()
            await post(client, 1)
            await post(client, 2)
            ask.clear()
            long = asyncio.create_task(post(client, 1, 600))  # uses the idle pool again
            await wait_until(lambda: client._pools._idle.keys() == {OTHER})
            await loop_clock.forward(IDLE_SECONDS + 5)
            await wait_until(lambda: network.open == 1)  # the other pool has been closed
            await run_turns()
            assert network.open == 1
            ask.set()
            assert await long == 200
            assert slow.connections == 2


async def test_oldest_idle_pool_is_closed_when_there_are_too_many(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pools_module, "MAX_IDLE_POOLS", 3)
    async with receiver() as it:
        network = CountingNetwork(it.port)
        async with client_of(network) as client:
            for number in (1, 2, 3, 1, 4, 5):
                await post(client, number)
            await run_turns()
            assert [key.host for key in client._pools._idle] == [
                "127.0.1.1",
                "127.0.1.4",
                "127.0.1.5",
            ]
            assert network.open == 3


async def test_exchange_opens_a_new_pool_while_the_old_one_is_closing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pools_module, "MAX_IDLE_POOLS", 0)
    async with receiver() as it:
        network = CountingNetwork(it.port)
        async with client_of(network) as client:
            for _ in range(5):  # each pool is being closed as the next exchange begins
                assert await post(client, 1) == 200
            assert it.connections == 5
            await run_turns()
            assert network.open == 0


async def test_failed_exchange_keeps_no_idle_pool() -> None:
    async with receiver(never_answer) as it, client_of(CountingNetwork(it.port)) as client:
        for number in range(1, 4):
            with pytest.raises(DeliveryFailed):
                await post(client, number, 0.02)
        assert not client._pools._idle
        assert client._pools._timer is None


@pytest.mark.parametrize("steps", range(0, 40, 3))
async def test_close_at_any_step_leaves_no_connection_and_no_task(steps: int) -> None:
    async with receiver() as it:
        network = CountingNetwork(it.port)
        before = asyncio.all_tasks()
        client = WebhookClient(LOCAL, network=network)
        posts = [asyncio.create_task(post(client, n // 2)) for n in range(2, 12)]
        await run_turns(steps)
        for task in posts[::2]:
            task.cancel()
        await asyncio.gather(*posts[::2], return_exceptions=True)
        await client.aclose()  # five exchanges are still running
        await asyncio.gather(*posts, return_exceptions=True)
        await run_turns()
        assert network.open == 0
        assert not client._pools._used
        assert not client._pools._idle
        assert client._pools._timer is None
        await wait_until_closed(it, 0)
        assert asyncio.all_tasks() - before <= set(it._tasks)


async def test_close_after_exchanges_leaves_no_task_and_no_timer() -> None:
    async with AsyncExitStack() as stack:
        it = await stack.enter_async_context(receiver())
        network = CountingNetwork(it.port)
        client = WebhookClient(LOCAL, network=network)
        before = asyncio.all_tasks()
        await asyncio.gather(*(post(client, n) for n in range(1, 9)))
        assert client._pools._timer is not None
        timer = client._pools._timer
        await client.aclose()
        assert timer.cancelled()
        assert not client._pools._closing
        assert asyncio.all_tasks() - before <= set(it._tasks)
        await run_turns(2)
        assert network.open == 0
