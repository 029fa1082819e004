"""Connection pools: what an exchange costs beside other receivers, and when pools are closed."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest
from httpcore2._async.http11 import AsyncHTTP11Connection

from durable_streams_server.subscriptions import pools as pools_module
from durable_streams_server.subscriptions.addresses import WebhookPolicy
from durable_streams_server.subscriptions.client import WebhookClient
from durable_streams_server.subscriptions.network import DeliveryFailed
from durable_streams_server.subscriptions.patience import Patience
from durable_streams_server.subscriptions.pools import (
    MAX_CONNECTIONS,
    MAX_IDLE_CONNECTIONS,
    Pools,
    Receiver,
)

from .receivers import OK, Detour, receiver
from .test_client_cleanup import Counted, hang, idle, settle

LOCAL = WebhookPolicy(allow_loopback=True)


def url(number: int) -> str:
    return f"http://127.0.1.{number}/"


async def post(client: WebhookClient, number: int, seconds: float = 10) -> int:
    return (await client.post(url(number), b"{}", [], Patience(seconds))).status


@asynccontextmanager
async def client_of(network: Detour) -> AsyncIterator[WebhookClient]:
    client = WebhookClient(LOCAL, network=network)
    try:
        yield client
    finally:
        await client.aclose()


async def pass_turns(count: int = 5) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def wait_until_open(network: Counted, count: int) -> None:
    async with asyncio.timeout(5):
        while network.open != count:  # noqa: ASYNC110 - sockets tell nobody that they are closed
            await asyncio.sleep(0.005)


async def test_exchange_looks_at_no_connection_of_another_receiver(
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
    async with receiver() as quick, client_of(Detour(quick.port)) as client:
        counts = []
        for others in (0, 10, 20):
            await asyncio.gather(*(post(client, 2 + n) for n in range(others)))
            await post(client, 1)
            looks = 0
            await post(client, 1)
            counts.append(looks)
        assert counts[0] > 0
        assert counts == [counts[0]] * 3


async def test_exchanges_that_begin_at_once_share_a_pool() -> None:
    pools = Pools(ssl.create_default_context(), Detour(0))
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


async def test_all_connections_of_one_receiver_are_open_at_once_and_some_are_kept() -> None:
    together = asyncio.Barrier(MAX_CONNECTIONS)

    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await together.wait()
        writer.write(OK)

    async with receiver(answer) as it:
        network = Counted(it.port)
        async with client_of(network) as client:
            await asyncio.gather(*(post(client, 1) for _ in range(MAX_CONNECTIONS)))
            await pass_turns()
            assert network.open == idle(client) == MAX_IDLE_CONNECTIONS


async def test_idle_pool_is_closed_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pools_module, "IDLE_SECONDS", 0.1)
    async with receiver() as it:
        network = Counted(it.port)
        async with client_of(network) as client:
            before = asyncio.all_tasks()
            await post(client, 1)
            await asyncio.sleep(0.05)
            await post(client, 2)
            assert network.open == 2
            await wait_until_open(network, 1)
            assert not client._pools._idle.keys() - {Receiver("http", "127.0.1.2", 80)}
            await wait_until_open(network, 0)
            await settle(it, 0)
            await pass_turns()
            assert client._pools._timer is None
            assert not client._pools._idle
            assert asyncio.all_tasks() - before <= set(it._tasks)


async def test_each_exchange_begins_the_idle_time_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pools_module, "IDLE_SECONDS", 0.4)
    async with receiver() as it:
        network = Counted(it.port)
        async with client_of(network) as client:
            for _ in range(4):
                await post(client, 1)
                await asyncio.sleep(0.2)
            assert it.connections == 1
            await wait_until_open(network, 0)


async def test_used_pool_is_not_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pools_module, "IDLE_SECONDS", 0.2)
    ask = asyncio.Event()

    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await ask.wait()
        writer.write(OK)

    async with receiver(answer) as slow:
        network = Counted(slow.port)
        async with client_of(network) as client:
            ask.set()
            await post(client, 1)
            await post(client, 2)
            ask.clear()
            long = asyncio.create_task(post(client, 1))  # takes the idle pool
            await wait_until_open(
                network, 1
            )  # the time of the other pool is over, and it was idle later
            await pass_turns()
            assert network.open == 1
            ask.set()
            assert await long == 200
            assert slow.connections == 2


async def test_oldest_idle_pools_are_closed_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pools_module, "MAX_IDLE_POOLS", 3)
    async with receiver() as it:
        network = Counted(it.port)
        async with client_of(network) as client:
            for number in (1, 2, 3, 1, 4, 5):
                await post(client, number)
            await pass_turns()
            assert [key.host for key in client._pools._idle] == [
                "127.0.1.1",
                "127.0.1.4",
                "127.0.1.5",
            ]
            assert network.open == 3


async def test_exchange_beside_a_pool_that_is_being_closed_gets_a_new_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pools_module, "MAX_IDLE_POOLS", 0)
    async with receiver() as it:
        network = Counted(it.port)
        async with client_of(network) as client:
            for _ in range(5):  # each pool is being closed as the next exchange begins
                assert await post(client, 1) == 200
            assert it.connections == 5
            await pass_turns()
            assert network.open == 0


async def test_failed_exchange_leaves_no_pool() -> None:
    async with receiver(hang) as it, client_of(Counted(it.port)) as client:
        for number in range(1, 4):
            with pytest.raises(DeliveryFailed):
                await post(client, number, 0.02)
        assert not client._pools._idle
        assert client._pools._timer is None


@pytest.mark.parametrize("steps", range(0, 40, 3))
async def test_cancelling_and_closing_at_any_step_leaves_nothing(steps: int) -> None:
    async with receiver() as it:
        network = Counted(it.port)
        before = asyncio.all_tasks()
        client = WebhookClient(LOCAL, network=network)
        posts = [asyncio.create_task(post(client, n // 2)) for n in range(2, 12)]
        await pass_turns(steps)
        for task in posts[::2]:
            task.cancel()
        await asyncio.gather(*posts[::2], return_exceptions=True)
        await client.aclose()  # five exchanges are still running
        await asyncio.gather(*posts, return_exceptions=True)
        await pass_turns()
        assert network.open == 0
        assert not client._pools._used
        assert not client._pools._idle
        assert client._pools._timer is None
        await settle(it, 0)
        assert asyncio.all_tasks() - before <= set(it._tasks)


async def test_closing_after_exchanges_leaves_no_task_and_no_timer() -> None:
    async with AsyncExitStack() as stack:
        it = await stack.enter_async_context(receiver())
        network = Counted(it.port)
        client = WebhookClient(LOCAL, network=network)
        before = asyncio.all_tasks()
        await asyncio.gather(*(post(client, n) for n in range(1, 9)))
        assert client._pools._timer is not None
        timer = client._pools._timer
        await client.aclose()
        assert timer.cancelled()
        assert not client._pools._closing
        assert asyncio.all_tasks() - before <= set(it._tasks)
        await pass_turns(2)
        assert network.open == 0
