"""The state that the connections of a native server share, and the timer that checks them."""

from typing import Any, cast

import pytest

from durable_streams_server import StreamStore, create_app
from durable_streams_server.http.limits.timeouts import Timeouts
from durable_streams_server.http.native import lane as lanes
from durable_streams_server.http.native.lane import Lane
from durable_streams_server.http.wire import chunk
from tests.http.socket_driver import Client, request, run_turns, until


class Watched:
    """A connection that records the times at which it is checked."""

    unsent = 0

    def __init__(self) -> None:
        self.checks: list[float] = []

    def check(self, now: float) -> None:
        self.checks.append(now)


@pytest.fixture
async def lane(monkeypatch: pytest.MonkeyPatch) -> Lane:
    monkeypatch.setattr(lanes, "_TICK", 0.01)
    lane = Lane(create_app())
    lane.begin(set())
    return lane


async def test_one_timer_checks_all_connections_while_at_least_one_is_open(lane: Lane) -> None:
    watched = [Watched() for _ in range(3)]
    for each in watched:
        lane.watch(cast(Any, each))
    await until(lambda: all(len(each.checks) >= 3 for each in watched))
    assert watched[0].checks == watched[2].checks
    lane.connections.clear()
    await until(lambda: lane._timer is None)
    seen = len(watched[0].checks)
    lane.watch(cast(Any, watched[0]))
    await until(lambda: len(watched[0].checks) > seen)
    lane.connections.clear()


async def test_date_header_is_updated_when_the_first_connection_opens(lane: Lane) -> None:
    lane.date = b"date: long ago\r\n"
    lane.watch(cast(Any, Watched()))
    assert b"GMT" in lane.date
    lane.connections.clear()


async def test_event_is_encoded_as_a_chunk_once_for_all_readers(lane: Lane) -> None:
    event = b"data:" + b"x" * 100
    framed = lane.chunk(event)
    assert framed == chunk(event)
    assert lane.chunk(event) is framed
    assert lane.chunk(b"other") == chunk(b"other")
    assert lane.chunk(event) == framed


async def test_readers_at_tail_receive_same_octets() -> None:
    store = StreamStore()
    store.create("/a", "text/plain")
    lane = Lane(create_app(store=store))
    readers = [Client(lane).send(request("GET", "/a?offset=-1&live=sse")) for _ in range(3)]
    for reader in readers:
        reader.read()
    store.append("/a", b"x" * 1000)
    await run_turns()
    sent = [reader.read() for reader in readers]
    assert b"x" * 1000 in sent[0]
    assert sent[0] == sent[1] == sent[2]
    for reader in readers:
        reader.reset()
    await run_turns()


async def test_timer_closes_idle_connection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(lanes, "_TICK", 0.01)
    lane = Lane(create_app(), Timeouts(idle=0.05))
    client = Client(lane)
    await until(lambda: client.wire.lost)
    await run_turns()
    assert not lane.connections
