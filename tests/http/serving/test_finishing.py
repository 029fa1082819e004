"""The last moments of a server: which connections are aborted, and when."""

import asyncio
from typing import Any

import pytest

from durable_streams_server.http.serving.finishing import LONGEST, Finish, cut
from tests.loop_clock import LoopClock

GRACE = 0.4
ROUND = 0.12  # seconds between two rounds, and a step of the clock


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


@pytest.fixture
async def clock(monkeypatch: pytest.MonkeyPatch) -> LoopClock:
    return LoopClock(monkeypatch)


async def until_empty(connections: set[Any], clock: LoopClock) -> float:
    """Moves the clock until no connection is left, and returns the seconds that this took."""
    began = clock.now
    while connections:
        await clock.forward(0.01)
        assert clock.now - began < 10
    return clock.now - began


async def test_stalled_connections_are_aborted_after_the_grace(clock: LoopClock) -> None:
    connections: set[Any] = set()
    Connection(connections)
    Finish(connections, lambda: 3)
    assert GRACE <= await until_empty(connections, clock) < GRACE + ROUND


async def test_connection_that_waits_for_its_write_gets_more_time(clock: LoopClock) -> None:
    connections: set[Any] = set()
    began = clock.now
    stalled, writing = Connection(connections), Connection(connections, is_writing=True)
    Finish(connections, lambda: 0)
    assert LONGEST <= await until_empty(connections, clock) < LONGEST + ROUND
    assert stalled.ended_at is not None
    assert GRACE <= stalled.ended_at - began < GRACE + ROUND
    assert writing.ended_at == clock.now


async def test_crowd_of_live_reads_gets_time_while_some_of_them_end(clock: LoopClock) -> None:
    connections: set[Any] = set()
    left = iter(range(10, 0, -1))
    Connection(connections)
    Finish(connections, lambda: next(left, 1))
    took = await until_empty(connections, clock)  # a read ends in each of the first nine rounds
    assert 0.9 + GRACE <= took < 0.9 + GRACE + ROUND


async def test_live_reads_that_never_end_are_aborted_at_the_latest(clock: LoopClock) -> None:
    connections: set[Any] = set()
    left = iter(range(1000, 0, -1))
    Connection(connections)
    Finish(connections, lambda: next(left))
    assert LONGEST <= await until_empty(connections, clock) < LONGEST + ROUND


async def test_cut_leaves_connections_without_transport_alone() -> None:
    connections: set[Any] = {object()}
    Connection(connections)
    cut(connections)
    assert len(connections) == 1
