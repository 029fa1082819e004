"""The server process."""

import asyncio
import contextlib
import signal
import socket
import struct
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from durable_streams_server import DurableStreamTestServer, StreamStore, create_app
from durable_streams_server.http.asgi import events
from durable_streams_server.http.native import lane as lanes
from durable_streams_server.http.serving.accept_errors import AcceptErrors
from durable_streams_server.http.serving.addresses import listen_on
from durable_streams_server.http.serving.command_socket import CommandSocket, ask
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


@contextlib.asynccontextmanager
async def running(
    server: Server, host: str = "127.0.0.1"
) -> AsyncIterator[tuple[asyncio.Task[None], str]]:
    """Runs a server without signals. Yields its task and its URL, and stops it."""
    server.install_signals = False
    listening = listen_on(host, 0)
    serving = asyncio.create_task(server.serve(listening))
    try:
        yield serving, url_of(listening[0])
    finally:
        server.stop()
        await asyncio.wait_for(serving, 5)
        for each in listening:
            each.close()


@pytest.mark.parametrize("http", ["native", "asgi"])
async def test_drain_answers_requests_ends_live_reads_and_then_stops(http: HttpLane) -> None:
    store = StreamStore()
    store.create("/a", "text/plain")
    app = create_app(store=store)
    server = Server(app, http=http)
    async with running(server) as (serving, url), httpx.AsyncClient(base_url=url) as client:
        assert (await client.get("/a")).status_code == 200
        async with client.stream("GET", "/a?offset=-1&live=sse") as events:
            await until(lambda: len(app.engine.tails) == 1)
            server.stop(1)
            server.stop(60)  # changes nothing
            assert app.draining
            assert not server.should_exit
            answer = await client.get("/a")
            assert answer.status_code == 200
            body = b"".join([piece async for piece in events.aiter_bytes()])
        assert body.count(b"event: control") == 2
        await asyncio.wait_for(serving, 5)


@pytest.mark.parametrize("http", ["native", "asgi"])
async def test_drain_retires_idle_connections_at_different_times(http: HttpLane) -> None:
    store = StreamStore()
    store.create("/a", "text/plain")
    server = Server(create_app(store=store), http=http)
    head = b"HEAD /a HTTP/1.1\r\nHost: h\r\n\r\n"
    async with running(server) as (_, url):
        port = int(url.rpartition(":")[2])
        clients = [await asyncio.open_connection("127.0.0.1", port) for _ in range(40)]
        server.stop(5)
        retired = 0
        async with asyncio.timeout(5):
            while not retired:  # asks all clients, until one of them must leave
                for reader, writer in clients:
                    writer.write(head)
                    answer = await reader.readuntil(b"\r\n\r\n")
                    assert answer.startswith(b"HTTP/1.1 200")
                    retired += b"connection: close" in answer.lower()
        assert retired < 40
        for _, writer in clients:
            writer.close()


async def test_stop_without_drain_cuts_a_drain_short() -> None:
    server = Server(create_app())
    async with running(server) as (serving, url), httpx.AsyncClient() as client:
        await client.get(url)
        server.stop(60)
        server.stop()
        await asyncio.wait_for(serving, 5)


async def test_server_listens_on_several_sockets() -> None:
    store = StreamStore()
    store.create("/a", "text/plain")
    async with running(Server(create_app(store=store)), "localhost") as (_, url):
        for host in ("127.0.0.1", "[::1]"):
            async with httpx.AsyncClient() as client:
                answer = await client.get(url.replace("127.0.0.1", host) + "/a")
                assert answer.status_code == 200


async def test_server_obeys_commands_while_it_runs(tmp_path: Path) -> None:
    commands = CommandSocket(str(tmp_path), {"name": lambda: Ticket.of("server")})
    server = Server(create_app(), commands=commands)
    async with running(server) as (_, url), httpx.AsyncClient() as client:
        await client.get(url)
        assert await asyncio.to_thread(ask, str(tmp_path), "name") == "server"
    with pytest.raises(FileNotFoundError):
        ask(str(tmp_path), "name")


async def test_signal_before_the_start_stops_the_server_right_after_it() -> None:
    server = Server(create_app())
    server._handle_stop(signal.SIGTERM)
    server._handle_hangup()
    server.install_signals = False
    with listen("127.0.0.1", 0) as listening:
        await asyncio.wait_for(server.serve([listening]), 5)
    assert server.started


async def test_hangup_before_the_start_reloads_right_after_it() -> None:
    reloaded: list[bool] = []
    server = Server(create_app())
    server.reloaders.add("a file", lambda: reloaded.append(server.started))
    server._handle_hangup()
    async with running(server):
        pass
    assert reloaded == [True]


class Slow(MemoryStore):
    """A store whose appends take longer than a stalled client has while the server stops."""

    appends = 0

    def execute(self, command: Command, now: int) -> Ticket[Outcome]:
        done = super().execute(command, now)
        if not isinstance(command, Append):
            return done
        self.appends += 1
        ticket: Ticket[Outcome] = Ticket()
        asyncio.get_running_loop().call_later(1, lambda: ticket.resolve(done.result()))
        return ticket


@pytest.mark.parametrize("http", ["native", "asgi"])
async def test_append_in_flight_is_answered_although_the_server_stops(http: HttpLane) -> None:
    store = Slow()
    server = Server(create_app(store=store), http=http)
    headers = {"content-type": "text/plain"}
    async with (
        running(server) as (serving, url),
        httpx.AsyncClient(base_url=url, headers=headers) as client,
    ):
        await client.put("/a")
        appending = asyncio.create_task(client.post("/a", content=b"x"))
        await until(lambda: store.appends == 1)
        server.stop()
        assert (await appending).status_code == 204
        await asyncio.wait_for(serving, 5)
