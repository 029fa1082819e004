"""What HTTP itself asks of a server (RFC 9110, RFC 9112), on real sockets, for both ways that `serve` answers."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from durable_streams_server import FileBackedStreamStore, StreamStore, create_app
from durable_streams_server.http.listening import listen
from durable_streams_server.http.server import HttpLane, Server
from tests.http.asgi_driver import Answer
from tests.http.socket_driver import parse, post, request

A = "/v1/stream/a"
TEXT = "Content-Type: text/plain"
Kept = StreamStore | FileBackedStreamStore


class Site:
    """A server on a socket, and clients of it that write octets."""

    def __init__(self, store: Kept, port: int) -> None:
        self.store = store
        self.port = port

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.port)

    async def exchange(self, octets: bytes, *methods: str) -> list[Answer]:
        """Sends requests, the last of which ends the connection, and returns their answers."""
        reader, writer = await self.connect()
        writer.write(octets)
        received = await asyncio.wait_for(reader.read(-1), 5)
        writer.close()
        answers, rest = parse(received, methods)
        assert rest == b""
        return answers

    async def ask(self, octets: bytes, method: str = "GET") -> Answer:
        """Sends one request, and returns its answer."""
        reader, writer = await self.connect()
        writer.write(octets)
        received = b""
        answers: list[Answer] = []
        async with asyncio.timeout(5):
            while not answers:
                part = await reader.read(65536)
                assert part, received
                received += part
                answers, _ = parse(received, [method])
        writer.close()
        return answers[0]


@pytest.fixture(params=["native", "asgi"])
def lane(request: pytest.FixtureRequest) -> HttpLane:
    chosen: HttpLane = request.param
    return chosen


@pytest.fixture(params=["memory", "files"])
async def site(
    request: pytest.FixtureRequest, lane: HttpLane, tmp_path: Path
) -> AsyncIterator[Site]:
    store: Kept = StreamStore()
    if request.param == "files":
        store = FileBackedStreamStore(tmp_path, segment_size=1 << 20)
    async for each in serve(store, lane):
        yield each
    store.close()


async def serve(store: Kept, lane: HttpLane) -> AsyncIterator[Site]:
    server = Server(create_app(store=store, long_poll_timeout=5), http=lane)
    server.install_signals = False
    with listen("127.0.0.1", 0) as listening:
        serving = asyncio.create_task(server.serve([listening]))
        site = Site(store, listening.getsockname()[1])
        made = await site.ask(request("PUT", A, TEXT, body=b""), "PUT")
        assert made.status == 201
        yield site
        server.should_exit = True
        await asyncio.wait_for(serving, 5)


# -- content codings ---------------------------------------------------------


async def test_large_coded_body_is_refused_before_it_is_sent(site: Site) -> None:
    head = request("POST", A, TEXT, "Content-Encoding: gzip", "Content-Length: 1000000")
    answer = await site.ask(head, "POST")
    assert (answer.status, answer.error["code"]) == (415, "UNSUPPORTED_CONTENT_ENCODING")
    assert answer.headers["accept-encoding"] == "identity"


async def test_connection_goes_on_after_a_small_coded_body(site: Site) -> None:
    coded = post(b"\x1f\x8b", "Content-Encoding: gzip")
    plain = post(b"plain", "Content-Encoding: identity", "Connection: close")
    answers = await site.exchange(coded + plain, "POST", "POST")
    assert [answer.status for answer in answers] == [415, 204]
    assert (await site.ask(request("GET"))).body == b"plain"


async def test_close_without_a_body_may_name_a_coding(site: Site) -> None:
    closing = request("POST", A, "Stream-Closed: true", "Content-Encoding: gzip")
    assert (await site.ask(closing, "POST")).status == 204
