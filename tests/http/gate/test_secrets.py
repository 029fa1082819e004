"""No token appears in an error, or in a log of the server or of its dependencies (TRAPS 46)."""

import asyncio
import logging
from pathlib import Path

import pytest

from durable_streams_server.http.serving.listening import listen
from durable_streams_server.http.serving.server import HttpLane, Server
from tests.access.provider import issue
from tests.http.gate.tokens import EVERYTHING, Guarded, signed

A = "/v1/stream/a"


def requests_with(token: str, jwt: str) -> list[bytes]:
    """Returns requests with secrets in every place, valid ones and broken ones."""
    url = signed(A, token)
    broken_url = url[:-5] + "AAAAA"
    lines = []
    for secret in (token, token[:-1] + "%", jwt, jwt[:-4] + "AAAA", "dst_" + token):
        for method in ("GET", "PUT", "DELETE", "PATCH"):
            lines += [
                f"{method} {A} HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {secret}",
                f"{method} {A} HTTP/1.1\r\nHost: h\r\nCookie: durable_streams_token={secret}",
            ]
        lines += [
            f"GET {A} HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {secret}\r\nBad header",
            f"GET {A} HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {secret}\r\nAuthorization: Bearer {secret}",
            f"GET {A} HTTP/9.9\r\nHost: h\r\nAuthorization: Bearer {secret}",
            f"GET {A}?offset=-1&access_token={secret} HTTP/1.1\r\nHost: h",
            f"POST {A} HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {secret}\r\nContent-Length: x",
            f"POST /v1/stream/__ds/subscriptions/s/ack HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {secret}"
            "\r\nContent-Type: application/json\r\nContent-Length: 2",
            f"GET {A} HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: upgrade\r\nAuthorization: Bearer {secret}",
        ]
    for target in (url, broken_url, f"{url}&offset=%", f"{url}#x", f"//{url}", f"http://h{url}"):
        lines += [f"{method} {target} HTTP/1.1\r\nHost: h" for method in ("GET", "PUT", "HEAD")]
    return [f"{each}\r\nConnection: close\r\n\r\n".encode() for each in lines]


@pytest.mark.slow("sends a hundred requests to a real server")
@pytest.mark.parametrize("lane", ["native", "asgi"])
async def test_no_token_is_logged_or_returned(
    lane: HttpLane, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    site = Guarded(tmp_path, native=lane == "native")
    token = site.token(EVERYTHING)
    jwt = issue(streams=[{"verbs": ["read"], "paths": ["/**"]}])
    signature = signed(A, token).rpartition("signature=")[2]
    secrets = (token.rpartition("_")[2][:20], jwt[-30:-5], signature[:20])
    listening = listen("127.0.0.1", 0)
    started = asyncio.Event()
    server = Server(site.app, "debug", started.set, lane)
    server.install_signals = False
    serving = asyncio.create_task(server.serve([listening]))
    await started.wait()
    received = b""
    for request in requests_with(token, jwt):
        reader, writer = await asyncio.open_connection(*listening.getsockname())
        writer.write(request)
        writer.write_eof()
        async with asyncio.timeout(30):
            received += await reader.read()
        writer.close()
    server.stop()
    await serving
    listening.close()
    assert received.count(b"HTTP/1.1 ") > 80
    assert caplog.records
    for secret in secrets:
        assert secret.encode() not in received
        assert secret not in caplog.text
