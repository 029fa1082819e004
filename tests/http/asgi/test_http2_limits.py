"""The limits of HTTP/2 connections, against the real command and clients that misbehave."""

import contextlib
import os

import h2.errors
import h2.events
import h2.exceptions
import h2.settings
import httpx
import pytest

from durable_streams_server.protocol.units import MIB
from tests.http.asgi.http2_clients import (
    TEXT,
    A,
    RawClient,
    http2_client,
    memory_of,
    tls_flags,
    trusting,
)
from tests.http.certificates import Certificate
from tests.process import serve


async def test_body_over_the_limit_returns_413_before_it_is_received(
    certificate: Certificate,
) -> None:
    with serve(*tls_flags(certificate), "--max-body", "100k") as server:
        async with http2_client(server, certificate) as http:
            await http.put(A, headers=TEXT)
        with RawClient(server, certificate) as raw:
            length = ("content-length", "200000")
            asked = raw.ask("POST", A, ("content-type", "text/plain"), length, ends=False)
            raw.flush()
            assert raw.answer() == "413"
            # The rest of the body will not be read, and the client is told so (RFC 9113, 8.1).
            events = (each for each in raw.events() if isinstance(each, h2.events.StreamReset))
            reset = next(events)
            assert (reset.stream_id, reset.error_code) == (asked, h2.errors.ErrorCodes.NO_ERROR)


def test_paused_body_returns_408_and_keeps_the_connection_open(certificate: Certificate) -> None:
    with (
        serve(*tls_flags(certificate), "--body-timeout", "0.3") as server,
        RawClient(server, certificate) as raw,
    ):
        length = ("content-length", "10")
        raw.ask("PUT", A, ("content-type", "text/plain"), length, ends=False)
        raw.flush()
        assert raw.answer() == "408"
        raw.ask("PUT", A, ("content-type", "text/plain"))
        raw.flush()
        assert raw.answer() == "201"


def test_http2_streams_count_toward_the_connection_limit_of_their_address(
    certificate: Certificate,
) -> None:
    with (
        serve(*tls_flags(certificate), "--max-connections-per-address", "5") as server,
        RawClient(server, certificate) as raw,
    ):
        raw.ask("PUT", A, ("content-type", "text/plain"))
        raw.flush()
        assert raw.answer() == "201"
        streams = [raw.ask("GET", f"{A}?offset=-1&live=sse") for _ in range(8)]
        raw.flush()
        assert sorted(raw.answer() for _ in streams) == ["200"] * 5 + ["503"] * 3
        with httpx.Client(verify=trusting(certificate)) as http:
            refused = http.get(server.url + A)
        assert refused.json()["error"]["code"] == "TOO_MANY_CONNECTIONS_FROM_ADDRESS"
        for stream in streams:
            with contextlib.suppress(h2.exceptions.StreamClosedError):  # the server has refused it
                raw.h2.reset_stream(stream, h2.errors.ErrorCodes.CANCEL)
        status = "503"
        for _ in range(100):  # their tasks end within a few turns of the loop
            raw.ask("GET", A)
            raw.flush()
            if (status := raw.answer()) == "200":
                break
        assert status == "200"


def test_pages_that_wait_for_flow_control_use_little_memory(certificate: Certificate) -> None:
    with (
        serve(*tls_flags(certificate)) as server,
        httpx.Client(base_url=server.url, verify=trusting(certificate)) as http,
    ):
        for number in range(60):  # a page of its own for each, so that none can be shared
            http.put(f"{A}{number}", content=os.urandom(4 * MIB))
        before = memory_of(server.process)
        with RawClient(server, certificate) as raw:
            for number in range(60):
                raw.ask("GET", f"{A}{number}?offset=-1")
            raw.flush()
            for _ in range(60):
                assert raw.answer() == "200"
            assert http.get(f"{A}0?offset=now").status_code == 200
            # 60 slices of 64 KiB, not 60 pages of 4 MiB.
            assert memory_of(server.process) - before < 40 * MIB


def test_server_cuts_slow_clients_while_unsent_bytes_exceed_the_limit(
    certificate: Certificate,
) -> None:
    with (
        serve(*tls_flags(certificate), "--max-unsent", str(MIB)) as server,
        httpx.Client(
            base_url=server.url, verify=trusting(certificate), http1=False, http2=True
        ) as http,
        RawClient(server, certificate) as raw,
    ):
        http.put(A, content=os.urandom(60_000))
        for _ in range(30):
            raw.ask("GET", f"{A}?offset=-1")
        raw.flush()
        raw.until_closed()
        assert http.get(f"{A}?offset=now").status_code == 200


def test_server_stops_reading_from_a_client_that_reads_no_pongs(certificate: Certificate) -> None:
    with serve(*tls_flags(certificate)) as server, RawClient(server, certificate) as raw:
        for _ in range(1000):
            raw.h2.ping(b"12345678")
        pings = raw.h2.data_to_send()
        before = memory_of(server.process)
        raw.socket.settimeout(1)
        many = pings * (100 * MIB // len(pings))
        with pytest.raises(
            TimeoutError
        ):  # the server stops reading, because the client reads nothing
            raw.socket.sendall(many)
        assert memory_of(server.process) - before < 10 * MIB


def test_rapid_resets_end_the_connection(certificate: Certificate) -> None:
    with (
        serve(*tls_flags(certificate)) as server,
        httpx.Client(base_url=server.url, verify=trusting(certificate)) as http,
    ):
        http.put(A, headers=TEXT)
        with RawClient(server, certificate) as raw:
            with contextlib.suppress(
                OSError
            ):  # the server may close the connection while this sends
                for _ in range(10_000):
                    stream = raw.ask("GET", f"{A}?offset=now&live=long-poll")
                    raw.h2.reset_stream(stream, h2.errors.ErrorCodes.CANCEL)
                    raw.flush()
            raw.until_closed()
        assert http.get(A).status_code == 200


def test_endless_continuation_frames_end_the_connection(certificate: Certificate) -> None:
    with serve(*tls_flags(certificate)) as server, RawClient(server, certificate) as raw:
        raw.socket.sendall(bytes([0, 0, 0, 1, 0, 0, 0, 0, 1]))  # HEADERS without END_HEADERS
        with contextlib.suppress(OSError):
            for _ in range(1000):
                raw.socket.sendall(bytes([0, 0, 0, 9, 0, 0, 0, 0, 1]))  # CONTINUATION
        raw.until_closed()


def test_headers_over_the_limit_return_431(certificate: Certificate) -> None:
    with serve(*tls_flags(certificate)) as server, RawClient(server, certificate) as raw:
        raw.ask("GET", A, *[(f"x-{number}", "v" * 1000) for number in range(40)])
        raw.flush()
        assert raw.answer() == "431"
