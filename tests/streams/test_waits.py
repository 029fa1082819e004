"""Reads and creates that wait for the disk, while their stream is evicted from memory, deleted, or expires."""

from collections.abc import Callable
from typing import Any

import pytest

from durable_streams_server.errors import Gone, NotFound, Unavailable
from durable_streams_server.protocol.commands import Delete
from durable_streams_server.protocol.decisions.outcomes import CreateOutcome
from durable_streams_server.protocol.lifetime import FOREVER, Lifetime
from durable_streams_server.protocol.page import Page
from durable_streams_server.storage.files.store import FileStore
from durable_streams_server.storage.files.synchronous import Synchronous
from durable_streams_server.storage.ticket import Ticket
from durable_streams_server.streams.engine import Engine
from durable_streams_server.streams.event_stream import WAIT, EventStream
from durable_streams_server.testing.disk import SimulatedDisk
from tests.requests import append, create, fork_of
from tests.storage.files.stores import HeldReads, content, new_disk, open_store, run
from tests.streams.engines import ManualClock, next_turn, read

JSON = "application/json"
VALUES = b"[1,22,333]"
INSIDE = 2  # a position inside the append, so that checking it reads the index from the disk
OTHERS = ("/b", "/c", "/d")


class World:
    """An engine on a file store that keeps one stream in memory and whose disk reads wait until the test releases them."""

    def __init__(self, lifetime: Lifetime = FOREVER) -> None:
        self.clock = ManualClock()
        disk: SimulatedDisk = new_disk()
        store = open_store(disk)
        run(
            store, create("/a", JSON, VALUES, lifetime=lifetime), *(create(path) for path in OTHERS)
        )
        store.close()
        self.store: FileStore = open_store(disk, max_loaded=1)
        self.shell = self.store.shell = HeldReads(self.store)
        self.engine = Engine(self.store, clock=self.clock)
        state = self.store.find("/a").result()
        assert state is not None
        self.inside = state.name(INSIDE)

    def evict(self) -> None:
        """Makes the store evict the stream from memory, by using other streams."""
        for path in (*OTHERS, *OTHERS):
            self.store.find(path)
        assert self.store.states.loaded("/a") is None

    def finish_reads(self) -> None:
        """Releases all disk reads, including those that follow from them."""
        while self.shell.waiting:
            self.shell.release()

    def append(self, body: bytes) -> None:
        """Appends to the stream and commits."""
        run(self.store, append("/a", body, JSON))

    def poll(self) -> Ticket[Page]:
        """Starts a long-poll inside the append."""
        return self.engine.long_poll(read(offset=self.inside, live="long-poll"))

    def begin(self, kind: str) -> Ticket[Any]:
        """Starts a read of one kind inside the append."""
        if kind == "read":
            return self.engine.read(read(offset=self.inside))
        return self.poll() if kind == "long-poll" else self.events()

    def events(self, on_ready: Callable[[], None] = lambda: None) -> Ticket[EventStream]:
        """Starts an event stream inside the append."""
        return self.engine.events(read(offset=self.inside, live="sse"), on_ready)


async def test_long_poll_receives_append_after_stream_is_evicted_during_disk_read() -> None:
    world = World()
    ticket = world.poll()
    world.evict()
    world.append(b"4444")
    world.finish_reads()
    assert ticket.result().data == b"22,333,4444,"


async def test_event_stream_receives_every_append_after_stream_is_evicted_during_disk_read() -> (
    None
):
    world = World()
    woken: list[None] = []
    ticket = world.events(lambda: woken.append(None))
    world.evict()
    world.append(b"4444")
    world.finish_reads()
    events = ticket.result()
    first = events.pull()
    assert isinstance(first, bytes)
    assert b"4444" in first
    assert events.pull() is WAIT
    woken.clear()
    world.append(b"55555")
    await next_turn()
    assert woken
    second = events.pull()
    assert isinstance(second, bytes)
    assert b"55555" in second
    events.close()


def test_read_of_stream_evicted_during_disk_read_extends_its_lifetime() -> None:
    world = World(Lifetime(ttl=10))
    ticket = world.engine.read(read(offset=world.inside))
    world.clock.forward(5)
    world.evict()
    world.finish_reads()
    assert ticket.result().data == b"22,333,"
    world.clock.forward(9)
    assert world.engine.head("/a").result().visible_tail == 9


def test_fork_of_source_evicted_during_disk_read_has_requested_length() -> None:
    world = World()
    fork = fork_of("/a", world.inside, 1)
    ticket: Ticket[CreateOutcome] = world.engine.create(create("/fork", None, fork=fork))
    while world.shell.waiting:
        world.evict()
        world.shell.release()
    world.store.commit_once()
    assert ticket.result().created
    world.store.shell = Synchronous(*world.store.parts)
    assert content(world.store, "/fork") == b"1,22,"


@pytest.mark.parametrize("kind", ["read", "long-poll", "sse"])
async def test_read_of_stream_deleted_during_disk_read_is_not_found(kind: str) -> None:
    world = World()
    ticket = world.begin(kind)
    run(world.store, Delete("/a"))
    world.finish_reads()
    with pytest.raises(NotFound):
        ticket.result()
    assert len(world.engine.tails) == 0


@pytest.mark.parametrize("kind", ["read", "long-poll", "sse"])
async def test_read_of_stream_expired_during_disk_read_does_not_revive_it(kind: str) -> None:
    world = World(Lifetime(ttl=10))
    ticket = world.begin(kind)
    world.clock.forward(12)  # the restart extended the TTL of 10 seconds by 10%
    world.finish_reads()
    with pytest.raises(NotFound):
        ticket.result()
    with pytest.raises(NotFound):
        world.engine.head("/a").result()


def test_read_returns_gone_if_stream_is_soft_deleted_during_disk_read() -> None:
    world = World()
    ticket = world.engine.read(read(offset=world.inside))
    run(world.store, create("/fork", None, fork=fork_of("/a")), Delete("/a"))
    world.finish_reads()
    with pytest.raises(Gone):
        ticket.result()


def test_lifetime_of_fork_starts_after_create_has_waited_for_disk() -> None:
    world = World()
    fork = fork_of("/a", world.inside, 1)
    ticket = world.engine.create(create("/fork", None, lifetime=Lifetime(ttl=10), fork=fork))
    world.clock.forward(8)
    world.finish_reads()
    world.store.commit_once()
    assert ticket.result().created
    world.clock.forward(9)
    assert world.engine.head("/fork").result().path == "/fork"


async def test_create_that_waits_for_disk_until_engine_stops_is_refused_and_writes_nothing() -> (
    None
):
    world = World()
    fork = fork_of("/a", world.inside, 1)
    ticket = world.engine.create(create("/fork", None, fork=fork))
    await world.engine.stop()
    last = world.store.wal.last_lsn
    world.finish_reads()
    with pytest.raises(Unavailable):
        ticket.result()
    assert world.store.wal.last_lsn == last
