"""Requests that wait for their replies over ASGI, and what happens when their clients leave or their host fails."""

import asyncio
from typing import Any

import pytest

from durable_streams_server import StreamStore
from durable_streams_server.http.asgi.application import DurableStreamsApp
from durable_streams_server.http.asgi.waiting import Wake, key_of, wait_for_reply
from durable_streams_server.http.replies import Live, Reply
from durable_streams_server.http.request import Request
from durable_streams_server.protocol.commands import Read
from durable_streams_server.protocol.offsets import Sentinel
from durable_streams_server.protocol.render import Response
from durable_streams_server.storage.ticket import Ticket
from tests.http.asgi_driver import Exchange, start_live_read
from tests.http.socket_driver import run_turns, until

A = "/v1/stream/a"


async def never() -> Any:
    """Waits forever, like a host whose client stays."""
    await asyncio.Event().wait()


async def test_wake_sets_its_event_and_has_the_hash_of_its_connection() -> None:
    wake = Wake(["127.0.0.1", 5])
    wake()
    assert wake.event.is_set()
    assert hash(wake) == hash(Wake(("127.0.0.1", 5))) == key_of(("127.0.0.1", 5), 0)
    first, second = Wake(None), Wake(None)
    assert hash(first) != hash(second)  # a Unix socket has no address


async def test_long_poll_sends_nothing_before_data_arrives(
    app: DurableStreamsApp, store: StreamStore
) -> None:  # TRAPS 37
    exchange = start_live_read(app, A, "long-poll", "now")
    await until(lambda: len(app.engine.tails) == 1)
    await run_turns(10)
    assert exchange.sent == []
    store.append(A, b"x")
    answer = await exchange.answer()
    assert (answer.status, answer.body) == (200, b"x")
    assert "stream-cursor" in answer.headers


async def test_long_poll_returns_404_when_its_stream_is_deleted(
    app: DurableStreamsApp, store: StreamStore
) -> None:
    exchange = start_live_read(app, A, "long-poll", "now")
    await until(lambda: len(app.engine.tails) == 1)
    store.delete(A)
    assert (await exchange.answer()).status == 404


async def test_cancelled_long_poll_is_answered_with_503(app: DurableStreamsApp) -> None:
    exchange = start_live_read(app, A, "long-poll", "now")
    await until(lambda: len(app.engine.tails) == 1)
    exchange.task.cancel()
    answer = await exchange.answer()
    assert (answer.status, answer.error["code"]) == (503, "SERVER_STOPPING")
    assert answer.headers["retry-after"] == "1"
    assert len(app.engine.tails) == 0


@pytest.mark.parametrize("kind", ["sse", "long-poll"])
async def test_live_read_ends_when_its_client_leaves(app: DurableStreamsApp, kind: str) -> None:
    exchange = start_live_read(app, A, kind, "now")
    await until(lambda: len(app.engine.tails) == 1)
    exchange.disconnect()
    await exchange.finish()
    assert len(app.engine.tails) == 0


@pytest.mark.parametrize("kind", ["sse", "long-poll"])
async def test_live_read_ends_when_its_host_fails(app: DurableStreamsApp, kind: str) -> None:
    exchange = start_live_read(app, A, kind, "now")
    await until(lambda: len(app.engine.tails) == 1)
    exchange.fail(RuntimeError("the host has lost the connection"))
    await exchange.finish()
    assert len(app.engine.tails) == 0


@pytest.mark.parametrize("kind", ["sse", "long-poll", None])
async def test_request_ends_without_an_error_when_its_client_leaves_before_the_answer(
    app: DurableStreamsApp, kind: str | None
) -> None:
    exchange = start_live_read(app, A, kind) if kind else Exchange(app, "GET", A.encode())
    exchange.feed()
    exchange.send_error = OSError("the client is gone")
    await exchange.finish()
    assert exchange.sent == []
    assert len(app.engine.tails) == 0


@pytest.mark.parametrize("kind", ["sse", "long-poll"])
async def test_live_read_raises_host_errors_other_than_oserror(
    app: DurableStreamsApp, kind: str
) -> None:
    exchange = start_live_read(app, A, kind)
    exchange.send_error = RuntimeError("the host is broken")
    with pytest.raises(RuntimeError, match="the host is broken"):
        await exchange.finish()
    assert len(app.engine.tails) == 0


async def test_request_cancelled_before_sending_closes_its_event_stream(
    app: DurableStreamsApp, store: StreamStore
) -> None:
    app.engine.start()
    state = store.find(A).result()
    assert state is not None
    events = app.engine.events(Read(A, Sentinel.START, "sse"), lambda: None).result()
    ticket: Ticket[Reply] = Ticket()
    request = Request("GET", A.encode(), b"", {})
    waiting = asyncio.create_task(wait_for_reply(request, ticket, never))
    await run_turns(1)
    ticket.resolve(Live(Response(200, []), events))
    waiting.cancel()  # after the ticket is resolved, and before the task resumes
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert state.readers == 0
    await app.engine.stop()


async def test_write_is_completed_although_its_client_leaves() -> None:
    async def disconnect() -> dict[str, Any]:
        return {"type": "http.disconnect"}

    ticket: Ticket[Reply] = Ticket()
    request = Request("POST", A.encode(), b"", {})
    waiting = asyncio.create_task(wait_for_reply(request, ticket, disconnect))
    await run_turns()
    assert not waiting.done()
    response = Response(204, [])
    ticket.resolve(response)
    assert await waiting is response


async def test_read_returns_none_when_its_client_leaves() -> None:
    async def disconnect() -> dict[str, Any]:
        return {"type": "http.disconnect"}

    ticket: Ticket[Reply] = Ticket()
    request = Request("GET", A.encode(), b"", {})
    assert await wait_for_reply(request, ticket, disconnect) is None
