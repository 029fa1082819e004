"""Tests the requests that the webhook client sends, and how it treats each kind of answer."""

import asyncio
import gzip
import socket
import struct

import pytest

from durable_streams_server.subscriptions.addresses import WebhookPolicy
from durable_streams_server.subscriptions.answers import MAX_REPLY_BODY
from durable_streams_server.subscriptions.client import Reply, WebhookClient
from durable_streams_server.subscriptions.network import DeliveryFailed
from durable_streams_server.subscriptions.time_limit import TimeLimit
from tests.subscriptions.exchanges import (
    BODY,
    HEADERS,
    LOCAL,
    NAME,
    endless,
    exchange,
    failure,
    resolve_to_public_address,
)
from tests.subscriptions.receivers import OK, Authority, LoopbackNetwork, receiver

# Requests


async def test_request_has_the_exact_body_and_only_known_headers() -> None:
    async with receiver() as it:
        client = WebhookClient(LOCAL)
        reply = await client.post(
            f"http://127.0.0.1:{it.port}/a%20b/../c?d=", BODY, HEADERS, TimeLimit(10)
        )
        assert reply == Reply(200, b'{"done":true}')
        ((head, body),) = it.requests
        assert body == BODY
        lines = head.decode().lower().split("\r\n")
        assert lines[0] == "post /a%20b/../c?d= http/1.1"
        assert sorted(lines[1:-2]) == [
            "accept-encoding: identity",
            f"content-length: {len(BODY)}",
            "content-type: application/json",
            f"host: 127.0.0.1:{it.port}",
            "user-agent: durable-streams-server",
            "webhook-signature: t=1,kid=a",
        ]
        await client.aclose()


async def test_second_delivery_reuses_the_connection() -> None:
    async with receiver() as it:
        client = WebhookClient(LOCAL)
        for _ in range(3):
            await client.post(f"http://127.0.0.1:{it.port}/", BODY, HEADERS, TimeLimit(10))
        assert (it.connections, len(it.requests)) == (1, 3)
        await client.aclose()


async def test_size_limit_applies_to_each_answer_of_a_connection() -> None:
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % MAX_REPLY_BODY
    async with receiver(answer + b"x" * MAX_REPLY_BODY) as it:
        client = WebhookClient(LOCAL)
        for _ in range(3):
            await client.post(f"http://127.0.0.1:{it.port}/", BODY, HEADERS, TimeLimit(10))
        assert it.connections == 1
        await client.aclose()


async def test_client_ignores_proxies_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert (await exchange(OK)).status == 200


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("https://Hooks.Example.com/", b"hooks.example.com"),
        ("https://hooks.example.com:443/", b"hooks.example.com"),
        ("https://hooks.example.com:8443/", b"hooks.example.com:8443"),
        ("https://[2606:4700::1111]/", b"[2606:4700::1111]"),
        ("https://[2606:4700:0::1111]:8443/", b"[2606:4700::1111]:8443"),
    ],
)
async def test_host_header_names_the_host_and_port_of_the_url(
    url: str, host: bytes, authority: Authority
) -> None:
    async with receiver(tls=authority.server_context(NAME, "2606:4700::1111")) as it:
        client = WebhookClient(
            WebhookPolicy(),
            resolver=resolve_to_public_address,
            ssl_context=authority.client_context(),
            network=LoopbackNetwork(it.port),
        )
        await client.post(url, BODY, HEADERS, TimeLimit(10))
        assert b"\r\nhost: " + host + b"\r\n" in it.requests[0][0]
        await client.aclose()


# Answers


@pytest.mark.parametrize("status", [200, 201, 204, 299, 400, 404, 410, 429, 500, 503, 599])
async def test_client_returns_any_2xx_4xx_or_5xx_status(status: int) -> None:
    body = b"" if status == 204 else b"x"
    reply = b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n%b" % (status, len(body), body)
    assert await exchange(reply) == Reply(status, body)


@pytest.mark.parametrize("status", [300, 301, 302, 303, 304, 307, 308, 399])
async def test_redirect_fails_and_is_not_followed(status: int) -> None:
    async with receiver() as other:
        location = b"http://127.0.0.1:%d/" % other.port
        error = await failure(
            b"HTTP/1.1 %d X\r\nLocation: %b\r\nContent-Length: 0\r\n\r\n" % (status, location)
        )
        assert "redirects" in error.reason
        assert error.code == "redirect"
        assert not error.timed_out
        assert other.connections == 0


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n{\r\n1\r\n}\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}",
        b"HTTP/1.1 103 Early Hints\r\nLink: <a>\r\n\r\nHTTP/1.1 200 \r\nContent-Length: 2\r\n\r\n{}",
    ],
)
async def test_client_reads_bodies_in_every_http_framing(answer: bytes) -> None:
    assert await exchange(answer) == Reply(200, b"{}")


async def test_client_reads_a_body_that_ends_with_the_connection() -> None:
    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.0 200 OK\r\n\r\n{}")
        writer.close()

    assert await exchange(answer) == Reply(200, b"{}")


@pytest.mark.parametrize("chunked", [False, True])
async def test_compressed_answer_is_decoded(chunked: bool) -> None:
    body = gzip.compress(b'\xef\xbb\xbf{"done":true}')
    head = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n"
    if chunked:
        answer = b"%bTransfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (
            head,
            len(body),
            body,
        )
    else:
        answer = b"%bContent-Length: %d\r\n\r\n%b" % (head, len(body), body)
    assert await exchange(answer) == Reply(200, b'{"done":true}')


async def test_answer_in_an_unknown_encoding_fails() -> None:
    error = await failure(b"HTTP/1.1 200 OK\r\nContent-Encoding: br\r\nContent-Length: 2\r\n\r\n{}")
    assert "encoding" in error.reason
    assert error.code == "invalid_answer"
    assert not error.timed_out


@pytest.mark.parametrize("coding", [b"gzip", b"br"])
async def test_error_status_is_returned_even_if_its_body_is_unusable(coding: bytes) -> None:
    head = b"HTTP/1.1 500 X\r\nContent-Encoding: %b\r\nContent-Length: %d\r\n\r\n"
    assert await exchange(head % (coding, 2) + b"no") == Reply(500, b"no")
    large = b"x" * (MAX_REPLY_BODY + 1)
    assert await exchange(head % (coding, len(large)) + large) == Reply(500, b"")
    assert await exchange(endless(head % (coding, 10**9), b"x" * 1000)) == Reply(500, b"")


async def test_body_of_64_kib_is_accepted_and_one_more_byte_fails() -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n"
    whole = b"x" * MAX_REPLY_BODY
    assert (await exchange(head % len(whole) + whole)).body == whole
    error = await failure(head % (len(whole) + 1) + whole + b"x")
    assert "too large" in error.reason
    assert error.code == "invalid_answer"


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"\x00" * 100,
        b"nonsense\r\n\r\n",
        b"HTTP/1.1 abc\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab",
        b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab",
        b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        b"HTTP/2 200\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.6\r\n",
    ],
)
async def test_incomplete_or_invalid_http_fails(answer: bytes) -> None:
    async def close(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(answer)
        writer.close()

    error = await failure(close)
    assert "valid HTTP" in error.reason
    assert error.code == "invalid_answer"
    assert not error.timed_out


async def test_switch_to_another_protocol_fails() -> None:
    answer = b"HTTP/1.1 101 Switching\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n"
    error = await failure(answer)
    assert error.code == "invalid_answer"
    assert not error.timed_out


async def test_connection_reset_fails() -> None:
    async def reset(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        linger = struct.pack("ii", 1, 0)
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        writer.transport.abort()

    error = await failure(reset)
    assert "connection" in error.reason
    assert error.code == "unreachable"
    assert not error.timed_out


async def test_port_without_a_listener_fails() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        client = WebhookClient(LOCAL)
        with pytest.raises(DeliveryFailed, match="connection") as caught:
            await client.post(
                f"http://127.0.0.1:{taken.getsockname()[1]}/", BODY, HEADERS, TimeLimit(10)
            )
        assert caught.value.code == "unreachable"
        await client.aclose()
