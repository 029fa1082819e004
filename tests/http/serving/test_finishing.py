"""The last moments of a server: which connections are aborted, and when."""

import asyncio
from typing import Any

import pytest

from durable_streams_server.http.serving import finishing
from durable_streams_server.http.serving.finishing import Finish, cut


class Connection:
    """A connection that leaves the set of connections when it is aborted."""

    def __init__(self, connections: set[Any], is_writing: bool = False) -> None:
        self.is_writing = is_writing
        self.transport = self
        self.ended_at: float | None = None
        self._connections = connections
        connections.add(self)

    def abort(self) -> None:
        self.ended_at = asyncio.get_running_loop().time()
        self._connections.discard(self)


async def until_empty(connections: set[Any]) -> float:
    """Waits until no connection is left, and returns the seconds that this took."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    async with asyncio.timeout(5):
        while connections:  # noqa: ASYNC110  # the set tells nobody of its changes
            await asyncio.sleep(0.005)
    return loop.time() - began


@pytest.fixture(autouse=True)
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(finishing, "_INTERVAL", 0.01)
    monkeypatch.setattr(finishing, "_GRACE", 0.05)
    monkeypatch.setattr(finishing, "LONGEST", 0.3)


async def test_stalled_connections_are_aborted_after_the_grace() -> None:
    connections: set[Any] = set()
    Connection(connections)
    Finish(connections, lambda: 3)
    assert 0.03 < await until_empty(connections) < 4


async def test_connection_that_waits_for_its_write_gets_more_time() -> None:
    connections: set[Any] = set()
    stalled, writing = Connection(connections), Connection(connections, is_writing=True)
    Finish(connections, lambda: 0)
    took = await until_empty(connections)
    assert 0.25 < took < 4
    assert (stalled.ended_at or 0) < (writing.ended_at or 0) - 0.1


async def test_crowd_of_live_reads_gets_time_while_some_of_them_end() -> None:
    connections: set[Any] = set()
    left = iter(range(20, 0, -1))
    Connection(connections)
    Finish(connections, lambda: next(left, 1))
    assert 0.15 < await until_empty(connections) < 4


async def test_live_reads_that_never_end_are_aborted_at_the_latest() -> None:
    connections: set[Any] = set()
    left = iter(range(1000, 0, -1))
    Connection(connections)
    Finish(connections, lambda: next(left))
    assert 0.25 < await until_empty(connections) < 4


async def test_cut_leaves_connections_without_transport_alone() -> None:
    connections: set[Any] = {object()}
    Connection(connections)
    cut(connections)
    assert len(connections) == 1
