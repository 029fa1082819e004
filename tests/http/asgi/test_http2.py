"""HTTP/2 between real clients and the real command: negotiation, many streams on one connection, and a clean stop."""

import asyncio
import os
import signal
import socket
import time

import httpx
import pytest

from durable_streams_server.protocol.units import MIB
from tests.http.asgi.http2_clients import TEXT, A, http2_client, tls_flags, trusting
from tests.http.certificates import Certificate
from tests.process import launch, serve


@pytest.mark.parametrize("lane", ["native", "asgi"])
async def test_server_speaks_http2_to_clients_that_offer_it_and_http11_to_others(
    lane: str, certificate: Certificate
) -> None:
    with serve(*tls_flags(certificate), "--http", lane) as server:
        async with http2_client(server, certificate) as http:
            made = await http.put(A, headers=TEXT)
            assert (made.http_version, made.status_code) == ("HTTP/2", 201)
            assert made.headers["location"] == server.url + A
        async with httpx.AsyncClient(verify=trusting(certificate)) as http:
            found = await http.get(server.url + A)
            assert (found.http_version, found.status_code) == ("HTTP/1.1", 200)


async def test_no_http2_flag_offers_only_http11(certificate: Certificate) -> None:
    with serve(*tls_flags(certificate), "--no-http2") as server:
        both = httpx.AsyncClient(verify=trusting(certificate), http2=True)
        async with both as http:
            made = await http.put(server.url + A, headers=TEXT)
            assert (made.http_version, made.status_code) == ("HTTP/1.1", 201)


@pytest.mark.parametrize("lane", ["native", "asgi"])
def test_http2_without_tls_is_refused_with_an_http11_error(lane: str) -> None:
    with serve("--memory", "--http", lane) as server:
        host, port = server.url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=10) as plain:
            plain.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(9))
            answer = b""
            while data := plain.recv(65536):
                answer += data
        assert answer.startswith(b"HTTP/1.1 400 ")
        assert b'"INVALID_HTTP"' in answer


async def test_twenty_event_streams_and_appends_share_one_connection(
    certificate: Certificate,
) -> None:
    with serve(*tls_flags(certificate)) as server:
        limits = httpx.Limits(max_connections=1)
        async with http2_client(server, certificate, limits=limits) as http:
            await http.put(A, headers=TEXT)
            began = asyncio.Barrier(21)

            async def follow() -> bytes:
                async with http.stream("GET", f"{A}?offset=-1&live=sse") as events:
                    pieces = events.aiter_bytes()
                    received = await anext(pieces)
                    await began.wait()
                    async for piece in pieces:
                        received += piece
                return received

            readers = [asyncio.create_task(follow()) for _ in range(20)]
            await began.wait()
            for number in range(50):
                done = await http.post(A, headers=TEXT, content=f"[{number}]")
                assert done.status_code == 204
            await http.post(A, headers={"stream-closed": "true"})
            for received in await asyncio.gather(*readers):
                assert all(b"[%d]" % number in received for number in range(50))
                assert b'"streamClosed":true' in received


async def test_large_bodies_are_sent_and_received(certificate: Certificate) -> None:
    body = os.urandom(6 * MIB)
    with serve(*tls_flags(certificate), "--page-size", "8m") as server:
        async with http2_client(server, certificate) as http:
            assert (await http.put(A, content=body)).status_code == 201
            assert (await http.get(A)).content == body


@pytest.mark.parametrize("drain", [0, 3])
async def test_stop_ends_event_streams_with_a_control_event(
    drain: int, certificate: Certificate
) -> None:
    with launch(*tls_flags(certificate), "--drain", str(drain)) as server:
        async with http2_client(server, certificate) as http:
            await http.put(A, headers=TEXT)
            began = asyncio.Barrier(21)

            async def follow() -> tuple[bytes, float]:
                async with http.stream("GET", f"{A}?offset=-1&live=sse") as events:
                    pieces = events.aiter_bytes()
                    await anext(pieces)
                    await began.wait()
                    rest = b"".join([piece async for piece in pieces])
                    return rest, time.monotonic()

            readers = [asyncio.create_task(follow()) for _ in range(20)]
            await began.wait()
            at = time.monotonic()
            server.process.send_signal(signal.SIGTERM)
            # Raises an error if a stream does not end properly.
            ended = await asyncio.gather(*readers)
        assert all(b"event: control\ndata:{" in rest for rest, _ in ended)
        if drain:  # the ends are spread, although all streams share one connection
            assert 5 <= sum(when - at < drain / 2 for _, when in ended) <= 15
        assert server.process.wait(10) == 0
        assert time.monotonic() - at < drain + 5


async def test_client_sends_thousands_of_requests_over_successive_connections(
    certificate: Certificate,
) -> None:
    with serve(*tls_flags(certificate)) as server:
        async with http2_client(
            server, certificate, limits=httpx.Limits(max_connections=1)
        ) as http:
            await http.put(A, headers=TEXT)
            for number in range(2500):
                done = await http.post(A, headers=TEXT, content="x")
                assert done.status_code == 204, number
                if number == 1200:
                    await asyncio.sleep(
                        1.1
                    )  # longer than `_QUIET`, so that the server sends GOAWAY
            assert (await http.get(A)).text == "x" * 2500
