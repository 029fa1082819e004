"""The ASGI application, message by message."""

import asyncio
from collections.abc import MutableMapping
from typing import Any

import pytest

from durable_streams_server import StreamLifecycleEvent, StreamStore, create_app
from durable_streams_server.http.asgi import application
from durable_streams_server.http.asgi.application import DurableStreamsApp, _wait
from durable_streams_server.http.handler import Live, Reply
from durable_streams_server.http.request import Request
from durable_streams_server.protocol.commands import Read
from durable_streams_server.protocol.offsets import Sentinel
from durable_streams_server.protocol.render import Response
from durable_streams_server.storage.ticket import Ticket
from durable_streams_server.streams.event_stream import EventStream
from tests.http.asgi_driver import Exchange, request
from tests.http.socket_driver import complaints, until

A = "/v1/stream/a"
TEXT = {"content-type": "text/plain"}


@pytest.fixture
async def store() -> StreamStore:
    store = StreamStore()
    store.create(A, "text/plain")
    store.append(A, b"hello")
    return store


@pytest.fixture
async def app(store: StreamStore) -> DurableStreamsApp:
    return create_app(store=store, long_poll_timeout=5)


def live(app: DurableStreamsApp, kind: str, offset: str = "-1", **headers: str) -> Exchange:
    pairs = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    exchange = Exchange(app, "GET", A.encode(), pairs, f"offset={offset}&live={kind}".encode())
    exchange.feed()
    return exchange


async def test_an_event_stream_begins_at_once_and_follows(
    app: DurableStreamsApp, store: StreamStore
) -> None:
    exchange = live(app, "sse", accept_encoding="gzip")
    await exchange.until(b"upToDate")
    headers = dict(exchange.sent[0]["headers"])
    assert headers[b"content-type"] == b"text/event-stream"
    assert headers[b"x-accel-buffering"] == b"no"
    assert headers[b"content-encoding"] == b"identity"
    assert exchange.body.index(b"id:") < exchange.body.index(b"event: data")  # TRAPS 56
    assert b"event: control\ndata:{" in exchange.body
    store.append(A, b" world")
    await exchange.until(b"data:  world")
    store.append(A, b"!", close=True)
    await exchange.until(b"streamClosed")
    await exchange.task
    assert exchange.complete


async def test_a_browser_resumes_by_its_last_event_id(
    app: DurableStreamsApp, store: StreamStore
) -> None:
    stream = store.get(A)
    assert stream is not None
    exchange = live(app, "sse", last_event_id=stream.current_offset)
    await exchange.until(b"upToDate")
    assert b"hello" not in exchange.body
    exchange.disconnect()
    await exchange.task


@pytest.mark.parametrize("framing", [(b"content-length", b"5"), (b"transfer-encoding", b"chunked")])
async def test_a_body_that_the_host_server_has_dropped_is_refused(
    app: DurableStreamsApp, store: StreamStore, framing: tuple[bytes, bytes]
) -> None:  # as uvicorn does with that of a request for an upgrade
    headers = [(b"content-type", b"text/plain"), (b"upgrade", b"h2c"), framing]
    for method, path in (("PUT", "/v1/stream/new"), ("POST", A)):
        answer = await request(app, method, path, headers)
        assert (answer.status, answer.error["code"]) == (400, "INVALID_HTTP")
    assert not store.has("/v1/stream/new")
    closes = [(b"stream-closed", b"true"), (b"upgrade", b"h2c")]
    assert (await request(app, "POST", A, closes)).status == 204


async def test_a_client_that_leaves_gives_its_place_up(app: DurableStreamsApp) -> None:
    for kind in ("sse", "long-poll"):
        exchange = live(app, kind, "now")
        await asyncio.sleep(0.01)
        assert len(app.engine.tails) == 1
        exchange.disconnect()
        await asyncio.wait_for(exchange.task, 5)
        assert len(app.engine.tails) == 0


async def test_a_cancelled_event_stream_says_farewell(app: DurableStreamsApp) -> None:
    exchange = live(app, "sse", "now")
    await exchange.until(b"upToDate")
    exchange.task.cancel()
    await exchange.task  # raises nothing: the host would log it for each reader
    assert exchange.body.count(b"event: control") == 2
    assert exchange.complete
    assert len(app.engine.tails) == 0


async def test_cancelled_long_poll_is_answered(app: DurableStreamsApp) -> None:
    exchange = live(app, "long-poll", "now")
    await asyncio.sleep(0.01)
    exchange.task.cancel()
    answer = await exchange.answer()
    assert (answer.status, answer.error["code"]) == (503, "SERVER_STOPPING")
    assert answer.headers["retry-after"] == "1"
    assert len(app.engine.tails) == 0


async def test_a_shutdown_ends_live_reads_cleanly(app: DurableStreamsApp) -> None:  # TRAPS 36, 48
    events, poll = live(app, "sse", "now"), live(app, "long-poll", "now")
    await events.until(b"upToDate")
    app.begin_shutdown()
    app.begin_shutdown()
    await asyncio.wait_for(events.task, 1)
    assert events.complete
    answer = await poll.answer()
    assert answer.status == 204
    refused = await request(app, "GET", A)
    assert (refused.status, refused.error["code"]) == (503, "SERVER_STOPPING")
    assert refused.headers["retry-after"] == "1"


async def test_a_long_poll_has_no_informational_answers(
    app: DurableStreamsApp, store: StreamStore
) -> None:  # TRAPS 37
    exchange = live(app, "long-poll", "now")
    await asyncio.sleep(0.05)
    assert exchange.sent == []
    store.append(A, b"x")
    answer = await exchange.answer()
    assert (answer.status, answer.body) == (200, b"x")
    assert "stream-cursor" in answer.headers


async def test_a_long_poll_on_a_deleted_stream_is_404(
    app: DurableStreamsApp, store: StreamStore
) -> None:
    exchange = live(app, "long-poll", "now")
    await asyncio.sleep(0)
    store.delete(A)
    assert (await exchange.answer()).status == 404


async def test_an_event_stream_of_a_deleted_stream_ends(
    app: DurableStreamsApp, store: StreamStore
) -> None:
    exchange = live(app, "sse", "now")
    await exchange.until(b"upToDate")
    store.delete(A)
    await asyncio.wait_for(exchange.task, 5)
    assert exchange.complete


async def test_an_event_stream_on_nothing_is_404(app: DurableStreamsApp) -> None:
    answer = await request(app, "GET", "/nowhere?offset=-1&live=sse")
    assert answer.error["code"] == "STREAM_NOT_FOUND"


async def test_without_a_raw_path_the_decoded_one_is_taken(app: DurableStreamsApp) -> None:
    exchange = Exchange(app, "HEAD", A.encode(), raw_path=None)
    exchange.feed()
    assert (await exchange.answer()).status == 200


async def test_the_lifespan_is_answered(app: DurableStreamsApp) -> None:
    sent: list[str] = []
    messages = iter([{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}])

    async def receive() -> MutableMapping[str, Any]:
        return next(messages)

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message["type"])

    await app({"type": "lifespan"}, receive, send)
    assert sent == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
    assert app.engine.stopping


async def test_other_scopes_are_turned_away(app: DurableStreamsApp) -> None:
    exchange = Exchange(app, "GET", A.encode(), type="websocket")
    exchange.feed()
    await exchange.task
    assert exchange.sent == [{"type": "websocket.close", "code": 1000}]
    with pytest.raises(ValueError, match="unknown ASGI scope"):
        await Exchange(app, "GET", b"/", type="carrier-pigeon").task


async def test_an_event_stream_that_nobody_will_send_gives_its_place_up(
    app: DurableStreamsApp, store: StreamStore
) -> None:
    app.engine.start()
    state = store.find(A).result()
    assert state is not None
    events = app.engine.events(Read(A, Sentinel.START, "sse"), lambda: None).result()
    ticket: Ticket[Reply] = Ticket()
    waiting = asyncio.create_task(
        _wait(Request("GET", A.encode(), b"", {}), ticket, asyncio.Event().wait)  # type: ignore[arg-type]
    )
    await asyncio.sleep(0)
    ticket.resolve(Live(Response(200, []), events))
    waiting.cancel()  # by its host, when the reply is there and not yet taken
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert state.readers == 0
    await app.engine.stop()


@pytest.mark.parametrize("kind", ["sse", "long-poll"])
async def test_live_read_ends_when_its_host_fails(app: DurableStreamsApp, kind: str) -> None:
    exchange = live(app, kind, "now")
    await until(lambda: len(app.engine.tails) == 1)

    exchange.fail(RuntimeError("the host has lost the connection"))
    await asyncio.wait_for(exchange.task, 5)
    assert len(app.engine.tails) == 0


GONE = [OSError("the client is gone"), ConnectionResetError(), BrokenPipeError()]


async def ended(exchange: Exchange) -> None:
    """Waits for the application to return; raises what it raises."""
    await asyncio.wait_for(asyncio.shield(exchange.task), 5)


@pytest.mark.parametrize("gone", GONE, ids=repr)
async def test_event_stream_whose_client_vanishes_ends_quietly(
    app: DurableStreamsApp, store: StreamStore, gone: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    """ASGI 2.4: a host raises an OSError when it is given something to send to a client that has left."""
    exchange = live(app, "sse")
    await exchange.until(b"hello")
    exchange.broken = gone
    store.append(A, b"more")
    await ended(exchange)
    assert len(app.engine.tails) == 0
    assert complaints(caplog) == []


@pytest.mark.parametrize("kind", ["sse", "long-poll", "none"])
async def test_client_that_vanishes_before_its_answer_is_no_error(
    app: DurableStreamsApp, kind: str
) -> None:
    exchange = live(app, kind) if kind != "none" else Exchange(app, "GET", A.encode())
    exchange.feed()
    exchange.broken = OSError("the client is gone")
    await ended(exchange)
    assert exchange.sent == []
    assert len(app.engine.tails) == 0


async def test_event_stream_that_nobody_takes_in_time_ends_quietly(
    store: StreamStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(application, "_SEND_GRACE", 0.01)
    app = create_app(store=store, sse_max_age=0.01)
    exchange = live(app, "sse")
    exchange.hold = asyncio.Event()
    await ended(exchange)
    assert len(app.engine.tails) == 0


@pytest.mark.parametrize("kind", ["sse", "long-poll"])
async def test_host_that_fails_to_send_for_another_reason_is_reported(
    app: DurableStreamsApp, kind: str
) -> None:
    exchange = live(app, kind)
    exchange.broken = RuntimeError("the host is broken")
    with pytest.raises(RuntimeError, match="the host is broken"):
        await ended(exchange)
    assert len(app.engine.tails) == 0


async def test_host_that_fails_because_its_client_has_left_is_not_reported(
    app: DurableStreamsApp, store: StreamStore
) -> None:
    """Some hosts raise errors of their own then; the disconnect has been told."""
    exchange = live(app, "sse")
    await exchange.until(b"hello")
    exchange.hold = asyncio.Event()
    exchange.broken = RuntimeError("the transport is closed")
    store.append(A, b"more")
    exchange.disconnect()
    await until(lambda: exchange.told)
    exchange.hold.set()
    await ended(exchange)
    assert len(app.engine.tails) == 0


async def test_store_that_fails_is_reported_though_its_error_is_an_oserror(
    app: DurableStreamsApp, store: StreamStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    exchange = live(app, "sse")
    await exchange.until(b"hello")

    def fail(*_: object) -> None:
        raise TimeoutError("the disk does not answer")

    monkeypatch.setattr(EventStream, "pull", fail)
    store.append(A, b"more")
    with pytest.raises(TimeoutError, match="the disk"):
        await ended(exchange)


async def test_cancelled_event_stream_of_a_vanished_client_is_only_cancelled(
    app: DurableStreamsApp,
) -> None:
    exchange = live(app, "sse", "now")
    await exchange.until(b"upToDate")
    exchange.broken = OSError("the client is gone")
    exchange.task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await exchange.task
    assert len(app.engine.tails) == 0


@pytest.mark.parametrize(
    ("version", "host", "status"),
    [
        ("1.1", b"h", 201),
        ("1.1", None, 400),
        ("1.1", b"a b", 400),
        ("1.0", None, 201),
        ("1.0", b"a b", 400),
        (
            "2",
            None,
            201,
        ),  # a server hands over the :authority as the host; without one there is none
        ("2", b"a b", 400),
        ("3", b"h", 201),
    ],
)
async def test_host_that_a_server_hands_over_is_checked(
    app: DurableStreamsApp, version: str, host: bytes | None, status: int
) -> None:
    headers = [] if host is None else [(b"host", host)]
    answer = await request(app, "PUT", "/v1/stream/b", headers, http_version=version)
    assert answer.status == status
    if status == 400:
        assert answer.error["code"] == "INVALID_HOST"


async def test_another_loop_has_to_wait_until_a_stop_is_complete() -> None:
    may_end = asyncio.Event()

    async def hook(_: StreamLifecycleEvent) -> None:
        await may_end.wait()

    app = create_app(hooks=[hook])

    def create_elsewhere(path: str) -> None:
        asyncio.run(app.streams.create(path))

    await app.streams.create("/a")
    stop = asyncio.create_task(app.stop())
    await asyncio.sleep(0)
    with pytest.raises(RuntimeError, match="still runs in another thread"):
        await asyncio.to_thread(create_elsewhere, "/b")
    await app.streams.append("/a", b"the program may still write")
    may_end.set()
    await stop
    await asyncio.to_thread(create_elsewhere, "/b")


async def test_cancelled_refusal_is_not_answered_again(app: DurableStreamsApp) -> None:
    exchange = Exchange(app, "GET", A.encode(), http_version="1.1")  # without a Host
    sent: list[str] = []
    is_sending = asyncio.Event()

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message["type"])
        if not is_sending.is_set():
            is_sending.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(app(exchange.scope, exchange._receive, send))
    await is_sending.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert sent == ["http.response.start"]
