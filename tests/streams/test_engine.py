"""The engine: one method for each command, and what a stop and a failure do."""

import asyncio
from collections.abc import Callable

import pytest

from durable_streams_server.errors import BadRequest, Gone, NotFound
from durable_streams_server.protocol import json_scan
from durable_streams_server.protocol.commands import Delete
from durable_streams_server.protocol.cursor import CursorOptions
from durable_streams_server.protocol.state import StreamState
from durable_streams_server.storage.memory import MemoryStore
from durable_streams_server.storage.ticket import Ticket
from durable_streams_server.streams.engine import Engine
from durable_streams_server.streams.options import EngineOptions
from tests.requests import append, create
from tests.streams.engines import Bench, read


def test_each_command_has_its_method() -> None:
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


def test_stream_that_must_be_loaded_first_is_not_known_at_once(
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


def test_an_offset_of_a_deleted_stream_is_gone_in_the_new_one() -> None:  # TRAPS 40
    bench = Bench()
    bench.do(create("/a", body=b"old"))
    old = bench.state().name(2)
    bench.do(Delete("/a"), create("/a", body=b"newer"))
    with pytest.raises(Gone) as caught:
        bench.engine.read(read(offset=old)).result()
    assert caught.value.code == "OFFSET_GONE"


def test_an_offset_past_the_tail_is_refused() -> None:
    bench = Bench()
    bench.do(create("/a", body=b"abc"))
    with pytest.raises(BadRequest):
        bench.engine.read(read(offset=bench.state().name(5))).result()


@pytest.mark.parametrize("media", ["application/octet-stream", "text/plain"])
def test_offset_one_past_the_tail_means_the_tail(media: str) -> None:
    bench = Bench()
    bench.do(create("/a", media, b"abc"))
    asked = bench.state().name(4)
    page = bench.engine.read(read(offset=asked)).result()
    assert (page.start, page.data, page.at_tail) == (3, b"", True)
    bench.do(append("/a", b"next", media))
    assert bench.engine.read(read(offset=asked)).result().data == b"next"


def test_offset_one_past_the_tail_of_a_json_stream_is_refused() -> None:
    bench = Bench()
    bench.do(create("/a", "application/json", b"[1]"))
    with pytest.raises(BadRequest):
        bench.engine.read(read(offset=bench.state().name(3))).result()


def test_cursors_move_strictly_forward() -> None:  # TRAPS 35
    bench = Bench(EngineOptions(cursor=CursorOptions(interval_seconds=1)))
    first = bench.engine.next_cursor(None)
    second = bench.engine.next_cursor(first)
    assert int(second) > int(first)
    assert bench.engine.next_cursor("0") == first


async def test_a_stop_ends_every_live_read_and_may_be_repeated() -> None:
    bench = Bench()
    bench.do(create("/a"), create("/b"))
    tickets = [bench.engine.long_poll(read(path, "now", "long-poll")) for path in ("/a", "/b")]
    await bench.engine.stop()
    await bench.engine.stop()
    assert all(ticket.done for ticket in tickets)


class Failing(MemoryStore):
    """A store that can be told to stop for good."""

    def attach(
        self, loop: asyncio.AbstractEventLoop, on_failure: Callable[[BaseException], None]
    ) -> None:
        self.fail = on_failure


async def test_what_takes_long_to_build_is_built_before_there_are_clients() -> None:
    json_scan._value.cache_clear()
    engine = Engine(MemoryStore())
    engine.start()
    assert json_scan._value.cache_info().currsize == 1
    await engine.stop()


async def test_a_store_that_stops_ends_live_reads_and_is_reported() -> None:
    store = Failing()
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
