"""The limits of clients at, below and above each of them, in both lanes (TRAPS 51)."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from durable_streams_server import ClientLimits, DurableStreamsApp, StreamStore, create_app
from durable_streams_server.http.gate.gate import Gate
from durable_streams_server.http.gate.permit import Permit
from durable_streams_server.http.limits.budget import LARGE_BODY
from durable_streams_server.http.limits.timeouts import Timeouts
from durable_streams_server.http.native.lane import Lane
from durable_streams_server.protocol.permissions import TokenLimits
from tests.http.asgi.http1_client import AsgiClient
from tests.http.asgi_driver import Exchange
from tests.http.gate.deciding import Deciding
from tests.http.lanes import Caller
from tests.http.socket_driver import Client, parse, post, run_turns, until

A = "/v1/stream/a"
TEXT = {"content-type": "text/plain"}
CLIENT = "203.0.113.9"


def app_with(**limits: Any) -> DurableStreamsApp:
    """Returns an application with limits, and with an empty stream at `A`."""
    store = StreamStore()
    store.create(A, "text/plain")
    return create_app(store=store, long_poll_timeout=5, limits=ClientLimits(**limits))


@pytest.fixture(params=["native", "asgi"])
def calling(request: pytest.FixtureRequest) -> Callable[..., Caller]:
    """Returns a function that makes a caller of an application with limits."""

    def make(**limits: Any) -> Caller:
        return Caller(app_with(**limits), request.param == "native", peer=CLIENT)

    return make


async def test_append_above_the_rate_of_its_client_gets_429(
    calling: Callable[..., Caller],
) -> None:
    call = calling(max_appends_per_second=1)
    answers = [await call("POST", A, TEXT, b"x") for _ in range(5)]
    assert [answer.status for answer in answers] == [204] * 5
    refused = await call("POST", A, TEXT, b"x")
    assert (refused.status, refused.error["code"]) == (429, "TOO_MANY_APPENDS")
    assert refused.headers["retry-after"] == "1"
    assert refused.headers["cache-control"] == "no-store"
    assert (await call("PUT", "/v1/stream/b", TEXT)).status == 429
    assert (await call("GET", A)).body == b"xxxxx"
    assert (await call("DELETE", A)).status == 204
    assert call.app.rates.appends_refused == 2


async def test_bytes_above_the_rate_of_their_client_get_429(
    calling: Callable[..., Caller],
) -> None:
    call = calling(max_bytes_per_second=100)
    assert (await call("POST", A, TEXT, bytes(499))).status == 204
    assert (await call("PUT", "/v1/stream/b", TEXT, b"x")).status == 201
    refused = await call("POST", A, TEXT, bytes(200))
    assert (refused.status, refused.error["code"]) == (429, "TOO_MANY_BYTES")
    assert refused.headers["retry-after"] == "2"
    assert (await call("POST", A, {"stream-closed": "true"})).status == 204


async def test_requests_pass_without_limits_of_rates(calling: Callable[..., Caller]) -> None:
    call = calling()
    assert call.app.handler.gate is None  # so that they cost nothing
    for _ in range(50):
        assert (await call("POST", A, TEXT, bytes(1000))).status == 204
    assert len(call.app.rates) == 0


@pytest.mark.parametrize("kind", ["sse", "long-poll"])
@pytest.mark.parametrize(
    ("name", "status", "code"),
    [
        ("max_live_readers", 503, "TOO_MANY_LIVE_READERS"),
        ("max_live_readers_per_stream", 429, "TOO_MANY_READERS_OF_STREAM"),
        ("max_live_readers_per_client", 429, "TOO_MANY_READERS_OF_CLIENT"),
    ],
)
async def test_live_read_above_a_limit_is_refused_until_another_ends(
    calling: Callable[..., Caller], name: str, status: int, code: str, kind: str
) -> None:
    call = calling(**{name: 2})
    readers = call.app.handler.live_readers
    url = f"{A}?offset=-1&live={kind}"
    waiting = [asyncio.create_task(call("GET", url)) for _ in range(2)]
    await until(lambda: readers.used == 2)
    refused = await call("GET", url)
    assert (refused.status, refused.error["code"]) == (status, code)
    assert refused.headers["retry-after"] == "1"
    assert (await call("GET", A)).status == 200  # other reads have no such limit
    for each in waiting:
        each.cancel()
    await asyncio.wait(waiting)
    assert (await call("POST", A, {"stream-closed": "true"})).status == 204
    await until(lambda: readers.used == 0)
    assert (await call("GET", url)).status in (200, 204)
    assert (readers.used, readers.refused) == (0, 1)


async def test_live_reads_of_a_token_have_the_limit_of_the_token() -> None:
    app = app_with()
    limits = TokenLimits(live_readers=1)
    app.handler.gate = Gate(access=Deciding(lambda _: Permit("token:a", limits=limits)))
    call = Caller(app, native=True)
    url = f"{A}?offset=-1&live=sse"
    waiting = asyncio.create_task(call("GET", url))
    await until(lambda: app.handler.live_readers.used == 1)
    assert (await call("GET", url)).error["code"] == "TOO_MANY_READERS_OF_CLIENT"
    waiting.cancel()
    await asyncio.wait([waiting])
    await call("POST", A, {"stream-closed": "true"})
    await until(lambda: app.handler.live_readers.used == 0)


@pytest.mark.parametrize("lane", ["native", "asgi"])
async def test_large_body_above_the_rate_is_refused_by_its_head(lane: str) -> None:
    app = app_with(max_bytes_per_second=100)
    head = f"POST {A} HTTP/1.1\r\nHost: h\r\nContent-Type: text/plain\r\nContent-Length: "
    large = (head + f"{LARGE_BODY + 1}\r\n\r\n").encode()
    client: Any = Client(Lane(app)) if lane == "native" else AsgiClient(Timeouts(), app=app)
    client.wire.give(post(bytes(600)))
    await until(lambda: b"204" in client.wire.received)
    client.wire.received.clear()
    client.wire.give(large)
    await until(lambda: len(parse(bytes(client.wire.received), ["POST"])[0]) == 1)
    ((refused,), _) = parse(bytes(client.wire.received), ["POST"])
    assert (refused.status, refused.error["code"]) == (429, "TOO_MANY_BYTES")
    assert app.budget.held == 0
    client.wire.lose()
    await run_turns()


@pytest.mark.parametrize("client", [(CLIENT, 1), [CLIENT, 1]])
async def test_address_that_a_host_server_names_is_counted(client: Any) -> None:
    """Some host servers give the client as a list."""
    app = app_with(max_appends_per_second=1)
    headers = [(b"content-type", b"text/plain")]
    for number in range(6):
        exchange = Exchange(app, "POST", A.encode(), headers, client=client)
        exchange.feed(b"x")
        assert (await exchange.answer()).status == (204 if number < 5 else 429)


@pytest.mark.parametrize("client", [None, ("", 0)])
async def test_unix_socket_client_of_a_host_server_has_no_limit(client: Any) -> None:
    app = app_with(max_appends_per_second=1)
    headers = [(b"content-type", b"text/plain")]
    for _ in range(9):
        exchange = Exchange(app, "POST", A.encode(), headers, client=client)
        exchange.feed(b"x")
        assert (await exchange.answer()).status == 204
