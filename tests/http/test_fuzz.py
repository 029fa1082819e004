"""Requests sent in random pieces, requests hidden in other requests, and conversations cut off after any octet."""

import asyncio
import gc
import socket
import struct
import tracemalloc
from collections.abc import Iterator
from random import Random
from typing import Any

import pytest

from durable_streams_server import create_app
from durable_streams_server.http.native.connection import Connection
from durable_streams_server.http.serving.listening import listen
from durable_streams_server.http.serving.server import HttpLane, Server
from tests.http.conversations import World, try_seed
from tests.http.smuggling import HIDDEN, REFUSED, TAKEN
from tests.http.socket_driver import Client, logged_warnings, parse, post, request, run_turns, until

SEEDS = 400
A = "/v1/stream/a"
PUT = request("PUT", A, "Content-Type: text/plain", body=b"hello")


@pytest.fixture(autouse=True)
def nothing_is_logged(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    yield
    assert logged_warnings(caplog) == []


async def test_responses_are_the_same_however_octets_are_split() -> None:
    for seed in range(SEEDS):
        await try_seed(seed)


@pytest.mark.parametrize("each", [0, 1, 3])
@pytest.mark.parametrize("name", REFUSED)
async def test_ambiguous_request_is_refused(name: str, each: int) -> None:
    world = World()
    client = Client(world.lane).send(PUT)
    before = world.contents
    client.send(REFUSED[name] + HIDDEN * 3, each)
    answers = client.answers("PUT", "POST", "PUT", "PUT", "PUT")
    assert [answer.status for answer in answers] == [201, 400]
    assert answers[1].headers["connection"] == "close"
    assert client.is_ended
    assert world.contents == before
    client.reset()
    await world.assert_everything_is_released()


@pytest.mark.parametrize("each", [0, 1, 3])
@pytest.mark.parametrize("name", TAKEN)
async def test_request_hidden_in_a_body_is_stored_as_data(name: str, each: int) -> None:
    world = World()
    octets, body = TAKEN[name]
    client = Client(world.lane).send(PUT + octets + request("GET", A), each)
    answers = client.answers("PUT", "POST", "GET")
    assert [answer.status for answer in answers] == [201, 204, 200]
    assert answers[2].body == b"hello" + body
    assert set(world.contents) == {A, "/v1/stream/done"}
    assert not client.is_ended
    client.reset()
    await world.assert_everything_is_released()


# -- conversations cut off after any octet -----------------------------------

OPENING = PUT + post(b" world")
CONVERSATIONS = {
    "create": PUT,
    "append": OPENING,
    "chunked": PUT
    + request("POST", A, "Content-Type: text/plain", "Transfer-Encoding: chunked")
    + b"6;x\r\n world\r\n0\r\nX: y\r\n\r\n",
    "no json": PUT + post(b"nonsense").replace(b"text/plain", b"application/json"),
    "read": OPENING + request("GET", f"{A}?offset=-1"),
    "long-poll": OPENING + request("GET", f"{A}?offset=now&live=long-poll"),
    "event stream": OPENING + request("GET", f"{A}?offset=-1&live=sse"),
}


@pytest.mark.parametrize("reads", [True, False])
@pytest.mark.parametrize("half", [True, False], ids=["fin", "rst"])
@pytest.mark.parametrize("name", CONVERSATIONS)
async def test_connection_cut_after_any_octet_executes_only_complete_requests(
    name: str, half: bool, reads: bool
) -> None:
    octets = CONVERSATIONS[name]
    for at in range(len(octets) + 1):
        world = World()
        client = Client(world.lane)
        if not reads:
            client.stop_reading()
        client.send(octets[:at])
        if half:
            client.half_close()
            client.resume_reading()
        else:
            client.reset()
        await world.run_until_idle()
        assert client.wire.lost
        await world.assert_everything_is_released()
        appends = name not in ("create", "no json")
        appended = appends and at >= (len(octets) if name == "chunked" else len(OPENING))
        kept = {A: (b"hello world" if appended else b"hello", False)} if at >= len(PUT) else {}
        assert {path: found for path, found in world.contents.items() if path == A} == kept


async def test_thousands_of_interrupted_connections_leak_no_memory() -> None:
    world = World()
    chance = Random(0)
    every = b"".join(CONVERSATIONS.values())

    async def many(count: int) -> int:
        for _ in range(count):
            client = Client(world.lane).send(every[: chance.randrange(len(every))])
            if chance.random() < 0.5:
                client.reset()
            else:
                client.half_close()
            await run_turns(1)
        await run_turns()
        del client
        Client(world.lane).send(request("DELETE", A)).reset()
        await world.assert_everything_is_released()
        gc.collect()
        return tracemalloc.get_traced_memory()[0]

    tracemalloc.start()
    try:
        before = await many(500)
        assert await many(2000) - before < 50_000
    finally:
        tracemalloc.stop()
    assert not [found for found in gc.get_objects() if isinstance(found, Connection)]


# -- real sockets ------------------------------------------------------------


async def _end_anywhere(address: tuple[str, int], chance: Random) -> None:
    """Sends a conversation up to a random octet, and ends it by FIN, by RST, or without reading."""
    loop = asyncio.get_running_loop()
    octets = chance.choice(list(CONVERSATIONS.values()))
    with socket.socket() as client:
        client.setblocking(False)
        await loop.sock_connect(client, address)
        at = chance.randrange(len(octets) + 1)
        for piece in (octets[: at // 2], octets[at // 2 : at]):
            await loop.sock_sendall(client, piece)
        await run_turns(chance.choice([1, 5]))
        ending = chance.random()
        if ending < 0.4:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        elif ending < 0.8:
            client.shutdown(socket.SHUT_WR)
            while await loop.sock_recv(client, 65536):
                pass


async def _serve_and_cut(http: HttpLane, count: int) -> None:
    app = create_app()
    server = Server(app, http=http)
    server.install_signals = False
    chance = Random(0)
    with listen("127.0.0.1", 0) as listening:
        serving = asyncio.create_task(server.serve([listening]))
        await until(lambda: server.started)
        address = listening.getsockname()
        for _ in range(0, count, 20):
            await asyncio.gather(*(_end_anywhere(address, chance) for _ in range(20)))
        await until(lambda: not server.server_state.connections)
        await until(lambda: len(app.engine.tails) == 0 and app.budget.held == 0)
        reader, writer = await asyncio.open_connection(*address)
        writer.write(request("DELETE", A) + PUT + request("GET", A, "Connection: close"))
        answers, rest = parse(await reader.read(), ["DELETE", "PUT", "GET"])
        writer.close()
        server.stop()
        await asyncio.wait_for(serving, 5)
    assert rest == b""
    assert [answer.status for answer in answers] == [204, 201, 200]
    assert answers[-1].body == b"hello"


@pytest.mark.parametrize("http", ["native", "asgi"])
@pytest.mark.parametrize("kind", ["asyncio", "uvloop"])
def test_interrupted_socket_connections_release_their_resources(http: HttpLane, kind: str) -> None:
    factory = asyncio.new_event_loop
    if kind == "uvloop":
        factory = pytest.importorskip("uvloop").new_event_loop
    complaints: list[Any] = []
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.get_loop().set_exception_handler(lambda _, context: complaints.append(context))
        runner.run(_serve_and_cut(http, 400))
    assert complaints == []
