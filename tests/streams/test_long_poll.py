"""Long-polls end when their stream changes, at their timeout, or at shutdown, and never miss a change."""

import asyncio

import pytest

from durable_streams_server import PendingLongPoll
from durable_streams_server.errors import Gone, NotFound
from durable_streams_server.protocol.commands import Delete
from durable_streams_server.protocol.page import Page
from durable_streams_server.protocol.producers import Stamp
from durable_streams_server.storage.ticket import Cancelled, Ticket
from durable_streams_server.streams.options import EngineOptions
from durable_streams_server.streams.tickets import read_result
from tests.requests import append, create, fork_of
from tests.streams.engines import Bench, next_turn, read


@pytest.fixture
def bench() -> Bench:
    bench = Bench(EngineOptions(long_poll_timeout=30))
    bench.do(create("/a"))
    return bench


def poll(bench: Bench, offset: str = "now") -> Ticket[Page]:
    return bench.engine.long_poll(read(offset=offset, live="long-poll"))


async def test_long_poll_returns_existing_data_immediately(bench: Bench) -> None:
    bench.do(append("/a", b"abc"))
    assert poll(bench, "-1").result().data == b"abc"


async def test_append_ends_long_poll(bench: Bench) -> None:  # TRAPS 32
    ticket = poll(bench)
    assert not ticket.done
    bench.do(append("/a", b"abc"))
    await next_turn()
    assert ticket.result().data == b"abc"
    assert len(bench.engine.tails) == 0


async def test_timeout_ends_long_poll_with_empty_page() -> None:
    bench = Bench(EngineOptions(long_poll_timeout=0.01))
    bench.do(create("/a"))
    page = await read_result(poll(bench))
    assert (page.data, page.at_tail, page.closed) == (b"", True, False)
    assert len(bench.engine.tails) == 0


@pytest.mark.parametrize("last", [b"", b"end"])
async def test_close_ends_long_poll_with_last_data(bench: Bench, last: bytes) -> None:
    ticket = poll(bench)
    bench.do(append("/a", last, closes=True))
    await next_turn()
    assert (ticket.result().data, ticket.result().closed) == (last, True)


async def test_long_poll_at_end_of_closed_stream_returns_immediately(bench: Bench) -> None:
    bench.do(append("/a", closes=True))
    assert poll(bench).result().closed


async def test_delete_ends_long_poll(bench: Bench) -> None:
    ticket = poll(bench)
    bench.do(Delete("/a"))
    await next_turn()
    with pytest.raises(NotFound):
        ticket.result()


async def test_soft_delete_ends_long_poll(bench: Bench) -> None:
    bench.do(create("/b", None, fork=fork_of("/a")))
    ticket = poll(bench)
    bench.do(Delete("/a"))
    await next_turn()
    with pytest.raises(Gone):
        ticket.result()


async def test_duplicate_append_does_not_end_long_poll(bench: Bench) -> None:  # TRAPS 39
    first = append("/a", b"x", stamp=Stamp(b"p", 0, 0))
    bench.do(first)
    ticket = poll(bench)
    bench.do(first)
    await next_turn()
    assert not ticket.done
    ticket.cancel()


async def test_cancelled_long_poll_is_removed_from_waiting_readers(bench: Bench) -> None:
    ticket = poll(bench)
    ticket.cancel()
    assert len(bench.engine.tails) == 0
    assert bench.state().readers == 0
    with pytest.raises(Cancelled):
        ticket.result()


async def test_shutdown_ends_long_poll(bench: Bench) -> None:
    ticket = poll(bench)
    bench.engine.begin_shutdown()
    assert ticket.result().data == b""


async def test_drain_shortens_waiting_and_new_long_polls() -> None:
    bench = Bench(EngineOptions(long_poll_timeout=30))
    bench.do(create("/a"))
    waiting = poll(bench)
    bench.engine.begin_drain(0.02)
    begun = poll(bench)
    async with asyncio.timeout(5):
        assert (await read_result(waiting)).data == b""
        assert (await read_result(begun)).data == b""
    assert len(bench.engine.tails) == 0


async def test_end_soon_resolves_long_poll_with_empty_page(bench: Bench) -> None:
    pending = PendingLongPoll(bench.engine, bench.state(), 0)
    pending.end_soon()
    assert pending.ticket.result().data == b""


async def test_pending_long_poll_has_path_and_offset(bench: Bench) -> None:
    pending = PendingLongPoll(bench.engine, bench.state(), 0)
    assert (pending.path, pending.offset) == ("/a", bench.state().name(0))
    pending.ticket.cancel()
