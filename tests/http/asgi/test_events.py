"""Event streams over ASGI: their content, and how they end when a client, the host or the store fails."""

import asyncio

import pytest

from durable_streams_server import StreamStore, create_app
from durable_streams_server.http.asgi import events
from durable_streams_server.http.asgi.application import DurableStreamsApp
from durable_streams_server.streams.event_stream import EventStream, Signal
from tests.http.asgi_driver import request, start_live_read
from tests.http.socket_driver import logged_warnings, until

A = "/v1/stream/a"


async def test_event_stream_starts_immediately_and_delivers_appends(
    app: DurableStreamsApp, store: StreamStore
) -> None:
    exchange = start_live_read(app, A, "sse", accept_encoding="gzip")
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
    await exchange.finish()
    assert exchange.complete


async def test_event_stream_resumes_after_last_event_id(
    app: DurableStreamsApp, store: StreamStore
) -> None:
    stream = store.get(A)
    assert stream is not None
    exchange = start_live_read(app, A, "sse", last_event_id=stream.current_offset)
    await exchange.until(b"upToDate")
    assert b"hello" not in exchange.body
    exchange.disconnect()
    await exchange.finish()


async def test_event_stream_of_missing_stream_returns_404(app: DurableStreamsApp) -> None:
    answer = await request(app, "GET", "/nowhere?offset=-1&live=sse")
    assert answer.error["code"] == "STREAM_NOT_FOUND"


async def test_event_stream_ends_when_its_stream_is_deleted(
    app: DurableStreamsApp, store: StreamStore
) -> None:
    exchange = start_live_read(app, A, "sse", "now")
    await exchange.until(b"upToDate")
    store.delete(A)
    await exchange.finish()
    assert exchange.complete


async def test_cancelled_event_stream_ends_with_a_control_event(app: DurableStreamsApp) -> None:
    exchange = start_live_read(app, A, "sse", "now")
    await exchange.until(b"upToDate")
    exchange.task.cancel()
    await exchange.task  # raises nothing, because the host would log it for each reader
    assert exchange.body.count(b"event: control") == 2
    assert exchange.complete
    assert len(app.engine.tails) == 0


async def test_cancelled_event_stream_raises_if_its_client_has_left(
    app: DurableStreamsApp,
) -> None:
    exchange = start_live_read(app, A, "sse", "now")
    await exchange.until(b"upToDate")
    exchange.send_error = OSError("the client is gone")
    exchange.task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await exchange.task
    assert len(app.engine.tails) == 0


@pytest.mark.parametrize(
    "error", [OSError("the client is gone"), ConnectionResetError(), BrokenPipeError()], ids=repr
)
async def test_event_stream_ends_without_an_error_when_sending_raises_oserror(
    app: DurableStreamsApp, store: StreamStore, error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    """A host raises an OSError from `send` when the client has left (ASGI 2.4)."""
    exchange = start_live_read(app, A, "sse")
    await exchange.until(b"hello")
    exchange.send_error = error
    store.append(A, b"more")
    await exchange.finish()
    assert len(app.engine.tails) == 0
    assert logged_warnings(caplog) == []


async def test_event_stream_ends_without_an_error_when_its_client_reads_nothing_for_too_long(
    store: StreamStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "_SEND_GRACE", 0.01)
    app = create_app(store=store, sse_max_age=0.01)
    exchange = start_live_read(app, A, "sse")
    exchange.hold = asyncio.Event()
    await exchange.finish()
    assert len(app.engine.tails) == 0


async def test_event_stream_ignores_host_server_errors_after_a_disconnect(
    app: DurableStreamsApp, store: StreamStore
) -> None:
    """Some hosts raise errors of their own from `send` after they have reported the disconnect."""
    exchange = start_live_read(app, A, "sse")
    await exchange.until(b"hello")
    exchange.hold = asyncio.Event()
    exchange.send_error = RuntimeError("the transport is closed")
    store.append(A, b"more")
    exchange.disconnect()
    await until(lambda: exchange.disconnect_received)
    exchange.hold.set()
    await exchange.finish()
    assert len(app.engine.tails) == 0


async def test_event_stream_raises_an_oserror_of_the_store(
    app: DurableStreamsApp, store: StreamStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    is_broken = False
    pull = EventStream.pull

    def pull_or_fail(events: EventStream) -> bytes | Signal:
        if is_broken:
            raise TimeoutError("the disk does not answer")
        return pull(events)

    monkeypatch.setattr(EventStream, "pull", pull_or_fail)
    exchange = start_live_read(app, A, "sse")
    await exchange.until(b"hello")
    is_broken = True
    store.append(A, b"more")
    with pytest.raises(TimeoutError, match="the disk"):
        await exchange.finish()
