"""The limits of requests through ASGI. The server refuses a request before it does work for it, and releases its memory afterwards."""

import asyncio
from typing import Any, cast

import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.routing import Mount

from durable_streams_server import StreamStore, create_app
from durable_streams_server.http.asgi.application import DurableStreamsApp
from durable_streams_server.protocol.limits import MAX_HEADER_COUNT, MAX_URL_BYTES
from tests.http.asgi_driver import Exchange, request

A = "/v1/stream/a"
OCTETS = [(b"content-type", b"application/octet-stream")]
CHUNKED = [*OCTETS, (b"transfer-encoding", b"chunked")]


@pytest.fixture
async def app() -> DurableStreamsApp:
    store = StreamStore(max_total_bytes=100, max_producers=2)
    store.create(A)
    return create_app(store=store, max_body=10, max_in_flight=25)


async def append(app: DurableStreamsApp, body: bytes) -> int:
    return (await request(app, "POST", A, OCTETS, body)).status


async def test_too_large_declared_body_returns_413_unread(app: DurableStreamsApp) -> None:
    exchange = Exchange(app, "POST", A.encode(), [*OCTETS, (b"content-length", b"11")])
    answer = await exchange.answer()
    assert (answer.status, answer.error["code"]) == (413, "BODY_TOO_LARGE")


async def test_body_of_exactly_the_limit_is_accepted(app: DurableStreamsApp) -> None:
    assert await append(app, b"x" * 10) == 204


async def test_chunked_body_is_refused_once_its_received_bytes_exceed_the_limit(
    app: DurableStreamsApp,
) -> None:
    exchange = Exchange(app, "POST", A.encode(), CHUNKED)
    exchange.feed(b"x" * 6, more=True)
    exchange.feed(b"x" * 5, more=True)
    assert (await exchange.answer()).error["code"] == "BODY_TOO_LARGE"


async def test_chunked_body_of_a_create_is_stored(app: DurableStreamsApp) -> None:  # TRAPS 28
    exchange = Exchange(app, "PUT", b"/v1/stream/b", CHUNKED)
    exchange.feed(b"abc", more=True)
    exchange.feed(b"def")
    assert (await exchange.answer()).status == 201
    assert (await request(app, "GET", "/v1/stream/b")).body == b"abcdef"


async def test_bodies_beyond_budget_return_503_until_memory_is_free(
    app: DurableStreamsApp,
) -> None:  # TRAPS 51
    declared = [*OCTETS, (b"content-length", b"10")]
    held = [Exchange(app, "POST", A.encode(), declared) for _ in range(2)]
    for exchange in held:
        exchange.feed(b"y" * 9, more=True)
    await asyncio.sleep(0)
    assert app.budget.held == 18  # only bytes that have arrived count
    refused = await request(app, "POST", A, declared, b"x" * 10)
    assert (refused.status, refused.error["code"]) == (503, "BODIES_IN_FLIGHT")
    assert refused.headers["retry-after"] == "1"
    held[0].feed(b"y")
    assert (await held[0].answer()).status == 204
    held[1].disconnect()
    await held[1].task
    assert held[1].sent == []
    for _ in range(5):
        assert await append(app, b"") == 400
        assert await append(app, b"x" * 11) == 413
    assert await append(app, b"z" * 10) == 204
    assert (await request(app, "GET", A)).body == b"y" * 10 + b"z" * 10


@pytest.mark.parametrize("framing", [(b"content-length", b"8"), (b"transfer-encoding", b"chunked")])
@pytest.mark.parametrize("parts", [(), (b"half",), (b"ha", b"lf")])
async def test_paused_body_returns_408_and_is_released(
    framing: tuple[bytes, bytes], parts: tuple[bytes, ...]
) -> None:
    app = create_app(body_timeout=0.05, max_in_flight=8, max_body=8)
    assert (await request(app, "PUT", A, OCTETS)).status == 201
    for method, path in (("POST", A), ("PUT", "/v1/stream/new")):
        exchange = Exchange(app, method, path.encode(), [*OCTETS, framing])
        for part in parts:
            exchange.feed(part, more=True)
        answer = await exchange.answer()
        assert (answer.status, answer.error["code"]) == (408, "REQUEST_TIMEOUT")
        assert answer.headers["connection"] == "close"
        assert app.budget.held == 0
    assert (await request(app, "POST", A, OCTETS, b"whole")).status == 204
    assert (await request(app, "GET", A)).body == b"whole"
    assert (await request(app, "GET", "/v1/stream/new")).status == 404


async def test_paused_body_returns_408_behind_host_middleware() -> None:
    class Passing(BaseHTTPMiddleware):
        """Calls the application unchanged. Starlette runs this middleware in additional tasks and cancel scopes."""

        async def dispatch(self, request: Any, call_next: Any) -> Any:
            return await call_next(request)

    streams = create_app(body_timeout=0.05)
    host = Starlette(routes=[Mount("/x", streams)], middleware=[Middleware(Passing)])
    declared = [*OCTETS, (b"content-length", b"5")]
    late = Exchange(cast(Any, host), "PUT", b"/x/a", declared)
    late.feed(b"he", more=True)
    answer = await late.answer()
    assert (answer.status, answer.error["code"]) == (408, "REQUEST_TIMEOUT")
    assert streams.budget.held == 0
    assert (await request(cast(Any, host), "PUT", "/x/a", declared, b"hello")).status == 201


async def test_http_2_response_has_no_connection_header() -> None:
    app = create_app(body_timeout=0.01)
    exchange = Exchange(app, "PUT", A.encode(), OCTETS, http_version="2")
    answer = await exchange.answer()
    assert (answer.status, answer.error["code"]) == (408, "REQUEST_TIMEOUT")
    assert "connection" not in answer.headers


async def test_client_that_leaves_during_paused_body_gets_no_response(
    app: DurableStreamsApp,
) -> None:
    exchange = Exchange(app, "POST", A.encode(), CHUNKED)
    exchange.feed(b"half", more=True)
    await asyncio.sleep(0)
    exchange.task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await exchange.task
    assert exchange.sent == []
    assert app.budget.held == 0


async def test_client_that_leaves_within_body_writes_nothing(app: DurableStreamsApp) -> None:
    exchange = Exchange(app, "POST", A.encode(), CHUNKED)
    exchange.feed(b"half", more=True)
    exchange.disconnect()
    await exchange.task
    assert (await request(app, "GET", A)).body == b""


async def test_too_long_url_returns_414(app: DurableStreamsApp) -> None:
    answer = await request(app, "GET", A + "?x=" + "y" * MAX_URL_BYTES)
    assert (answer.status, answer.error["code"]) == (414, "URI_TOO_LONG")


@pytest.mark.parametrize(
    "headers",
    [[(b"x", b"y" * 40_000)], [(b"x-%d" % number, b"y") for number in range(MAX_HEADER_COUNT + 1)]],
)
async def test_too_many_or_too_large_headers_return_431(
    app: DurableStreamsApp, headers: list[tuple[bytes, bytes]]
) -> None:
    answer = await request(app, "GET", A, headers)
    assert (answer.status, answer.error["code"]) == (431, "HEADERS_TOO_LARGE")


async def test_too_many_producers_return_429(app: DurableStreamsApp) -> None:
    statuses = []
    for producer in (b"p", b"q", b"r", b"p"):
        stamp = [(b"producer-id", producer), (b"producer-epoch", b"0"), (b"producer-seq", b"0")]
        answer = await request(app, "POST", A, [*OCTETS, *stamp], b"x")
        statuses.append(answer.status)
        if answer.status == 429:
            assert answer.error["code"] == "TOO_MANY_PRODUCERS"
            assert answer.headers["retry-after"] == "1"
    assert statuses == [200, 200, 429, 204]


async def test_full_store_returns_507_and_still_serves_reads(app: DurableStreamsApp) -> None:
    for _ in range(10):
        assert await append(app, b"x" * 10) == 204
    answer = await request(app, "POST", A, OCTETS, b"y")
    assert (answer.status, answer.error["code"]) == (507, "STORE_FULL")
    assert (await request(app, "GET", A)).body == b"x" * 100
    assert (await request(app, "DELETE", A)).status == 204
