"""Tests of fetching key sets: what is sent, what is accepted, and that every failure has a reason in words of the server."""

import asyncio
import ssl

import pytest

from durable_streams_server.access.fetch import (
    FETCH_SECONDS,
    MAX_KEY_SET_BYTES,
    FetchFailed,
    fetch,
)
from tests.access.key_server import key_server, ok
from tests.subscriptions.loop_clock import LoopClock
from tests.subscriptions.receivers import Authority, LoopbackNetwork

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


async def failure(port: int, ssl_context: ssl.SSLContext | None = None) -> str:
    """Returns the reason why a fetch has failed."""
    scheme = "http" if ssl_context is None else "https"
    with pytest.raises(FetchFailed) as caught:
        await fetch(f"{scheme}://127.0.0.1:{port}/hush", ssl_context)
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None or "hush" not in str(caught.value)
    return str(caught.value)


async def test_fetch_returns_the_body_and_sends_no_credentials() -> None:
    async with key_server(ok(b"keys")) as server:
        url = f"http://127.0.0.1:{server.port}/a/keys.json?x=1"
        assert await fetch(url, None) == b"keys"
        head, *_ = server.requests
        lines = head.lower().split(b"\r\n")
        assert lines[0] == b"get /a/keys.json?x=1 http/1.1"
        names = sorted(line.partition(b":")[0] for line in lines[1:] if line)
        assert names == [b"accept", b"accept-encoding", b"connection", b"host", b"user-agent"]
        assert b"host: 127.0.0.1:%d" % server.port in lines


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("http://login.example/keys", b"login.example"),
        ("http://login.example:81/keys", b"login.example:81"),
        ("http://[::1]/keys", b"[::1]"),
        ("http://[::1]:81/keys", b"[::1]:81"),
    ],
)
async def test_host_header_names_the_host_of_the_url(url: str, host: bytes) -> None:
    async with key_server(ok(b"keys")) as server:
        assert await fetch(url, None, LoopbackNetwork(server.port)) == b"keys"
        assert b"host: %b\r\n" % host in server.requests[0].lower()


async def test_certificate_is_verified(authority: Authority) -> None:
    async with key_server(ok(b"keys"), authority.server_context("127.0.0.1")) as server:
        url = f"https://127.0.0.1:{server.port}/keys"
        assert await fetch(url, authority.client_context()) == b"keys"
        assert (
            await failure(server.port, ssl.create_default_context())
            == "the name, the connection or the certificate failed"
        )
    async with key_server(ok(b"keys"), authority.server_context("localhost")) as server:
        assert (
            await failure(server.port, authority.client_context())
            == "the name, the connection or the certificate failed"
        )


@pytest.mark.parametrize(
    ("response", "why"),
    [
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", "the answer has the status 404"),
        (
            b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1/hush\r\nContent-Length: 0\r\n\r\n",
            "the answer has the status 302",
        ),
        (b"HTTP/1.1 204 No Content\r\n\r\n", "the answer has the status 204"),
        (b"hush\r\n\r\n", "the answer is not whole and valid HTTP"),
        (b"", "the answer is not whole and valid HTTP"),
        (
            b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhush",
            "the answer is not whole and valid HTTP",
        ),
        (b"HTTP/1.1 200 OK\r\nhush\r\n\r\n", "the answer is not whole and valid HTTP"),
        (
            CHUNKED + b"%x\r\n%b\r\n" % (MAX_KEY_SET_BYTES + 1, b"x" * (MAX_KEY_SET_BYTES + 1)),
            f"the answer has more than {MAX_KEY_SET_BYTES} bytes",
        ),
        (
            b"HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n" + b"x" * (MAX_KEY_SET_BYTES + 1),
            f"the answer has more than {MAX_KEY_SET_BYTES} bytes",
        ),
        (
            b"HTTP/1.1 200 OK\r\nX: " + b"x" * 300_000 + b"\r\n\r\n",
            "the answer is not whole and valid HTTP",
        ),
    ],
    ids=range(10),
)
async def test_unusable_answer_fails_with_a_reason(response: bytes, why: str) -> None:
    async with key_server(response) as server:
        assert await failure(server.port) == why


async def test_largest_body_is_accepted() -> None:
    body = b"x" * MAX_KEY_SET_BYTES
    async with key_server(ok(body)) as server:
        assert await fetch(f"http://127.0.0.1:{server.port}/", None) == body


async def test_refused_connection_and_forbidden_name_fail_with_a_reason() -> None:
    async with key_server(ok(b"")) as server:
        port = server.port
    assert await failure(port) == "the name, the connection or the certificate failed"
    with pytest.raises(FetchFailed, match="the name, the connection or the certificate failed"):
        await fetch(f"http://{'a' * 64}.example/", None)  # IDNA forbids the name


async def test_silent_server_is_given_up_after_ten_seconds(loop_clock: LoopClock) -> None:
    async with key_server(None) as server:
        task = asyncio.create_task(failure(server.port))
        await server.requested.wait()
        await loop_clock.forward(FETCH_SECONDS - 1)
        assert not task.done()
        await loop_clock.forward(1)
        assert await task == "it takes too long"
