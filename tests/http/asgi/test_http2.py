"""HTTP/2: chosen in the handshake, with real clients against the real command, and octet by octet where a client must misbehave."""

import asyncio
import contextlib
import gc
import os
import signal
import socket
import ssl
import subprocess
import time
import weakref
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self, cast

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.exceptions
import h2.settings
import httpx
import pytest
import uvicorn
from uvicorn.server import ServerState

from durable_streams_server import StreamStore, create_app
from durable_streams_server.http.asgi import http2
from durable_streams_server.http.asgi.http2 import Http2Connection, protocol_of
from durable_streams_server.http.limits.admission import Admission
from durable_streams_server.http.limits.timeouts import Timeouts
from tests.http import certificates
from tests.http.certificates import Certificate
from tests.http.socket_driver import Wire, until
from tests.process import ServerProcess, launch, serve

A = "/v1/stream/a"
TEXT = {"content-type": "text/plain"}
MIB = 1 << 20


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return certificates.make(tmp_path_factory.mktemp("tls"))


def flags(certificate: Certificate) -> tuple[str, ...]:
    return ("--memory", "--tls-cert", certificate.chain, "--tls-key", certificate.key)


def trusting(certificate: Certificate) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=certificate.chain)


def client(server: ServerProcess, certificate: Certificate, **given: Any) -> httpx.AsyncClient:
    return httpx.AsyncClient(
        base_url=server.url, verify=trusting(certificate), http1=False, http2=True, **given
    )


def memory_of(process: subprocess.Popen[str]) -> int:
    """Returns how many bytes of memory a process uses."""
    pages = int(Path(f"/proc/{process.pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


class Raw:
    """An HTTP/2 client over TLS that does only what it is told: it opens no window and answers nothing by itself."""

    def __init__(self, server: ServerProcess, certificate: Certificate) -> None:
        host, port = server.url.removeprefix("https://").split(":")
        context = trusting(certificate)
        context.set_alpn_protocols(["h2"])
        plain = socket.create_connection((host, int(port)), timeout=10)
        self.socket = context.wrap_socket(plain, server_hostname=host)
        assert self.socket.selected_alpn_protocol() == "h2"
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True))
        self.received: deque[h2.events.Event] = deque()
        self.h2.initiate_connection()
        self.flush()

    def flush(self) -> None:
        self.socket.sendall(self.h2.data_to_send())

    def ask(self, method: str, path: str, *more: tuple[str, str], ends: bool = True) -> int:
        """Begins a request; returns its stream."""
        stream = int(self.h2.get_next_available_stream_id())
        head = [(":method", method), (":scheme", "https"), (":authority", "h"), (":path", path)]
        self.h2.send_headers(stream, [*head, *more], end_stream=ends)
        return stream

    def events(self) -> Iterator[h2.events.Event]:
        """Yields what the server sends, until it closes the connection."""
        while True:
            while self.received:
                yield self.received.popleft()
            data = self.socket.recv(65536)
            if not data:
                return
            self.received += self.h2.receive_data(data)

    def answer(self) -> str:
        """Returns the status of the next answer."""
        for event in self.events():
            if isinstance(event, h2.events.ResponseReceived):
                return dict(event.headers)[b":status"].decode()
        raise AssertionError("the server has closed the connection")

    def until_closed(self) -> None:
        """Reads until the server has closed the connection, which must be soon."""
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            while self.socket.recv(65536):
                pass

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()


# -- the choice --------------------------------------------------------------


@pytest.mark.parametrize("lane", ["native", "asgi"])
async def test_client_that_offers_http2_gets_it_and_any_other_http11(
    lane: str, certificate: Certificate
) -> None:
    with serve(*flags(certificate), "--http", lane) as server:
        async with client(server, certificate) as http:
            made = await http.put(A, headers=TEXT)
            assert (made.http_version, made.status_code) == ("HTTP/2", 201)
            assert made.headers["location"] == server.url + A
        async with httpx.AsyncClient(verify=trusting(certificate)) as http:
            found = await http.get(server.url + A)
            assert (found.http_version, found.status_code) == ("HTTP/1.1", 200)


async def test_no_http2_offers_http11_alone(certificate: Certificate) -> None:
    with serve(*flags(certificate), "--no-http2") as server:
        both = httpx.AsyncClient(verify=trusting(certificate), http2=True)
        async with both as http:
            made = await http.put(server.url + A, headers=TEXT)
            assert (made.http_version, made.status_code) == ("HTTP/1.1", 201)


@pytest.mark.parametrize("lane", ["native", "asgi"])
def test_http2_without_tls_is_refused_in_plain_words(lane: str) -> None:
    with serve("--memory", "--http", lane) as server:
        host, port = server.url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=10) as plain:
            plain.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(9))
            answer = b""
            while data := plain.recv(65536):
                answer += data
        assert answer.startswith(b"HTTP/1.1 400 ")
        assert b'"INVALID_HTTP"' in answer


# -- one connection for all --------------------------------------------------


async def test_twenty_event_streams_and_appends_share_one_connection(
    certificate: Certificate,
) -> None:
    with serve(*flags(certificate)) as server:
        limits = httpx.Limits(max_connections=1)
        async with client(server, certificate, limits=limits) as http:
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


async def test_large_bodies_go_both_ways(certificate: Certificate) -> None:
    body = os.urandom(6 * MIB)
    with serve(*flags(certificate), "--page-size", "8m") as server:
        async with client(server, certificate) as http:
            assert (await http.put(A, content=body)).status_code == 201
            assert (await http.get(A)).content == body


async def test_stop_ends_event_streams_with_a_last_control_event(certificate: Certificate) -> None:
    with launch(*flags(certificate)) as server:
        async with client(server, certificate) as http:
            await http.put(A, headers=TEXT)
            began = asyncio.Barrier(21)

            async def follow() -> bytes:
                async with http.stream("GET", f"{A}?offset=-1&live=sse") as events:
                    pieces = events.aiter_bytes()
                    await anext(pieces)
                    await began.wait()
                    return b"".join([piece async for piece in pieces])

            readers = [asyncio.create_task(follow()) for _ in range(20)]
            await began.wait()
            at = time.monotonic()
            server.process.send_signal(signal.SIGTERM)
            for rest in await asyncio.gather(*readers):  # raises if a stream has no proper end
                assert b"event: control\ndata:{" in rest
        assert server.process.wait(10) == 0
        assert time.monotonic() - at < 2


async def test_thousands_of_requests_come_through_on_one_connection_after_the_other(
    certificate: Certificate,
) -> None:
    with serve(*flags(certificate)) as server:
        async with client(server, certificate, limits=httpx.Limits(max_connections=1)) as http:
            await http.put(A, headers=TEXT)
            for number in range(2500):
                done = await http.post(A, headers=TEXT, content="x")
                assert done.status_code == 204, number
                if number == 1200:
                    await asyncio.sleep(1.1)  # a quiet moment, in which the connection is left
            assert (await http.get(A)).text == "x" * 2500


# -- limits ------------------------------------------------------------------


async def test_body_over_the_limit_is_413_before_it_has_come(certificate: Certificate) -> None:
    with serve(*flags(certificate), "--max-body", "100k") as server:
        async with client(server, certificate) as http:
            await http.put(A, headers=TEXT)
        with Raw(server, certificate) as raw:
            length = ("content-length", "200000")
            asked = raw.ask("POST", A, ("content-type", "text/plain"), length, ends=False)
            raw.flush()
            assert raw.answer() == "413"
            # The rest of the body will not be read, and the client is told so (RFC 9113, 8.1).
            events = (each for each in raw.events() if isinstance(each, h2.events.StreamReset))
            reset = next(events)
            assert (reset.stream_id, reset.error_code) == (asked, h2.errors.ErrorCodes.NO_ERROR)


def test_body_that_pauses_is_408_and_the_connection_goes_on(certificate: Certificate) -> None:
    with (
        serve(*flags(certificate), "--body-timeout", "0.3") as server,
        Raw(server, certificate) as raw,
    ):
        length = ("content-length", "10")
        raw.ask("PUT", A, ("content-type", "text/plain"), length, ends=False)
        raw.flush()
        assert raw.answer() == "408"
        raw.ask("PUT", A, ("content-type", "text/plain"))
        raw.flush()
        assert raw.answer() == "201"


def test_streams_count_as_connections_of_their_address(certificate: Certificate) -> None:
    with (
        serve(*flags(certificate), "--max-connections-per-address", "5") as server,
        Raw(server, certificate) as raw,
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
            with contextlib.suppress(h2.exceptions.StreamClosedError):  # it was refused
                raw.h2.reset_stream(stream, h2.errors.ErrorCodes.CANCEL)
        status = "503"
        for _ in range(100):  # their tasks end within a few turns of the loop
            raw.ask("GET", A)
            raw.flush()
            if (status := raw.answer()) == "200":
                break
        assert status == "200"


def test_readers_that_open_no_window_hold_no_pages(certificate: Certificate) -> None:
    with (
        serve(*flags(certificate)) as server,
        httpx.Client(base_url=server.url, verify=trusting(certificate)) as http,
    ):
        for number in range(60):  # a page of its own for each, so that none can be shared
            http.put(f"{A}{number}", content=os.urandom(4 * MIB))
        before = memory_of(server.process)
        with Raw(server, certificate) as raw:
            for number in range(60):
                raw.ask("GET", f"{A}{number}?offset=-1")
            raw.flush()
            for _ in range(60):
                assert raw.answer() == "200"
            assert http.get(f"{A}0?offset=now").status_code == 200
            # 60 slices of 64 KiB, not 60 pages of 4 MiB.
            assert memory_of(server.process) - before < 40 * MIB


def test_slowest_are_cut_while_all_streams_together_hold_too_much(
    certificate: Certificate,
) -> None:
    with (
        serve(*flags(certificate), "--max-unsent", str(MIB)) as server,
        httpx.Client(
            base_url=server.url, verify=trusting(certificate), http1=False, http2=True
        ) as http,
        Raw(server, certificate) as raw,
    ):
        http.put(A, content=os.urandom(60_000))
        for _ in range(30):
            raw.ask("GET", f"{A}?offset=-1")
        raw.flush()
        raw.until_closed()
        assert http.get(f"{A}?offset=now").status_code == 200


def test_client_that_reads_no_pongs_has_none_kept_for_it(certificate: Certificate) -> None:
    with serve(*flags(certificate)) as server, Raw(server, certificate) as raw:
        for _ in range(1000):
            raw.h2.ping(b"12345678")
        pings = raw.h2.data_to_send()
        before = memory_of(server.process)
        raw.socket.settimeout(1)
        many = pings * (100 * MIB // len(pings))
        with pytest.raises(TimeoutError):  # the server reads no more, since nobody reads from it
            raw.socket.sendall(many)
        assert memory_of(server.process) - before < 10 * MIB


def test_rapid_resets_end_the_connection(certificate: Certificate) -> None:
    with (
        serve(*flags(certificate)) as server,
        httpx.Client(base_url=server.url, verify=trusting(certificate)) as http,
    ):
        http.put(A, headers=TEXT)
        with Raw(server, certificate) as raw:
            with contextlib.suppress(OSError):  # it may be closed while this still sends
                for _ in range(10_000):
                    stream = raw.ask("GET", f"{A}?offset=now&live=long-poll")
                    raw.h2.reset_stream(stream, h2.errors.ErrorCodes.CANCEL)
                    raw.flush()
            raw.until_closed()
        assert http.get(A).status_code == 200


def test_continuations_without_end_end_the_connection(certificate: Certificate) -> None:
    with serve(*flags(certificate)) as server, Raw(server, certificate) as raw:
        raw.socket.sendall(bytes([0, 0, 0, 1, 0, 0, 0, 0, 1]))  # HEADERS without END_HEADERS
        with contextlib.suppress(OSError):
            for _ in range(1000):
                raw.socket.sendall(bytes([0, 0, 0, 9, 0, 0, 0, 0, 1]))  # CONTINUATION
        raw.until_closed()


def test_head_over_the_limit_is_431(certificate: Certificate) -> None:
    with serve(*flags(certificate)) as server, Raw(server, certificate) as raw:
        raw.ask("GET", A, *[(f"x-{number}", "v" * 1000) for number in range(40)])
        raw.flush()
        assert raw.answer() == "431"


# -- octet by octet ----------------------------------------------------------


class Client:
    """One client of an HTTP/2 connection that has no socket."""

    def __init__(self, timeouts: Timeouts, admission: Admission | None = None) -> None:
        self.store = StreamStore()
        self.store.create(A, "text/plain")
        self.app = create_app(store=self.store)
        config = uvicorn.Config(self.app, lifespan="off", log_config=None)
        config.load()
        self.admission = admission or Admission(True, 10, limit=1024)
        connect = protocol_of(self.app, timeouts, self.admission)
        self.server: Http2Connection = connect(
            config=config, server_state=ServerState(), app_state={}
        )
        self.wire = Wire(("127.0.0.1", 1), True)
        self.wire.connection = cast(Any, self.server)
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True))
        self.seen: list[h2.events.Event] = []
        self.server.connection_made(self.wire)
        self.h2.initiate_connection()
        self.h2.increment_flow_control_window(1 << 30)  # of the connection; each stream has its own
        self.flush()

    def flush(self) -> None:
        self.wire.give(self.h2.data_to_send())

    def ask(self, path: str) -> int:
        stream = int(self.h2.get_next_available_stream_id())
        head = [(":method", "GET"), (":scheme", "https"), (":authority", "h"), (":path", path)]
        self.h2.send_headers(stream, head, end_stream=True)
        self.flush()
        return stream

    async def saw(self, kind: type[h2.events.Event]) -> Any:
        """Waits for an event of this kind, and returns it."""

        def found() -> bool:
            received, self.wire.received = bytes(self.wire.received), bytearray()
            self.seen += self.h2.receive_data(received)
            return any(isinstance(event, kind) for event in self.seen)

        await until(found)
        return next(event for event in self.seen if isinstance(event, kind))


async def test_pings_keep_no_connection_that_asks_for_nothing() -> None:
    client = Client(Timeouts(idle=0.2))
    at = time.monotonic()
    while not client.wire.lost:
        client.h2.ping(b"12345678")
        client.flush()
        await asyncio.sleep(0.01)
        assert time.monotonic() - at < 5
    assert await client.saw(h2.events.ConnectionTerminated)


async def test_event_stream_is_no_idle_connection() -> None:
    client = Client(Timeouts(idle=0.05))
    client.ask(f"{A}?offset=-1&live=sse")
    await client.saw(h2.events.ResponseReceived)
    timer = client.server.timeout_keep_alive_task
    assert timer is None
    client.server.transport.abort()


async def test_stream_whose_window_stays_shut_is_cut_alone() -> None:
    client = Client(Timeouts(send=0.1))
    client.store.append(A, b"x" * 300_000)
    slow = client.ask(f"{A}?offset=-1")
    cut = await client.saw(h2.events.StreamReset)
    assert cut.stream_id == slow
    assert client.wire.lost is False
    client.seen.clear()
    client.ask(f"{A}?offset=now")
    assert await client.saw(h2.events.StreamEnded)
    client.server.transport.abort()


async def test_answer_that_fits_no_window_counts_until_the_client_takes_it() -> None:
    client = Client(Timeouts(send=0.3))
    client.store.append(A, b"x" * 60_000)
    client.h2.update_settings({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: 0})
    slow, stuck = (client.ask(f"{A}?offset=-1") for _ in range(2))
    await until(lambda: client.server.unsent == 120_000)
    assert client.admission._streams == 1  # besides the first stream, which the connection counts
    client.h2.increment_flow_control_window(60_000, slow)
    client.flush()
    ended = await client.saw(h2.events.StreamEnded)
    assert ended.stream_id == slow
    assert client.server.unsent == 60_000
    cut = await client.saw(h2.events.StreamReset)
    assert cut.stream_id == stuck
    assert client.server.unsent == client.admission._streams == 0
    client.server.transport.abort()


async def test_connection_past_the_most_is_told_why() -> None:
    admission = Admission(True, 1, limit=1024)
    assert admission.admit(0, 0, "127.0.0.1") is None
    client = Client(Timeouts(), admission)
    client.ask(A)
    head = await client.saw(h2.events.ResponseReceived)
    assert dict(head.headers)[b":status"] == b"503"
    await until(lambda: client.wire.lost)
    admission.left("127.0.0.1")
    assert len(admission._shares) == 0


async def test_path_that_is_not_ascii_is_400() -> None:
    client = Client(Timeouts())
    client.h2.config.validate_outbound_headers = False
    client.ask("/caf\xe9")
    head = await client.saw(h2.events.ResponseReceived)
    assert dict(head.headers)[b":status"] == b"400"
    client.server.transport.abort()


def test_connection_is_left_before_its_parser_would_end_it() -> None:
    """zttp ends a connection at its 4,096th stream. Until the client knows, 128 more may be on their way."""
    assert http2._MANY < http2._MOST < 4096 - 128


async def test_client_is_told_to_open_another_connection_and_its_event_streams_go_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(http2, "_MANY", 10)
    monkeypatch.setattr(http2, "_MOST", 35)
    client = Client(Timeouts())
    client.ask(f"{A}?offset=-1&live=sse")
    with contextlib.suppress(h2.exceptions.ProtocolError):  # of a client that was told to leave
        for _ in range(60):
            client.seen.clear()
            client.ask("/")
            await client.saw(h2.events.StreamEnded)
    (left,) = [each for each in client.seen if isinstance(each, h2.events.ConnectionTerminated)]
    assert left.error_code == h2.errors.ErrorCodes.NO_ERROR
    client.wire.received.clear()
    client.store.append(A, b"later")
    await until(lambda: b"data:later" in client.wire.received)
    client.server.transport.abort()


async def test_everything_is_given_back_when_a_connection_is_lost() -> None:
    client = Client(Timeouts())
    for _ in range(5):
        client.ask(f"{A}?offset=-1&live=sse")
    await until(lambda: client.admission._shares.held("127.0.0.1") == 5)
    client.server.transport.abort()
    await until(lambda: len(client.admission._shares) == 0)
    assert client.admission._streams == 0


async def test_connection_that_is_lost_needs_no_collector() -> None:
    client = Client(Timeouts())
    client.h2.update_settings({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: 0})
    client.store.append(A, b"x" * 60_000)
    client.ask(f"{A}?offset=-1")
    client.ask(f"{A}?offset=-1&live=sse")
    await client.saw(h2.events.ResponseReceived)
    lost = weakref.ref(client.server)
    gc.disable()
    try:
        client.server.transport.abort()
        client.wire.connection = client.server = cast(Any, None)
        await until(lambda: lost() is None)
    finally:
        gc.enable()
