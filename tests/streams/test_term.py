"""`Term`: live reads end when the client may no longer read (TRAPS 43)."""

import asyncio

import pytest

from durable_streams_server.errors import Unauthorized
from durable_streams_server.protocol.sse import KEEP_ALIVE
from durable_streams_server.protocol.units import MIB, SECOND
from durable_streams_server.streams.event_stream import END, EventStream
from durable_streams_server.streams.options import EngineOptions
from durable_streams_server.streams.term import Term
from durable_streams_server.streams.tickets import read_result
from tests.protocol.test_sse import parse
from tests.requests import append, create
from tests.streams.engines import Bench, next_turn, read


class Token:
    """A token that a test may revoke."""

    def __init__(self) -> None:
        self.holds = True

    def __call__(self) -> bool:
        return self.holds


def test_seconds_left_end_with_term() -> None:
    assert Term().seconds_left(5 * SECOND, 30) == 30
    assert Term(until=7 * SECOND).seconds_left(5 * SECOND, 30) == 2
    assert Term(until=90 * SECOND).seconds_left(5 * SECOND, 30) == 30
    assert Term(until=1 * SECOND).seconds_left(5 * SECOND, 30) == 0


def test_term_is_over_when_token_no_longer_holds() -> None:
    token = Token()
    assert not Term(still_holds=token).is_over
    token.holds = False
    assert Term(still_holds=token).is_over
    assert not Term(until=0).is_over


def in_ms(bench: Bench, milliseconds: int) -> int:
    """Returns the wall-clock time in some milliseconds."""
    return bench.engine.clock.wall() + milliseconds * 1000


async def last_bytes(stream: EventStream, ready: asyncio.Event) -> bytes:
    """Pulls until an event stream ends, and returns its bytes."""
    received = b""
    async with asyncio.timeout(5):
        while True:
            piece = stream.pull()
            if piece is END:
                return received
            if isinstance(piece, bytes):
                received += piece
            else:
                await ready.wait()
                ready.clear()


def events(bench: Bench, term: Term, offset: str = "-1") -> tuple[EventStream, asyncio.Event]:
    """Opens an event stream with a term. Returns it and an event that is set when it has news."""
    ready = asyncio.Event()
    opened = bench.engine.events(read(offset=offset, live="sse"), ready.set, term)
    return opened.result(), ready


async def test_event_stream_ends_with_control_event_when_token_expires() -> None:
    bench = Bench()
    bench.do(create("/a", "text/plain", b"abc"))
    stream, ready = events(bench, Term(until=in_ms(bench, 20)))
    found = parse(await last_bytes(stream, ready))
    assert [kind for kind, *_ in found] == ["data", "control", "control"]
    stream.close()


async def test_event_stream_ends_at_once_if_token_has_expired_already() -> None:
    bench = Bench()
    bench.do(create("/a"))
    stream, ready = events(bench, Term(until=in_ms(bench, -1000)))
    assert b"event: control" in await last_bytes(stream, ready)
    stream.close()


async def test_event_stream_ends_within_keep_alive_after_token_is_revoked() -> None:
    bench = Bench(EngineOptions(sse_keep_alive=0.01))
    bench.do(create("/a"))
    token = Token()
    stream, ready = events(bench, Term(still_holds=token))
    assert isinstance(stream.pull(), bytes)
    await ready.wait()
    assert stream.pull() == KEEP_ALIVE  # because the token still holds
    ready.clear()
    token.holds = False
    assert b"event: control" in await last_bytes(stream, ready)
    stream.close()


async def test_reader_that_is_behind_gets_no_more_data_after_its_term() -> None:
    bench = Bench(EngineOptions(sse_keep_alive=0.01))
    bench.do(create("/a"))
    for _ in range(20):
        bench.do(append("/a", b"x" * 16_384))
    stream, ready = events(bench, Term(still_holds=lambda: False))
    assert isinstance(stream.pull(), bytes)
    await ready.wait()
    rest = await last_bytes(stream, ready)
    assert len(rest) < 16_384
    assert parse(rest)[-1][0] == "control"
    stream.close()


async def test_page_that_is_loaded_after_end_of_term_is_not_sent() -> None:
    bench = Bench(EngineOptions(sse_keep_alive=0.01, max_unsent=1))
    bench.do(create("/a", "application/octet-stream", b"x" * MIB))
    stream, ready = events(bench, Term(still_holds=lambda: False))
    await ready.wait()
    last = stream.pull()
    assert isinstance(last, bytes)
    assert len(last) < 1000
    for _ in range(5):
        await next_turn()
        assert stream.pull() is END
    stream.close()


async def test_timer_of_event_stream_stops_with_its_term() -> None:
    bench = Bench(EngineOptions(sse_keep_alive=0.01))
    bench.do(create("/a"))
    stream, ready = events(bench, Term(still_holds=lambda: False), "now")
    await last_bytes(stream, ready)
    ready.clear()
    assert stream.pull() is END
    assert stream._timer.when() <= asyncio.get_running_loop().time()
    stream.close()


async def test_long_poll_ends_with_empty_page_when_token_expires() -> None:
    bench = Bench()
    bench.do(create("/a"))
    waiting = bench.engine.long_poll(
        read(offset="now", live="long-poll"), Term(until=in_ms(bench, 20))
    )
    page = await read_result(waiting)
    assert (page.data, page.at_tail) == (b"", True)
    assert len(bench.engine.tails) == 0


async def test_long_poll_of_revoked_token_gets_no_data() -> None:
    bench = Bench()
    bench.do(create("/a"))
    token = Token()
    waiting = bench.engine.long_poll(read(offset="now", live="long-poll"), Term(still_holds=token))
    token.holds = False
    bench.do(append("/a", b"secret"))
    await next_turn()
    with pytest.raises(Unauthorized):
        waiting.result()
    assert len(bench.engine.tails) == 0
