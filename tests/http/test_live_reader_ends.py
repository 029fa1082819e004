"""A live read gives its place back at every end, in every lane (TRAPS 51)."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from durable_streams_server import DurableStreamsApp, StreamStore, create_app
from durable_streams_server.http.limits.timeouts import Timeouts
from durable_streams_server.http.native.lane import Lane
from durable_streams_server.protocol.state import StreamState
from durable_streams_server.storage.ticket import Ticket
from tests.http.asgi.http2_clients import WireClient
from tests.http.asgi_driver import Exchange
from tests.http.socket_driver import Client, request, run_turns, until

A = "/v1/stream/a"
LARGE = 2 * 1024 * 1024  # bytes of an event that no socket buffer of the drivers takes at once


class LateStore(StreamStore):
    """A store that finds streams only when the test lets it, as if they had to be loaded from the disk."""

    def __init__(self) -> None:
        super().__init__()
        self.is_late = False
        self.fails = False
        self.asked = 0  # how often a stream was looked for
        self._waiting: list[Callable[[], None]] = []

    def find(self, path: str) -> Ticket[StreamState | None]:
        self.asked += 1
        if self.fails:
            raise OSError("the disk is gone")
        if not self.is_late:
            return super().find(path)
        late: Ticket[StreamState | None] = Ticket()
        self._waiting.append(lambda: late.resolve(super(LateStore, self).find(path).result()))
        return late

    @property
    def waiting(self) -> int:
        """Number of streams that are not found yet."""
        return len(self._waiting)

    def release(self) -> None:
        """Finds the streams that were asked for."""
        self.is_late = False
        while self._waiting:
            self._waiting.pop()()


class Native:
    """A live read on the native lane."""

    def __init__(self, app: DurableStreamsApp, target: str) -> None:
        self.client = Client(Lane(app, Timeouts(send=0.2)))
        self.client.send(request("GET", target))

    def leave(self) -> None:
        self.client.reset()

    def half_close(self) -> None:
        self.client.half_close()

    def reset_stream(self) -> None:
        self.client.connection.transport.abort()

    def fail_to_send(self) -> None:
        def write(_: bytes) -> None:
            raise RuntimeError("the transport is broken")

        self.client.wire.write = write  # type: ignore[method-assign, assignment]  # a broken transport

    async def drop(self) -> None:
        self.client.reset()
        await run_turns()


class Asgi:
    """A live read over ASGI."""

    def __init__(self, app: DurableStreamsApp, target: str) -> None:
        path, _, query = target.partition("?")
        self.exchange = Exchange(app, "GET", path.encode(), (), query.encode())
        self.exchange.feed()

    def leave(self) -> None:
        self.exchange.disconnect()

    def half_close(self) -> None:
        self.exchange.fail(RuntimeError("the host is broken"))

    def reset_stream(self) -> None:
        self.exchange.task.cancel()

    def fail_to_send(self) -> None:
        self.exchange.send_error = OSError("the client has left")

    async def drop(self) -> None:
        self.exchange.task.cancel()
        await asyncio.wait([self.exchange.task])


class Http2:
    """A live read on a stream of an HTTP/2 connection."""

    def __init__(self, app: DurableStreamsApp, target: str) -> None:
        self.client = WireClient(Timeouts(send=0.2), app=app)
        self.stream = self.client.ask(target)

    def leave(self) -> None:
        self.client.server.transport.abort()

    def half_close(self) -> None:
        self.client.wire.give(b"")
        self.client.wire.lose()

    def reset_stream(self) -> None:
        self.client.h2.reset_stream(self.stream)
        self.client.flush()

    def fail_to_send(self) -> None:
        self.client.server.transport.abort()

    async def drop(self) -> None:
        self.client.server.transport.abort()
        await run_turns()


LANES: tuple[Any, ...] = (Native, Asgi, Http2)
Read = Native | Asgi | Http2


@pytest.fixture
def store() -> LateStore:
    store = LateStore()
    store.create(A, "text/plain")
    return store


@pytest.fixture
async def app(store: LateStore) -> AsyncIterator[DurableStreamsApp]:
    app = create_app(store=store, long_poll_timeout=0.2, sse_max_age=0.2)
    app.begin()
    yield app
    assert app.handler.live_readers.used == 0
    assert app.handler.live_readers.most_of_one_stream == 0
    assert app.handler.live_readers.most_of_one_client == 0
    assert len(app.engine.tails) == 0
    await app.stop()


def target(kind: str, path: str = A) -> str:
    return f"{path}?offset=-1&live={kind}"


async def end_of(read: Read, app: DurableStreamsApp, store: LateStore, how: str) -> None:
    """Ends a live read in one of the ways that `ENDS` lists."""
    if how == "close":
        store.append(A, close=True)
    elif how == "delete":
        store.delete(A)
    elif how == "stop":
        app.begin_shutdown()
    elif how == "fail_to_send":
        read.fail_to_send()
        store.append(A, b"more")
    elif how != "time":
        getattr(read, how)()


ENDS = ("leave", "half_close", "reset_stream", "fail_to_send", "close", "delete", "stop", "time")


@pytest.mark.parametrize("kind", ["sse", "long-poll"])
@pytest.mark.parametrize("how", ENDS)
@pytest.mark.parametrize("lane", LANES)
async def test_place_is_given_back_when_a_read_at_the_tail_ends(
    app: DurableStreamsApp, store: LateStore, lane: Any, how: str, kind: str
) -> None:
    readers = app.handler.live_readers
    read: Read = lane(app, target(kind))
    await until(lambda: readers.used == 1 and len(app.engine.tails) == 1)
    assert readers.most_of_one_stream == 1
    await end_of(read, app, store, how)
    await until(lambda: readers.used == 0)
    await read.drop()


@pytest.mark.parametrize("kind", ["sse", "long-poll"])
@pytest.mark.parametrize("how", ["leave", "half_close", "reset_stream", "release", "gone"])
@pytest.mark.parametrize("lane", LANES)
async def test_place_is_given_back_when_a_read_ends_before_its_stream_is_found(
    app: DurableStreamsApp, store: LateStore, lane: Any, how: str, kind: str
) -> None:
    readers = app.handler.live_readers
    store.is_late = True
    read: Read = lane(app, target(kind))
    await until(lambda: store.waiting == 1)
    assert readers.used == 1
    if how == "gone":
        store.is_late = False
        store.delete(A)
        store.release()
    elif how == "release":
        store.release()
    else:
        getattr(read, how)()
        if lane is Native and how == "half_close":
            store.release()  # the client may still read, so the read goes on until it is found
    await until(lambda: readers.used == (1 if how == "release" else 0))
    await read.drop()
    await until(lambda: readers.used == 0)
    store.release()  # too late for the reads that have left


@pytest.mark.parametrize("kind", ["sse", "long-poll"])
@pytest.mark.parametrize("lane", LANES)
async def test_place_is_given_back_when_a_read_is_refused(
    app: DurableStreamsApp, store: LateStore, lane: Any, kind: str
) -> None:
    for path, fails in (("/v1/stream/none", False), (A, True)):
        store.fails = fails
        store.asked = 0
        read: Read = lane(app, target(kind, path))
        await until(lambda: store.asked > 0)  # until then, the read holds no place anyway
        await until(lambda: app.handler.live_readers.used == 0)
        await read.drop()
    store.fails = False


@pytest.mark.parametrize("lane", [Native, Http2])
async def test_place_is_given_back_when_a_client_that_reads_nothing_is_cut(
    app: DurableStreamsApp, store: LateStore, lane: Any
) -> None:
    read: Read = lane(app, target("sse"))
    await until(lambda: app.handler.live_readers.used == 1)
    read.client.wire.reads = False  # type: ignore[union-attr]  # both lanes have a client
    store.append(A, bytes(LARGE))
    if isinstance(read, Native):
        connection = read.client.connection
        await until(lambda: connection.unsent > 0 or connection._holds_page)
        connection.check(connection.deadline)
    await until(lambda: app.handler.live_readers.used == 0)
    await read.drop()


async def test_place_is_given_back_when_an_asgi_client_that_reads_nothing_is_cut(
    app: DurableStreamsApp, store: LateStore
) -> None:
    read = Asgi(app, target("sse"))
    await until(lambda: app.handler.live_readers.used == 1)
    read.exchange.hold = asyncio.Event()
    store.append(A, bytes(LARGE))
    await until(lambda: len(app.outgoing) == 1)
    (taker,) = app.outgoing._held
    taker.cut()
    await until(lambda: app.handler.live_readers.used == 0)


@pytest.mark.parametrize("lane", LANES)
async def test_read_at_the_end_of_a_closed_stream_holds_no_place(
    app: DurableStreamsApp, store: LateStore, lane: Any
) -> None:
    store.append(A, b"x", close=True)
    for kind in ("sse", "long-poll"):
        store.asked = 0
        read: Read = lane(app, target(kind).replace("-1", "now"))
        await until(lambda: store.asked > 0)  # until then, the read holds no place anyway
        await until(lambda: app.handler.live_readers.used == 0)
        await read.drop()
