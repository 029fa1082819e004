"""What an exchange leaves behind, and whether one host's exchanges make another host's wait."""

import asyncio
from collections.abc import Sequence
from typing import Any

import httpcore2
import pytest

from durable_streams_server.subscriptions.addresses import WebhookPolicy
from durable_streams_server.subscriptions.client import WebhookClient
from durable_streams_server.subscriptions.network import DeliveryFailed
from durable_streams_server.subscriptions.patience import Patience
from durable_streams_server.subscriptions.slots import MAX_DELIVERIES

from .receivers import OK, Answer, Authority, Detour, Receiver, receiver

LOCAL = WebhookPolicy(allow_loopback=True)
NAME = "hooks.example.com"


async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()


async def answer_in_parts(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    for part in (OK[:5], OK[5:40], OK[40:]):
        writer.write(part)
        await writer.drain()
        await asyncio.sleep(0)


async def public(host: str, port: int) -> Sequence[str]:
    return ["8.8.8.8"]


class Counted(Detour):
    """A detour that counts the connections that are open on the client's side."""

    def __init__(self, port: int) -> None:
        super().__init__(port)
        self.streams: list[httpcore2.AsyncNetworkStream] = []

    async def connect_tcp(self, *args: Any, **kwargs: Any) -> httpcore2.AsyncNetworkStream:
        stream = await super().connect_tcp(*args, **kwargs)
        self.streams.append(stream)
        return stream

    @property
    def open(self) -> int:
        return sum(map(_is_open, self.streams))


def _is_open(stream: httpcore2.AsyncNetworkStream) -> bool:
    try:
        found = stream.get_extra_info("socket")
    except AttributeError:  # uvloop has no socket for a transport that is closed
        return False
    return found is not None and found.fileno() != -1


def idle(client: WebhookClient) -> int:
    """Returns how many connections the pools keep for later, and checks that they have no other and no request."""
    assert not client._pools._used
    pools = [one.pool for one in client._pools._idle.values()]
    assert all(pool._requests == [] for pool in pools)
    connections = [connection for pool in pools for connection in pool.connections]
    assert all(connection.is_idle() for connection in connections), connections
    return len(connections)


async def settle(receiver: Receiver, left: int) -> None:
    """Waits until all but so many connections are closed at the receiver too."""
    async with asyncio.timeout(5):
        while len(running := [task for task in receiver._tasks if not task.done()]) > left:
            await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.mark.parametrize("tls", [False, True])
@pytest.mark.parametrize("cancels", [1, 2, 3])
@pytest.mark.parametrize("answer", [hang, answer_in_parts])
async def test_cancelling_at_any_step_leaves_nothing_behind(
    answer: Answer, cancels: int, tls: bool, authority: Authority
) -> None:
    async with receiver(answer, tls=authority.server(NAME) if tls else None) as it:
        network = Counted(it.port)
        policy = WebhookPolicy() if tls else WebhookPolicy(allow_loopback=True)
        client = WebhookClient(
            policy, resolver=public, ssl_context=authority.client(), network=network
        )
        url = f"https://{NAME}/" if tls else f"http://127.0.0.1:{it.port}/"
        finished = 0
        for steps in range(150 if tls else 60):
            before = asyncio.all_tasks()
            post = asyncio.create_task(client.post(url, b"{}", [], Patience(60)))
            for _ in range(steps):
                await asyncio.sleep(0)
            for _ in range(cancels):
                post.cancel()
                await asyncio.sleep(0)
            await asyncio.gather(post, return_exceptions=True)
            finished += not post.cancelled()
            for _ in range(3):
                await asyncio.sleep(0)  # a transport closes its socket in the next turn
            assert network.open == idle(client), steps
            await settle(it, network.open)
            assert asyncio.all_tasks() - before <= set(it._tasks)
        assert bool(finished) == (answer is answer_in_parts)
        await client.aclose()
        await settle(it, 0)


@pytest.mark.parametrize("tls", [False, True])
async def test_running_out_of_time_at_any_step_leaves_nothing_behind(
    tls: bool, authority: Authority
) -> None:
    async with receiver(hang, tls=authority.server(NAME) if tls else None) as it:
        network = Counted(it.port)
        policy = WebhookPolicy() if tls else WebhookPolicy(allow_loopback=True)
        client = WebhookClient(
            policy, resolver=public, ssl_context=authority.client(), network=network
        )
        url = f"https://{NAME}/" if tls else f"http://127.0.0.1:{it.port}/"
        for step in range(60):
            with pytest.raises(DeliveryFailed) as caught:
                await client.post(url, b"{}", [], Patience(step / 5000))
            assert caught.value.code == "no_answer"
            for _ in range(3):
                await asyncio.sleep(0)
            assert (network.open, idle(client)) == (0, 0)
        await settle(it, 0)
        await client.aclose()


class Silence(httpcore2.AsyncNetworkStream):
    """A connection on which the TLS handshake is never answered."""

    async def start_tls(self, *args: Any, **kwargs: Any) -> httpcore2.AsyncNetworkStream:
        await asyncio.get_running_loop().create_future()
        raise AssertionError

    async def aclose(self) -> None:
        pass


class Partly(Detour):
    """A network in which 8.8.8.8 leads to a receiver, and all other addresses accept and never answer."""

    async def connect_tcp(
        self, host: str, port: int, *args: Any, **kwargs: Any
    ) -> httpcore2.AsyncNetworkStream:
        if host == "8.8.8.8":
            return await super().connect_tcp(host, port)
        return Silence()


async def test_no_exchange_waits_for_a_connection_of_another_host(authority: Authority) -> None:
    async def resolve(host: str, port: int) -> Sequence[str]:
        return ["8.8.8.8" if host == NAME else "8.8.4.4"]

    async with receiver(tls=authority.server(NAME)) as it:
        client = WebhookClient(
            WebhookPolicy(),
            resolver=resolve,
            ssl_context=authority.client(),
            network=Partly(it.port),
        )
        posts = [
            asyncio.create_task(client.post(f"https://h{n}.example.com/", b"{}", [], Patience(60)))
            for n in range(MAX_DELIVERIES - 1)
        ]
        await asyncio.sleep(0.2)
        async with asyncio.timeout(5):
            assert (await client.post(f"https://{NAME}/", b"{}", [], Patience(60))).status == 200
        for post in posts:
            post.cancel()
        await asyncio.gather(*posts, return_exceptions=True)
        assert idle(client) == 1
        await client.aclose()
