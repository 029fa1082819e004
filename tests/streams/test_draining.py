"""When a drain ends the live reads of a server."""

import asyncio

import pytest

from durable_streams_server.streams.draining import Drain, retry_spread
from durable_streams_server.streams.options import EngineOptions
from tests.loop_clock import LoopClock
from tests.requests import append, create
from tests.streams.engines import Bench, read
from tests.streams.test_event_stream import TEXT, Reader


class Read:
    """A live read that the drain must end if `waits` is True."""

    def __init__(self, waits: bool) -> None:
        self.waits = waits
        self.ended = asyncio.Event()

    def begin_drain(self, _: Drain) -> bool:
        return self.waits

    def end_soon(self) -> None:
        self.ended.set()


async def test_drain_ends_the_reads_that_ask_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = LoopClock(monkeypatch)
    asking, other = Read(True), Read(False)
    Drain([asking, other], 1)
    await clock.forward(1.1)
    assert asking.ended.is_set()
    assert not other.ended.is_set()


async def test_times_of_connections_are_spread_over_the_drain_and_stay_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = LoopClock(monkeypatch)
    drain = Drain([], 100)
    times = [drain.time_of(key * 16) for key in range(1000)]
    assert all(0 <= time <= 100 for time in times)
    for begin in range(0, 100, 20):
        assert 130 < sum(begin <= time < begin + 20 for time in times) < 270
    clock.now += 50
    again = [drain.time_of(key * 16) for key in range(1000)]
    assert again == pytest.approx([time - 50 for time in times])


async def test_poll_waits_until_time_of_its_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    LoopClock(monkeypatch)
    drain = Drain([], 100)
    assert drain.longest_wait(7) == drain.time_of(7)


async def test_poll_soon_after_time_of_its_connection_ends_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = LoopClock(monkeypatch)
    drain = Drain([], 100)
    end = clock.now + 100
    clock.now += drain.time_of(7) + 1
    assert drain.longest_wait(7) == 0
    # Long after that time, only a client that has opened another connection polls. It waits for the end of the server.
    clock.now += 2
    assert drain.longest_wait(7) == pytest.approx(max(0, end - clock.now))


async def test_drain_of_engine_ends_event_streams_and_waiting_polls_but_not_followers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = LoopClock(monkeypatch)
    bench = Bench(EngineOptions(long_poll_timeout=30))
    bench.do(create("/a", TEXT))
    bench.do(append("/a", b"abc", TEXT))
    events = Reader(bench)
    events.pull()
    poll = bench.engine.long_poll(read(offset="now", live="long-poll"), None, 5)
    bench.engine.begin_drain(1)
    bench.engine.begin_drain(60)  # changes nothing
    await clock.forward(1.1)
    assert events.called.is_set()
    assert [kind for kind, _ in events.pull()] == ["control"]
    assert events.ended
    assert poll.result().data == b""
    events.stream.close()
    assert len(bench.engine.tails) == 0


async def test_shutdown_during_drain_ends_all_live_reads() -> None:
    bench = Bench()
    bench.do(create("/a", TEXT))
    reader = Reader(bench)
    reader.pull()
    bench.engine.begin_drain(60)
    bench.engine.begin_shutdown()
    reader.pull()
    assert reader.ended
    reader.stream.close()


def test_browsers_of_large_crowds_reconnect_over_up_to_ten_seconds() -> None:
    assert [retry_spread(count) for count in (0, 99, 100, 5000, 10_000, 50_000)] == [
        0,
        0,
        100,
        5000,
        10_000,
        10_000,
    ]
