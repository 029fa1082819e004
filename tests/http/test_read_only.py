"""`create_app(read_only=True)`: HTTP can only read, while the program itself writes."""

import asyncio

import httpx
import pytest

from durable_streams_server import DurableStreamTestServer, NotFound, create_app
from tests.http.asgi_driver import request
from tests.http.socket_driver import until

A = "/v1/stream/a"
TEXT = {"content-type": "text/plain"}
SUBSCRIPTION = "/v1/stream/__ds/subscriptions/s"


@pytest.mark.parametrize(
    ("method", "url", "headers", "body"),
    [
        ("PUT", "/v1/stream/b", TEXT, b""),
        ("PUT", A, TEXT, b""),
        ("PUT", "/v1/stream/b", {"stream-forked-from": A}, b""),
        ("POST", A, TEXT, b"x"),
        ("POST", A, {"stream-closed": "true"}, b""),
        ("POST", A, TEXT, bytes(2 * 1024 * 1024)),
        ("POST", "/v1/stream/none", TEXT, b"x"),
        ("DELETE", A, {}, b""),
        ("PATCH", A, {}, b""),
    ],
)
async def test_writes_return_405_and_change_nothing(
    method: str, url: str, headers: dict[str, str], body: bytes
) -> None:
    app = create_app(read_only=True)
    await app.streams.create(A, "text/plain", initial_data=b"kept")
    for _ in range(3):
        answer = await request(app, method, url, headers, body)
        assert (answer.status, answer.error["code"]) == (405, "READ_ONLY")
        assert answer.headers["allow"] == "GET, HEAD, OPTIONS"
    page = await app.streams.read(A)
    assert (page.data, page.closed) == (b"kept", False)
    with pytest.raises(NotFound):
        await app.streams.head("/v1/stream/b")


@pytest.mark.parametrize(
    ("method", "url"),
    [
        ("GET", "/v1/stream/__ds/jwks.json"),
        ("GET", SUBSCRIPTION),
        ("PUT", SUBSCRIPTION),
        ("DELETE", SUBSCRIPTION),
        ("POST", SUBSCRIPTION + "/claim"),
        ("POST", SUBSCRIPTION + "/callback"),
    ],
)
async def test_control_routes_return_405(method: str, url: str) -> None:
    app = create_app(read_only=True)
    answer = await request(app, method, url, {"content-type": "application/json"}, b"{}")
    assert (answer.status, answer.error["code"]) == (405, "READ_ONLY")
    assert answer.headers["allow"] == "OPTIONS"


async def test_preflight_lists_only_methods_that_read() -> None:
    app = create_app(read_only=True, cors=True)
    headers = {"origin": "https://a.example", "access-control-request-method": "POST"}
    answer = await request(app, "OPTIONS", A, headers)
    assert answer.status == 204
    assert answer.headers["allow"] == "GET, HEAD, OPTIONS"
    assert answer.headers["access-control-allow-methods"] == "GET, HEAD, OPTIONS"


async def test_invalid_path_is_refused_before_the_method() -> None:
    app = create_app(read_only=True)
    assert (await request(app, "GET", "/v1/stream/__ds")).status == 404
    assert (await request(app, "POST", "/v1/%ff", TEXT, b"x")).status == 400


async def test_read_only_application_answers_health_checks() -> None:
    app = create_app(read_only=True)
    for path in ("/healthz", "/readyz"):
        assert (await request(app, "GET", path)).status == 200
        assert (await request(app, "POST", path)).error["code"] == "METHOD_NOT_ALLOWED"


async def test_reads_and_live_reads_return_what_the_program_writes() -> None:
    async with DurableStreamTestServer(read_only=True) as server:
        streams = server.streams
        await streams.create(A, "text/plain", initial_data=b"one")
        async with httpx.AsyncClient(base_url=server.base_url) as http:
            assert (await http.post(A, content="no", headers=TEXT)).status_code == 405
            assert (await http.post(A, content=bytes(3 << 20), headers=TEXT)).status_code == 405
            seen = await http.get(A)
            assert (seen.text, (await http.head(A)).status_code) == ("one", 200)
            assert "public" not in seen.headers["cache-control"]
            url = f"{A}?offset={seen.headers['stream-next-offset']}&live=long-poll"
            waits = asyncio.create_task(http.get(url))
            await until(lambda: len(server.app.engine.tails) == 1)
            await streams.append(A, b"two")
            assert (await waits).text == "two"
            async with http.stream("GET", f"{A}?offset=-1&live=sse") as events:
                await streams.close(A, b"three")
                body = "".join([part async for part in events.aiter_text()])
            assert "one" in body
            assert "three" in body
            assert '"streamClosed":true' in body
