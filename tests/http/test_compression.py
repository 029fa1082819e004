"""Compressed pages: which responses are compressed, how many pages may wait, and what happens when clients leave."""

import asyncio
import gzip
import json
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import Any

import pytest

from durable_streams_server import StreamStore, create_app
from durable_streams_server.http import compression
from durable_streams_server.http.asgi.application import DurableStreamsApp
from durable_streams_server.http.compression import (
    MAX_WAITING,
    MAX_WAITING_BYTES,
    SLICE,
    THREADS,
    Compressor,
)
from durable_streams_server.http.native.lane import Lane
from durable_streams_server.protocol.render import Response
from durable_streams_server.storage.ticket import Cancelled, Ticket
from durable_streams_server.streams.large import SendBudget
from durable_streams_server.streams.turns import Turns
from tests.http.asgi_driver import Exchange, request
from tests.http.socket_driver import Client, logged_warnings, run_turns, until
from tests.http.socket_driver import request as octets

A = "/v1/stream/a"
BIG = json.dumps(list(range(3000))).encode()
GZIP = (b"accept-encoding", b"gzip")
GET = octets("GET", A, "Accept-Encoding: gzip")


class Gate:
    """Replaces `gzip`, and blocks the compression threads until a test opens the gate.

    Attributes:
        begun: The bytes of each page that a thread has started to compress.
        fails: The exception to raise instead of compressing, or None.
    """

    def __init__(self) -> None:
        self.begun: list[bytes] = []
        self._go = threading.Event()
        self.fails: Exception | None = None
        self._gzip = compression.gzip

    def __call__(
        self, parts: Sequence[bytes | memoryview], is_left: Callable[[], bool]
    ) -> bytes | None:
        self.begun.append(b"".join(parts))
        assert self._go.wait(10)
        if self.fails is not None:
            raise self.fails
        return self._gzip(parts, is_left)

    def open(self) -> None:
        """Opens the gate for good, so that the threads compress."""
        self._go.set()


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    gate = Gate()
    monkeypatch.setattr(compression, "gzip", gate)
    yield gate
    gate.open()


@pytest.fixture
async def compressor() -> AsyncIterator[Compressor]:
    compressor = Compressor(Turns(), SendBudget(10**9))
    yield compressor
    compressor.close()
    await until(lambda: not compressor._running)


@pytest.fixture
async def store() -> StreamStore:
    store = StreamStore()
    store.create(A, "application/json")
    store.append(A, BIG)
    return store


@pytest.fixture
async def app(store: StreamStore) -> AsyncIterator[DurableStreamsApp]:
    app = create_app(store=store)
    yield app
    await app.stop()


def page(body: bytes) -> Response:
    """Returns a response with an entity tag."""
    return Response(200, [(b"etag", b'"1"')], body, vary_encoding=True)


def begin(compressor: Compressor, name: object, body: bytes = b"x") -> Ticket[Response]:
    """Starts to compress a page and returns the ticket for its response."""
    ticket = compressor.compress(name, page(body))
    assert isinstance(ticket, Ticket)
    return ticket


async def occupy(compressor: Compressor, gate: Gate) -> list[Ticket[Response]]:
    """Gives every thread a page and returns the tickets of these pages."""
    tickets = [begin(compressor, f"thread {number}") for number in range(THREADS)]
    await until(lambda: len(gate.begun) == THREADS)
    return tickets


def unpacked(response: Response) -> bytes:
    """Returns the uncompressed body of a compressed response."""
    assert (b"content-encoding", b"gzip") in response.headers
    assert (b"etag", b'"1:gz"') in response.headers
    return gzip.decompress(response.body)


async def test_large_page_is_compressed_for_clients_that_accept_gzip(
    app: DurableStreamsApp,
) -> None:
    plain = await request(app, "GET", A)
    packed = await request(app, "GET", A, {"accept-encoding": "br, gzip;q=0.5"})
    assert packed.headers["content-encoding"] == "gzip"
    assert gzip.decompress(packed.body) == plain.body
    assert int(packed.headers["content-length"]) == len(packed.body) < len(plain.body)
    assert packed.headers["etag"] != plain.headers["etag"]
    for answer in (plain, packed):
        assert (b"vary", b"Accept-Encoding") in answer.pairs
        tag = {"if-none-match": answer.headers["etag"], "accept-encoding": "gzip"}
        same = await request(app, "GET", A, tag)
        assert (same.status, same.body, same.headers["etag"]) == (304, b"", answer.headers["etag"])


@pytest.mark.parametrize(
    "accepted", ["", "br", "gzip;q=0", "gzip; q=0.0", "identity", "gzipped", "*;q=0", "gzip;q=0, *"]
)
async def test_page_is_not_compressed_for_other_clients(
    app: DurableStreamsApp, accepted: str
) -> None:
    answer = await request(app, "GET", A, {"accept-encoding": accepted})
    assert "content-encoding" not in answer.headers


async def test_small_and_binary_pages_are_not_compressed(store: StreamStore) -> None:
    app = create_app(store=store)
    store.create("/small", "text/plain")
    store.append("/small", b"x" * 100)
    store.create("/octets")
    store.append("/octets", b"x" * 100_000)
    for path in ("/small", "/octets"):
        answer = await request(app, "GET", path, {"accept-encoding": "gzip"})
        assert "content-encoding" not in answer.headers
    off = create_app(store=store, compression=False)
    answer = await request(off, "GET", A, {"accept-encoding": "gzip"})
    assert "content-encoding" not in answer.headers


async def test_page_for_many_clients_is_compressed_once(compressor: Compressor, gate: Gate) -> None:
    tickets = [begin(compressor, "page", b"same") for _ in range(100)]
    gate.open()
    await until(lambda: all(ticket.done for ticket in tickets))
    assert gate.begun == [b"same"]
    responses = [ticket.result() for ticket in tickets]
    assert unpacked(responses[0]) == b"same"
    assert all(response.body is responses[0].body for response in responses)


async def test_clients_of_one_compressed_page_are_answered_one_by_one(
    compressor: Compressor, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[Callable[[], object]] = []
    monkeypatch.setattr(compressor._turns, "add", steps.append)
    tickets = [begin(compressor, "page") for _ in range(3)]
    gate.open()
    await until(lambda: bool(steps))
    (step,) = steps
    for answered in (1, 2):
        assert step() is True
        assert sum(ticket.done for ticket in tickets) == answered
    tickets[2].cancel()
    assert step() is False


async def test_json_array_is_compressed_without_a_copy(
    compressor: Compressor, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    response = page(b"1,2,")
    response.array = True
    monkeypatch.setattr(Response, "whole", property(lambda _: pytest.fail("a copy is made")))
    ticket = compressor.compress("page", response)
    assert isinstance(ticket, Ticket)
    gate.open()
    await until(lambda: ticket.done)
    assert unpacked(ticket.result()) == b"[1,2]"
    assert not response.array


async def test_page_is_sent_uncompressed_when_too_many_pages_await_compression(
    compressor: Compressor, gate: Gate
) -> None:
    running = await occupy(compressor, gate)
    waiting = [begin(compressor, number) for number in range(MAX_WAITING)]
    late = page(b"late")
    assert compressor.compress("late", late) is late
    assert late.body == b"late"
    assert compressor.passed == 1
    joined = begin(compressor, 7)  # joins a page that already waits
    gate.open()
    tickets = [*running, *waiting, joined]
    await until(lambda: all(ticket.done for ticket in tickets))
    assert len(gate.begun) == THREADS + MAX_WAITING
    assert compressor.waiting_bytes == 0


async def test_page_is_sent_uncompressed_when_too_many_bytes_await_compression(
    compressor: Compressor, gate: Gate
) -> None:
    await occupy(compressor, gate)
    half = bytes(MAX_WAITING_BYTES // 2)
    waiting = [begin(compressor, number, half) for number in range(2)]
    late = page(b"x")
    assert compressor.compress("late", late) is late
    assert compressor.waiting_bytes == MAX_WAITING_BYTES
    waiting[0].cancel()
    assert compressor.waiting_bytes == MAX_WAITING_BYTES // 2
    assert isinstance(compressor.compress("late", late), Ticket)


async def test_idle_thread_compresses_even_a_page_above_the_queue_limit(
    compressor: Compressor, gate: Gate
) -> None:
    large = bytes(MAX_WAITING_BYTES + 1)
    ticket = begin(compressor, "large", large)
    gate.open()
    await until(lambda: ticket.done)
    assert unpacked(ticket.result()) == large


async def test_queued_page_without_waiting_clients_is_never_compressed(
    compressor: Compressor, gate: Gate
) -> None:
    running = await occupy(compressor, gate)
    left = [begin(compressor, "left", b"left") for _ in range(2)]
    kept = [begin(compressor, "kept", b"kept") for _ in range(2)]
    for ticket in (*left, kept[0]):
        ticket.cancel()
    gate.open()
    await until(lambda: all(ticket.done for ticket in (*running, kept[1])))
    assert b"left" not in gate.begun
    assert unpacked(kept[1].result()) == b"kept"
    with pytest.raises(Cancelled):
        kept[0].result()


async def test_new_client_of_an_abandoned_page_starts_a_new_compression(
    compressor: Compressor, gate: Gate
) -> None:
    first = begin(compressor, "page", b"body")
    await until(lambda: len(gate.begun) == 1)
    first.cancel()
    second = begin(compressor, "page", b"body")
    gate.open()
    await until(lambda: second.done)
    assert unpacked(second.result()) == b"body"


def test_compression_stops_within_one_slice_once_no_client_waits() -> None:
    checks = 0

    def is_left() -> bool:
        nonlocal checks
        checks += 1
        return checks > 2

    assert compression.gzip([b"[", bytes(100 * SLICE), b"]"], is_left) is None
    assert checks == 3
    body = bytes(range(256)) * (SLICE // 100)
    packed = compression.gzip([b"[", body, b"]"], lambda: False)
    assert packed is not None
    assert gzip.decompress(packed) == b"[" + body + b"]"


async def test_close_sends_uncompressed_pages_to_waiting_clients(
    compressor: Compressor, gate: Gate
) -> None:
    running = await occupy(compressor, gate)
    waiting = [begin(compressor, "waiting", b"waiting") for _ in range(3)]
    compressor.close()
    compressor.close()
    await until(lambda: all(ticket.done for ticket in waiting))
    assert not any(ticket.done for ticket in running)
    gate.open()
    await until(lambda: all(ticket.done for ticket in running))
    for ticket, body in [(running[0], b"x"), (waiting[2], b"waiting")]:
        response = ticket.result()
        assert response.body == body
        assert response.headers == [(b"etag", b'"1"')]
    late = page(b"late")
    assert compressor.compress("late", late) is late


async def test_page_is_sent_uncompressed_when_compression_fails(
    app: DurableStreamsApp, gate: Gate, caplog: pytest.LogCaptureFixture
) -> None:
    gate.fails = MemoryError()
    gate.open()
    answer = await request(app, "GET", A, {"accept-encoding": "gzip"})
    assert (answer.status, answer.body) == (200, BIG.replace(b" ", b""))
    assert "content-encoding" not in answer.headers
    assert logged_warnings(caplog) == ["a page is sent uncompressed"]


async def test_page_is_sent_uncompressed_when_no_thread_can_start(
    app: DurableStreamsApp, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(asyncio.get_running_loop(), "run_in_executor", refuse)
    answer = await request(app, "GET", A, {"accept-encoding": "gzip"})
    assert (answer.status, json.loads(answer.body)) == (200, list(range(3000)))
    assert logged_warnings(caplog) == ["a page is sent uncompressed"]


async def test_shutdown_answers_clients_that_wait_for_compression(
    app: DurableStreamsApp, gate: Gate
) -> None:
    exchange = Exchange(app, "GET", A.encode(), [GZIP])
    exchange.feed()
    await until(lambda: len(gate.begun) == 1)
    app.begin_shutdown()
    gate.open()
    answer = await exchange.answer()
    assert (answer.status, json.loads(answer.body)) == (200, list(range(3000)))


async def test_leaving_client_stops_the_compression_of_its_page(
    app: DurableStreamsApp, gate: Gate
) -> None:
    compressor: Any = app.handler._compressor
    client = Client(Lane(app))
    client.send(GET)
    await until(lambda: len(gate.begun) == 1)
    (job,) = compressor._running
    client.reset()
    await run_turns()
    assert job.is_left
    assert not compressor._jobs
    exchange = Exchange(app, "GET", A.encode(), [GZIP])
    exchange.feed()
    await until(lambda: len(gate.begun) == 2)
    exchange.disconnect()
    await exchange.task
    assert exchange.sent == []
    assert not compressor._jobs


async def test_leaving_client_stops_the_compression_after_a_read_from_disk(
    app: DurableStreamsApp, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a read from disk the reply has a ticket, and its cancellation must reach the compression."""
    reader = app.engine.reader
    read = reader.page
    held: list[Callable[[], None]] = []

    def later(*given: Any) -> Ticket[Any]:
        ticket: Ticket[Any] = Ticket()
        held.append(lambda: ticket.resolve(read(*given).result()))
        return ticket

    monkeypatch.setattr(reader, "page", later)
    client = Client(Lane(app))
    client.send(GET)
    held.pop()()
    await until(lambda: len(gate.begun) == 1)
    client.reset()
    await run_turns()
    assert not app.handler._compressor._jobs


async def test_page_requested_over_asgi_and_native_http_is_compressed_once(
    app: DurableStreamsApp, gate: Gate
) -> None:
    client = Client(Lane(app))
    client.send(GET)
    exchange = Exchange(app, "GET", A.encode(), [GZIP])
    exchange.feed()
    await run_turns(20)
    gate.open()
    answer = await exchange.answer()
    await until(lambda: bool(client.wire.received))
    (other,) = client.answers("GET")
    assert len(gate.begun) == 1
    assert other.body == answer.body
    assert other.headers["etag"] == answer.headers["etag"]
    client.reset()
    await run_turns()


@pytest.mark.parametrize("path", [A, "/v1/stream/b"])
async def test_different_pages_are_compressed_separately(
    app: DurableStreamsApp, store: StreamStore, gate: Gate, path: str
) -> None:
    store.create("/v1/stream/b", "application/json")
    first = Exchange(app, "GET", A.encode(), [GZIP])
    first.feed()
    await until(lambda: len(gate.begun) == 1)
    store.append(path, json.dumps(list(range(5000))).encode())
    second = Exchange(app, "GET", path.encode(), [GZIP])
    second.feed()
    await until(lambda: len(gate.begun) == 2)
    gate.open()
    for exchange, most in ((first, 3000), (second, 5000)):
        answer = await exchange.answer()
        assert json.loads(gzip.decompress(answer.body))[-1] == most - 1
