"""TLS handshakes, which are counted from the start and have a time limit."""

import asyncio
import errno
import socket
import ssl
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from durable_streams_server import create_app
from durable_streams_server.http.limits.admission import TO_BE_REFUSED, Admission
from durable_streams_server.http.limits.timeouts import Timeouts
from durable_streams_server.http.native.connection import connection_factory
from durable_streams_server.http.native.lane import Lane
from durable_streams_server.http.serving import handshake
from durable_streams_server.http.serving.handshake import TlsListener
from durable_streams_server.http.serving.listening import listen, tls_context
from tests.http import certificates
from tests.http.certificates import Certificate
from tests.http.socket_driver import logged_warnings, parse, request, until

MOST = 2


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return certificates.make(Path(tmp_path_factory.mktemp("tls")))


class Shaky(socket.socket):
    """A listening socket whose next `fails` calls of `accept` fail."""

    fails = 0

    def accept(self) -> tuple[socket.socket, Any]:
        if self.fails:
            self.fails -= 1
            raise OSError(errno.EMFILE, "Too many open files")
        return super().accept()


@pytest.fixture
def listening() -> Iterator[Shaky]:
    plain = listen("127.0.0.1", 0)
    with Shaky(plain.family, plain.type, plain.proto, plain.detach()) as shaky:
        yield shaky


class Bench:
    """A native lane behind a TLS listener."""

    def __init__(self, listening: Shaky, certificate: Certificate) -> None:
        self.address = listening.getsockname()
        self.trusting = ssl.create_default_context(cafile=certificate.chain)
        admission = Admission(True, MOST, limit=10_000, per_address=MOST)
        self.lane = Lane(create_app(), Timeouts(), admission)
        self.connections: set[Any] = set()
        self.lane.begin(self.connections)
        connect = connection_factory(self.lane)
        context = tls_context(certificate.chain, certificate.key)
        self.listener = TlsListener(
            listening, context, connect, self.lane.admission, self.connections
        )
        self._plain: list[socket.socket] = []

    async def silent(self) -> socket.socket:
        """Connects a client that sends nothing."""
        client = socket.socket()
        client.setblocking(False)
        await asyncio.get_running_loop().sock_connect(client, self.address)
        self._plain.append(client)
        return client

    async def client(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Connects a client and completes its handshake."""
        return await asyncio.open_connection(*self.address, ssl=self.trusting)

    async def close(self) -> None:
        """Stops the listener and asserts that no connection and no handshake is still counted."""
        self.listener.stop()
        for client in self._plain:
            client.close()
        for connection in tuple(self.connections):
            connection.transport.abort()
        await until(lambda: not self.connections and not len(self.listener))
        assert len(self.lane.admission._handshakes) == 0
        await until(lambda: len(self.lane.admission._shares) == 0)


@pytest.fixture
async def bench(listening: Shaky, certificate: Certificate) -> AsyncIterator[Bench]:
    bench = Bench(listening, certificate)
    bench.listener.begin()
    yield bench
    await bench.close()


async def read_to_end(client: socket.socket) -> bytes:
    """Returns the bytes that a client receives until the server ends the connection."""
    received = b""
    async with asyncio.timeout(5):
        try:
            while data := await asyncio.get_running_loop().sock_recv(client, 1000):
                received += data
        except ConnectionError:
            return received
    return received


async def test_requests_are_answered_after_handshake(bench: Bench) -> None:
    reader, writer = await bench.client()
    writer.write(request("PUT", "/a", "Content-Type: text/plain", "Connection: close"))
    (answer,), rest = parse(await asyncio.wait_for(reader.read(), 5), ["PUT"])
    assert (answer.status, rest) == (201, b"")
    assert answer.headers["location"] == "https://h/a"
    writer.close()


async def test_connection_beyond_maximum_gets_503_over_tls(bench: Bench) -> None:
    kept = [await bench.client() for _ in range(MOST)]
    await until(lambda: len(bench.connections) == MOST)
    reader, writer = await bench.client()
    (answer,), _ = parse(await asyncio.wait_for(reader.read(), 5), ["GET"])
    assert (answer.status, answer.error["code"]) == (503, "TOO_MANY_CONNECTIONS")
    for _, each in [*kept, (reader, writer)]:
        each.close()


async def test_handshakes_beyond_the_maximum_of_connections_are_closed(bench: Bench) -> None:
    most = MOST + TO_BE_REFUSED
    clients = [await bench.silent() for _ in range(most + 5)]
    assert [await read_to_end(client) for client in clients[most:]] == [b""] * 5
    assert len(bench.listener) == most
    clients[0].close()
    await until(lambda: len(bench.listener) == most - 1)
    reader, writer = await bench.client()
    assert reader.at_eof() is False
    writer.close()


async def test_address_beyond_its_connection_limit_gets_503_over_tls(bench: Bench) -> None:
    bench.lane.admission._shares.share = 1
    kept = await bench.client()
    await until(lambda: len(bench.connections) == 1)
    reader, writer = await bench.client()
    (answer,), _ = parse(await asyncio.wait_for(reader.read(), 5), ["GET"])
    assert (answer.status, answer.error["code"]) == (503, "TOO_MANY_CONNECTIONS_FROM_ADDRESS")
    for _, each in (kept, (reader, writer)):
        each.close()


async def test_unfinished_handshakes_of_one_address_are_limited(bench: Bench) -> None:
    bench.lane.admission.max_connections = 1000
    most = MOST + TO_BE_REFUSED
    clients = [await bench.silent() for _ in range(most + 5)]
    assert [await read_to_end(client) for client in clients[most:]] == [b""] * 5
    assert len(bench.listener) == most
    clients[0].close()
    await until(lambda: len(bench.listener) == most - 1)


async def test_slow_handshake_is_cut(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handshake, "_HANDSHAKE", 0.05)
    assert await read_to_end(await bench.silent()) == b""
    await until(lambda: not len(bench.listener))
    assert not bench.connections


async def test_client_without_tls_is_closed_and_not_logged(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    client = await bench.silent()
    await asyncio.get_running_loop().sock_sendall(client, request("GET"))
    assert b"HTTP" not in await read_to_end(client)
    await until(lambda: not len(bench.listener))
    assert logged_warnings(caplog) == []


async def test_stop_cuts_unfinished_handshakes(bench: Bench) -> None:
    client = await bench.silent()
    await until(lambda: len(bench.listener) == 1)
    bench.listener.stop()
    assert await read_to_end(client) == b""
    await until(lambda: not len(bench.listener))


async def test_listener_retries_failed_accept_and_logs_once(
    bench: Bench,
    listening: Shaky,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(handshake, "_RETRY", 0.01)
    listening.fails = 3
    _, writer = await asyncio.wait_for(bench.client(), 5)
    writer.close()
    assert listening.fails == 0
    assert logged_warnings(caplog) == ["new connections wait: [Errno 24] Too many open files"]


async def test_fault_in_one_connection_does_not_stop_listener(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    connect = bench.listener._connect

    def fail() -> asyncio.Protocol:
        monkeypatch.setattr(bench.listener, "_connect", connect)
        raise RuntimeError("no connection")

    monkeypatch.setattr(bench.listener, "_connect", fail)
    assert await read_to_end(await bench.silent()) == b""
    assert logged_warnings(caplog) == ["a TLS handshake failed"]
    _, writer = await bench.client()
    writer.close()
