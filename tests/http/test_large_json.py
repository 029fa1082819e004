"""Large JSON bodies over both adapters: they are split in steps, and other requests are answered in between."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final

import pytest

from durable_streams_server import StreamStore, create_app
from durable_streams_server.http.asgi.application import DurableStreamsApp
from durable_streams_server.http.native.lane import Lane
from durable_streams_server.protocol.limits import MAX_MESSAGES
from durable_streams_server.protocol.units import KIB, MIB
from tests.http import asgi_driver, socket_driver
from tests.http.asgi_driver import Answer, Exchange
from tests.http.socket_driver import Client, until

A: Final = "/v1/stream/a"
B: Final = "/v1/stream/b"
JSON: Final = "application/json"
LARGE: Final = b"[[" + b"12345," * (MIB // 3) + b'1], "x"]'
WIRE: Final = LARGE[1:-1].replace(b'], "', b'],"')  # the values as a page returns them

Ask = Callable[..., Awaitable[Answer]]


@pytest.fixture
async def app() -> AsyncIterator[DurableStreamsApp]:
    app = create_app(store=StreamStore(), page_size=8 * MIB)
    yield app
    await app.stop()


@pytest.fixture(params=["asgi", "native"])
async def ask(app: DurableStreamsApp, request: pytest.FixtureRequest) -> Ask:
    """Returns a function that sends a request over one of the adapters and returns the response."""
    if request.param == "asgi":

        async def over_asgi(method: str, path: str, body: bytes = b"", /, **headers: str) -> Answer:
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            return await asgi_driver.request(app, method, path, named, body)

        return over_asgi
    lane = Lane(app)

    async def over_a_socket(method: str, path: str, body: bytes = b"", /, **headers: str) -> Answer:
        lines = [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        client = Client(lane)
        client.send(socket_driver.request(method, path, *lines, body=body), each=64 * KIB)
        found: list[Answer] = []

        def has_come() -> bool:
            answers, _ = socket_driver.parse(bytes(client.wire.received), [method])
            found.extend(answers)
            return bool(found)

        await until(has_come)
        client.reset()
        return found[0]

    return over_a_socket


async def test_large_create_and_append_are_stored(ask: Ask) -> None:
    assert (await ask("PUT", A, LARGE, content_type=JSON)).status == 201
    assert (await ask("POST", A, LARGE, content_type=JSON)).status == 204
    page = await ask("GET", A)
    assert page.body == b"[" + WIRE + b"," + WIRE + b"]"


async def test_fork_without_a_content_type_parses_its_body_like_its_source(ask: Ask) -> None:
    await ask("PUT", A, b"[1]", content_type=JSON)
    assert (await ask("PUT", B, LARGE, stream_forked_from=A)).status == 201
    assert (await ask("GET", B)).body == b"[1," + WIRE + b"]"
    refused = await ask("PUT", "/v1/stream/c", LARGE[:-1], stream_forked_from=A)
    assert (refused.status, refused.error["code"]) == (400, "INVALID_JSON")
    await ask("PUT", "/v1/stream/octets", b"x", content_type="text/plain")
    made = await ask("PUT", "/v1/stream/d", LARGE, stream_forked_from="/v1/stream/octets")
    assert made.status == 201
    assert (await ask("GET", "/v1/stream/d")).body == b"x" + LARGE
    lost = await ask("PUT", "/v1/stream/e", LARGE, stream_forked_from="/v1/stream/none")
    assert (lost.status, lost.error["code"]) == (404, "SOURCE_NOT_FOUND")


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (LARGE[:-1] + b",]", 400, "INVALID_JSON"),
        (LARGE[:-3] + b'\xff"]', 400, "INVALID_JSON"),
        (b"[" * 129 + LARGE + b"]" * 129, 400, "INVALID_JSON"),
        (b"[" + b" " * MIB + b"]", 400, "EMPTY_ARRAY"),
        (b"[" + b"1," * MAX_MESSAGES + b"1]", 413, "TOO_MANY_MESSAGES"),
    ],
)
async def test_invalid_large_body_is_refused_with_its_code(
    ask: Ask, body: bytes, status: int, code: str
) -> None:
    await ask("PUT", A, content_type=JSON)
    refused = await ask("POST", A, body, content_type=JSON)
    assert (refused.status, refused.error["code"]) == (status, code)
    assert (await ask("GET", A)).body == b"[]"


async def test_errors_of_the_stream_precede_errors_in_a_large_body(ask: Ask) -> None:
    missing = await ask("POST", A, LARGE[:-1], content_type=JSON)
    assert missing.status == 404
    await ask("PUT", A, b"x", content_type="text/plain")
    mismatch = await ask("POST", A, LARGE[:-1], content_type=JSON)
    assert mismatch.error["code"] == "CONTENT_TYPE_MISMATCH"
    await ask("PUT", B, b"[1]", content_type=JSON, stream_closed="true")
    closed = await ask("POST", B, LARGE[:-1], content_type=JSON)
    assert closed.error["code"] == "STREAM_CLOSED"
    again = await ask("PUT", B, LARGE[:-1], content_type=JSON, stream_closed="true")
    assert again.status == 200  # the same stream exists, so the body does not matter


async def test_other_requests_are_answered_while_a_body_is_split(ask: Ask) -> None:
    await ask("PUT", A, content_type=JSON)
    large = ask("POST", A, LARGE, content_type=JSON)
    small = ask("POST", A, b"[1]", content_type=JSON)
    assert [answer.status for answer in await asyncio.gather(large, small)] == [204, 204]
    assert (await ask("GET", A)).body == b"[1," + WIRE + b"]"


@pytest.mark.parametrize("adapter", ["asgi", "native"])
async def test_append_is_completed_if_its_client_leaves_while_it_is_split(
    app: DurableStreamsApp, adapter: str
) -> None:
    await asgi_driver.request(app, "PUT", A, {"content-type": JSON})
    turns = app.engine.turns
    if adapter == "asgi":
        headers = [(b"content-type", JSON.encode()), (b"content-length", b"%d" % len(LARGE))]
        exchange = Exchange(app, "POST", A.encode(), headers)
        exchange.feed(LARGE)
        exchange.disconnect()
        await exchange.task
    else:
        client = Client(Lane(app))
        client.send(socket_driver.request("POST", A, f"Content-Type: {JSON}", body=LARGE))
        await until(lambda: not client.wire.unread and not client.connection._unparsed)
        client.reset()
    await until(lambda: not len(turns))
    assert (await asgi_driver.request(app, "GET", A)).body == b"[" + WIRE + b"]"
