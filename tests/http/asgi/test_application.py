"""`DurableStreamsApp`: its lifespan, its event loops, its shutdown, and the scopes that it serves."""

import asyncio
from collections.abc import MutableMapping
from typing import Any

import pytest

from durable_streams_server import StreamLifecycleEvent, create_app
from durable_streams_server.http.asgi.application import DurableStreamsApp
from tests.http.asgi_driver import Exchange, request, start_live_read
from tests.http.socket_driver import run_turns

A = "/v1/stream/a"


async def test_shutdown_ends_live_reads_cleanly(app: DurableStreamsApp) -> None:  # TRAPS 36, 48
    events = start_live_read(app, A, "sse", "now")
    poll = start_live_read(app, A, "long-poll", "now")
    await events.until(b"upToDate")
    app.begin_shutdown()
    app.begin_shutdown()
    await events.finish()
    assert events.complete
    answer = await poll.answer()
    assert answer.status == 204
    refused = await request(app, "GET", A)
    assert (refused.status, refused.error["code"]) == (503, "SERVER_STOPPING")
    assert refused.headers["retry-after"] == "1"


async def test_live_read_during_shutdown_ends_at_once_without_error(
    app: DurableStreamsApp,
) -> None:
    """A browser's EventSource gives up for good on any status but 200."""
    app.begin_shutdown()
    events = await request(app, "GET", f"{A}?offset=-1&live=sse")
    assert (events.status, events.body.count(b"event: control")) == (200, 2)
    poll = await request(app, "GET", f"{A}?offset=now&live=long-poll")
    assert (poll.status, poll.headers["connection"]) == (204, "close")
    await app.stop()
    refused = await request(app, "GET", f"{A}?offset=-1&live=sse")
    assert (refused.status, refused.error["code"]) == (503, "SERVER_STOPPING")


async def test_drain_ends_live_reads_and_answers_other_requests(app: DurableStreamsApp) -> None:
    assert not app.draining
    events = start_live_read(app, A, "sse", "now")
    poll = start_live_read(app, A, "long-poll", "now")
    await events.until(b"upToDate")
    app.begin_drain(0.05)
    assert app.draining
    assert (await request(app, "GET", A)).status == 200
    await events.finish()
    assert events.complete
    answer = await poll.answer()
    assert (answer.status, answer.headers["connection"]) == (204, "close")


@pytest.mark.parametrize("seconds", [0, -1, float("inf"), float("nan")])
async def test_drain_of_no_length_is_refused(app: DurableStreamsApp, seconds: float) -> None:
    with pytest.raises(ValueError, match="above 0"):
        app.begin_drain(seconds)
    assert not app.draining


async def test_application_that_starts_again_does_not_drain(app: DurableStreamsApp) -> None:
    await app.stop()
    assert app.draining
    app.begin()
    assert not app.draining


async def test_http2_response_never_has_a_connection_header(app: DurableStreamsApp) -> None:
    app.begin_drain(0.01)
    poll = await request(app, "GET", f"{A}?offset=now&live=long-poll", http_version="2")
    assert poll.status == 204
    assert "connection" not in poll.headers


async def test_lifespan_events_are_answered(app: DurableStreamsApp) -> None:
    sent: list[str] = []
    messages = iter([{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}])

    async def receive() -> MutableMapping[str, Any]:
        return next(messages)

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message["type"])

    await app({"type": "lifespan"}, receive, send)
    assert sent == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
    assert app.engine.stopping


async def test_websocket_is_closed_and_unknown_scope_raises(app: DurableStreamsApp) -> None:
    exchange = Exchange(app, "GET", A.encode(), type="websocket")
    exchange.feed()
    await exchange.task
    assert exchange.sent == [{"type": "websocket.close", "code": 1000}]
    with pytest.raises(ValueError, match="unknown ASGI scope"):
        await Exchange(app, "GET", b"/", type="carrier-pigeon").task


@pytest.mark.parametrize(
    ("version", "host", "status"),
    [
        ("1.1", b"h", 201),
        ("1.1", None, 400),
        ("1.1", b"a b", 400),
        ("1.0", None, 201),
        ("1.0", b"a b", 400),
        ("2", None, 201),  # a server passes :authority as Host, if the client sent one
        ("2", b"a b", 400),
        ("3", b"h", 201),
    ],
)
async def test_host_header_is_checked_as_the_http_version_requires(
    app: DurableStreamsApp, version: str, host: bytes | None, status: int
) -> None:
    headers = [] if host is None else [(b"host", host)]
    answer = await request(app, "PUT", "/v1/stream/b", headers, http_version=version)
    assert answer.status == status
    if status == 400:
        assert answer.error["code"] == "INVALID_HOST"


async def test_app_cannot_start_on_another_loop_before_its_stop_completes() -> None:
    may_end = asyncio.Event()

    async def hook(_: StreamLifecycleEvent) -> None:
        await may_end.wait()

    app = create_app(hooks=[hook])

    def create_elsewhere(path: str) -> None:
        asyncio.run(app.streams.create(path))

    await app.streams.create("/a")
    stop = asyncio.create_task(app.stop())
    await run_turns(1)
    with pytest.raises(RuntimeError, match="still runs in another thread"):
        await asyncio.to_thread(create_elsewhere, "/b")
    await app.streams.append("/a", b"the program may still write")
    may_end.set()
    await stop
    await asyncio.to_thread(create_elsewhere, "/b")


async def test_cancelled_refusal_is_not_sent_a_second_time(
    app: DurableStreamsApp,
) -> None:
    exchange = Exchange(
        app, "GET", A.encode(), http_version="1.1"
    )  # refused, because it has no Host
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
