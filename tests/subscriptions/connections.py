"""Counts the connections of a webhook client at both ends, for the tests of its pools and of its cleanup."""

import asyncio
from typing import Any

import httpcore2

from durable_streams_server.subscriptions.client import WebhookClient
from tests.subscriptions.receivers import LoopbackNetwork, Receiver


class CountingNetwork(LoopbackNetwork):
    """A network that counts the connections which the client has open."""

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


def idle_connections(client: WebhookClient) -> int:
    """Returns the number of idle connections in the client's pools, and asserts that the pools have no other connection."""
    assert not client._pools._used
    pools = [one.pool for one in client._pools._idle.values()]
    assert all(pool._requests == [] for pool in pools)
    connections = [connection for pool in pools for connection in pool.connections]
    assert all(connection.is_idle() for connection in connections), connections
    return len(connections)


async def wait_until_closed(receiver: Receiver, left: int) -> None:
    """Waits until the receiver has at most `left` open connections."""
    async with asyncio.timeout(5):
        while len(running := [task for task in receiver._tasks if not task.done()]) > left:
            await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
