"""The engine: its methods for commands, its shutdown, and the failure of its store."""

import asyncio
from collections.abc import Callable

import pytest

from durable_streams_server.errors import BadRequest, Gone, NotFound
from durable_streams_server.protocol.commands import Delete
from durable_streams_server.protocol.cursor import CursorOptions
from durable_streams_server.protocol.json import scan as json_scan
from durable_streams_server.protocol.state import StreamState
from durable_streams_server.storage.memory import MemoryStore
from durable_streams_server.storage.ticket import Ticket
from durable_streams_server.streams.engine import Engine
from durable_streams_server.streams.options import EngineOptions
from tests.requests import append, create
from tests.streams.engines import Bench, read


def test_engine_creates_appends_reads_and_deletes() -> None:
    bench = Bench()
    engine = bench.engine
    assert engine.create(create("/a", body=b"ab")).result().created
    assert engine.append(append("/a", b"c")).result().wrote
    assert engine.head("/a").result().visible_tail == 3
    assert engine.read(read()).result().data == b"abc"
    assert engine.read(read(offset="now")).result().data == b""
    assert not engine.delete("/a").result().expired
    with pytest.raises(NotFound):
        engine.head("/a").result()


def test_find_loaded_returns_none_for_stream_that_is_not_loaded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bench = Bench()
    bench.do(create("/a", body=b"ab"))
    engine = bench.engine
    assert engine.find_loaded("/a") is engine.head("/a").result()
    with pytest.raises(NotFound):
        engine.find_loaded("/b")
    found, later = bench.store.find("/a"), Ticket[StreamState | None]()
    monkeypatch.setattr(bench.store, "find", lambda _: later)
    assert engine.find_loaded("/a") is None
    page = engine.read(read())
    assert not page.done
    later.resolve(found.result())
    assert page.result().data == b"ab"


def test_offset_of_deleted_stream_is_gone_in_recreated_stream() -> None:  # TRAPS 40
    bench = Bench()
    bench.do(create("/a", body=b"old"))
    old = bench.state().name(2)
    bench.do(Delete("/a"), create("/a", body=b"newer"))
    with pytest.raises(Gone) as caught:
        bench.engine.read(read(offset=old)).result()
    assert caught.value.code == "OFFSET_GONE"


def test_offset_past_tail_is_refused() -> None:
    bench = Bench()
    bench.do(create("/a", body=b"abc"))
    with pytest.raises(BadRequest):
        bench.engine.read(read(offset=bench.state().name(5))).result()


@pytest.mark.parametrize("media", ["application/octet-stream", "text/plain"])
def test_read_one_byte_past_tail_starts_at_tail(media: str) -> None:
    bench = Bench()
    bench.do(create("/a", media, b"abc"))
    asked = bench.state().name(4)
    page = bench.engine.read(read(offset=asked)).result()
    assert (page.start, page.data, page.at_tail) == (3, b"", True)
    bench.do(append("/a", b"next", media))
    assert bench.engine.read(read(offset=asked)).result().data == b"next"


def test_offset_one_past_tail_of_json_stream_is_refused() -> None:
    bench = Bench()
    bench.do(create("/a", "application/json", b"[1]"))
    with pytest.raises(BadRequest):
        bench.engine.read(read(offset=bench.state().name(3))).result()


def test_cursor_is_greater_than_client_cursor() -> None:  # TRAPS 35
    bench = Bench(EngineOptions(cursor=CursorOptions(interval_seconds=1)))
    first = bench.engine.next_cursor(None)
    second = bench.engine.next_cursor(first)
    assert int(second) > int(first)
    assert bench.engine.next_cursor("0") == first


async def test_stop_ends_every_live_read_and_may_be_called_twice() -> None:
    bench = Bench()
    bench.do(create("/a"), create("/b"))
    tickets = [bench.engine.long_poll(read(path, "now", "long-poll")) for path in ("/a", "/b")]
    await bench.engine.stop()
    await bench.engine.stop()
    assert all(ticket.done for ticket in tickets)


class FailingStore(MemoryStore):
    """A store that stops for good when the test calls `fail`."""

    def attach(
        self, loop: asyncio.AbstractEventLoop, on_failure: Callable[[BaseException], None]
    ) -> None:
        self.fail = on_failure


async def test_start_compiles_json_patterns() -> None:
    json_scan._value.cache_clear()
    engine = Engine(MemoryStore())
    engine.start()
    assert json_scan._value.cache_info().currsize == 1
    await engine.stop()


async def test_failed_store_ends_live_reads_and_is_reported() -> None:
    store = FailingStore()
    engine = Engine(store)
    told: list[BaseException] = []
    engine.on_failure = told.append
    engine.start()
    store.execute(create("/a"), engine.clock()).result()
    ticket = engine.long_poll(read(offset="now", live="long-poll"))
    error = OSError("no disk")
    store.fail(error)
    assert engine.failure is error
    assert told == [error]
    assert ticket.done
