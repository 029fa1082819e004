"""The server process."""

import asyncio
import socket
import struct
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from durable_streams_server import DurableStreamTestServer, StreamStore, create_app
from durable_streams_server.http.asgi import events
from durable_streams_server.http.native import lane as lanes
from durable_streams_server.http.serving.accept_errors import AcceptErrors
from durable_streams_server.http.serving.listening import listen, url_of
from durable_streams_server.http.serving.server import HttpLane, Server
from durable_streams_server.protocol.commands import Append, Command
from durable_streams_server.protocol.decisions.outcomes import Outcome
from durable_streams_server.protocol.units import MIB
from durable_streams_server.storage.memory import MemoryStore
from durable_streams_server.storage.ticket import Abandoned, Ticket
from tests.http.socket_driver import parse, until


def test_idle_timeout_is_longer_than_that_of_load_balancers() -> None:  # TRAPS 52
    assert Server(create_app()).config.timeout_keep_alive > 60


class Stopping(MemoryStore):
    """A store whose first append never becomes durable."""

    def attach(
        self, loop: asyncio.AbstractEventLoop, on_failure: Callable[[BaseException], None]
    ) -> None:
        self.on_failure = on_failure

    def execute(self, command: Command, now: int) -> Ticket[Outcome]:
        if not isinstance(command, Append):
            return super().execute(command, now)
        ticket: Ticket[Outcome] = Ticket()
        asyncio.get_running_loop().call_later(0.05, self.stop, ticket)
        return ticket

    def stop(self, ticket: Ticket[Outcome]) -> None:
        error = OSError("no disk")
        self.on_failure(error)
        ticket.fail(Abandoned(error))


async def test_failed_store_cuts_connections_and_stops_server() -> None:
    server = Server(create_app(store=Stopping()))
    server.install_signals = False
    with listen("127.0.0.1", 0) as listening:
        serving = asyncio.create_task(server.serve([listening]))
        async with httpx.AsyncClient(
            base_url=url_of(listening), headers={"content-type": "text/plain"}
        ) as http:
            assert (await http.put("/a")).status_code == 201
            with pytest.raises(httpx.TransportError):
                await http.post("/a", content=b"x")
        await asyncio.wait_for(serving, 5)


@pytest.mark.parametrize("http", ["native", "asgi"])
@pytest.mark.parametrize("framing", [b"Content-Length: 5", b"Transfer-Encoding: chunked"])
async def test_paused_body_returns_408_on_real_socket(
    http: HttpLane, framing: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lanes, "_TICK", 0.01)
    store = StreamStore()
    store.create("/a", "text/plain")
    app = create_app(store=store, body_timeout=0.1)
    server = Server(app, http=http)
    server.install_signals = False
    with listen("127.0.0.1", 0) as listening:
        serving = asyncio.create_task(server.serve([listening]))
        reader, writer = await asyncio.open_connection(*listening.getsockname())
        head = b"POST /a HTTP/1.1\r\nHost: h\r\nContent-Type: text/plain\r\n%b\r\n\r\n"
        writer.write(head % framing + (b"he" if b"Length" in framing else b"2\r\nhe\r\n"))
        (answer,), rest = parse(await asyncio.wait_for(reader.read(), 5), ["POST"])
        writer.close()
        server.stop()
        await asyncio.wait_for(serving, 5)
    assert rest == b""
    assert (answer.status, answer.error["code"]) == (408, "REQUEST_TIMEOUT")
    assert answer.headers["connection"] == "close"
    assert app.budget.held == 0
    assert store.read("/a").data == b""


def test_server_installs_its_accept_error_handler_on_its_event_loop() -> None:
    found: list[object] = []

    def started() -> None:
        found.append(asyncio.get_running_loop().get_exception_handler())
        server.stop()

    server = Server(create_app(), on_started=started)
    with listen("127.0.0.1", 0) as listening, ThreadPoolExecutor(1) as pool:
        pool.submit(asyncio.run, server.serve([listening])).result(20)
    assert isinstance(found[0], AcceptErrors)


async def test_server_leaves_the_exception_handler_of_a_host_loop_unchanged() -> None:
    loop = asyncio.get_running_loop()
    before = loop.get_exception_handler()
    async with DurableStreamTestServer():
        assert loop.get_exception_handler() is before


@pytest.mark.parametrize("leaves", [True, False])
async def test_lost_or_stalled_reader_logs_no_traceback_under_uvicorn(
    leaves: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(events, "_SEND_GRACE", 0.05)
    store = StreamStore()
    store.create("/a", "text/plain")
    store.append("/a", bytes(30 * MIB))  # more than the socket buffers of the system hold
    app = create_app(store=store, sse_max_age=0.05)
    server = Server(app, http="asgi")
    server.install_signals = False
    with listen("127.0.0.1", 0) as listening, socket.socket() as client:
        serving = asyncio.create_task(server.serve([listening]))
        loop = asyncio.get_running_loop()
        client.setblocking(False)
        await loop.sock_connect(client, listening.getsockname())
        await loop.sock_sendall(client, b"GET /a?offset=-1&live=sse HTTP/1.1\r\nHost: h\r\n\r\n")
        assert b" 200 " in await loop.sock_recv(client, 100)
        await until(lambda: len(app.engine.tails) == 1)
        if leaves:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.close()
        await until(lambda: len(app.engine.tails) == 0)
        server.stop()
        await asyncio.wait_for(serving, 5)
    assert [record for record in caplog.records if record.exc_info] == []
