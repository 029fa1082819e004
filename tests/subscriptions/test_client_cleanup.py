"""Tests that exchanges leave no connection and no task behind, and that hosts do not delay each other."""

import asyncio
from collections.abc import Sequence
from typing import Any, ClassVar

import httpcore2
import pytest

from durable_streams_server.subscriptions.addresses import WebhookPolicy
from durable_streams_server.subscriptions.client import WebhookClient
from durable_streams_server.subscriptions.network import DeliveryFailed
from durable_streams_server.subscriptions.slots import MAX_DELIVERIES
from durable_streams_server.subscriptions.time_limit import TimeLimit
from tests.subscriptions.connections import CountingNetwork, idle_connections, wait_until_closed
from tests.subscriptions.exchanges import NAME, never_answer, resolve_to_public_address
from tests.subscriptions.receivers import OK, Answer, Authority, LoopbackNetwork, receiver
from tests.subscriptions.services import run_turns, wait_until


async def answer_in_parts(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    for part in (OK[:5], OK[5:40], OK[40:]):
        writer.write(part)
        await writer.drain()
        await asyncio.sleep(0)


@pytest.mark.parametrize("tls", [False, True])
@pytest.mark.parametrize("cancels", [1, 2, 3])
@pytest.mark.parametrize("answer", [never_answer, answer_in_parts])
async def test_exchange_cancelled_at_any_step_leaves_no_connection_or_task(
    answer: Answer, cancels: int, tls: bool, authority: Authority
) -> None:
    async with receiver(answer, tls=authority.server_context(NAME) if tls else None) as it:
        network = CountingNetwork(it.port)
        policy = WebhookPolicy() if tls else WebhookPolicy(allow_loopback=True)
        client = WebhookClient(
            policy,
            resolver=resolve_to_public_address,
            ssl_context=authority.client_context(),
            network=network,
        )
        url = f"https://{NAME}/" if tls else f"http://127.0.0.1:{it.port}/"
        finished = 0
        for steps in range(150 if tls else 60):
            before = asyncio.all_tasks()
            post = asyncio.create_task(client.post(url, b"{}", [], TimeLimit(60)))
            await run_turns(steps)
            for _ in range(cancels):
                post.cancel()
                await asyncio.sleep(0)
            await asyncio.gather(post, return_exceptions=True)
            finished += not post.cancelled()
            await run_turns(3)  # a transport closes its socket in the next turn
            assert network.open == idle_connections(client), steps
            await wait_until_closed(it, network.open)
            assert asyncio.all_tasks() - before <= set(it._tasks)
        assert bool(finished) == (answer is answer_in_parts)
        await client.aclose()
        await wait_until_closed(it, 0)


@pytest.mark.parametrize("tls", [False, True])
async def test_exchange_that_times_out_leaves_no_connection_or_task(
    tls: bool, authority: Authority
) -> None:
    async with receiver(never_answer, tls=authority.server_context(NAME) if tls else None) as it:
        network = CountingNetwork(it.port)
        policy = WebhookPolicy() if tls else WebhookPolicy(allow_loopback=True)
        client = WebhookClient(
            policy,
            resolver=resolve_to_public_address,
            ssl_context=authority.client_context(),
            network=network,
        )
        url = f"https://{NAME}/" if tls else f"http://127.0.0.1:{it.port}/"
        for step in range(60):
            with pytest.raises(DeliveryFailed) as caught:
                await client.post(url, b"{}", [], TimeLimit(step / 5000))
            assert caught.value.code == "no_answer"
            await run_turns(3)
            assert (network.open, idle_connections(client)) == (0, 0)
        await wait_until_closed(it, 0)
        await client.aclose()


class SilentStream(httpcore2.AsyncNetworkStream):
    """A connection on which the TLS handshake is never answered."""

    handshakes: ClassVar[int] = 0

    async def start_tls(self, *args: Any, **kwargs: Any) -> httpcore2.AsyncNetworkStream:
        SilentStream.handshakes += 1
        await asyncio.get_running_loop().create_future()
        raise AssertionError

    async def aclose(self) -> None:
        pass


class PartlySilentNetwork(LoopbackNetwork):
    """A network in which 8.8.8.8 leads to a receiver, and all other addresses accept connections and never answer."""

    async def connect_tcp(
        self, host: str, port: int, *args: Any, **kwargs: Any
    ) -> httpcore2.AsyncNetworkStream:
        if host == "8.8.8.8":
            return await super().connect_tcp(host, port)
        return SilentStream()


async def test_exchange_does_not_wait_for_connections_to_other_hosts(authority: Authority) -> None:
    async def resolve(host: str, port: int) -> Sequence[str]:
        return ["8.8.8.8" if host == NAME else "8.8.4.4"]

    async with receiver(tls=authority.server_context(NAME)) as it:
        client = WebhookClient(
            WebhookPolicy(),
            resolver=resolve,
            ssl_context=authority.client_context(),
            network=PartlySilentNetwork(it.port),
        )
        posts = [
            asyncio.create_task(client.post(f"https://h{n}.example.com/", b"{}", [], TimeLimit(60)))
            for n in range(MAX_DELIVERIES - 1)
        ]
        await wait_until(lambda: SilentStream.handshakes == MAX_DELIVERIES - 1)
        async with asyncio.timeout(5):
            assert (await client.post(f"https://{NAME}/", b"{}", [], TimeLimit(60))).status == 200
        for post in posts:
            post.cancel()
        await asyncio.gather(*posts, return_exceptions=True)
        assert idle_connections(client) == 1
        await client.aclose()
