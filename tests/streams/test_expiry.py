"""The sweep expires each stream once, when its lifetime has ended, and never a stream that is in use."""

import asyncio
from collections.abc import Callable

from durable_streams_server.errors import StorageFull
from durable_streams_server.protocol.lifetime import Lifetime
from durable_streams_server.storage.ticket import Ticket
from durable_streams_server.streams.engine import Engine
from durable_streams_server.streams.hooks import Hooks, StreamLifecycleEvent
from tests.requests import NOW, SECOND, append, create, fork_of
from tests.storage.contract_base import settled
from tests.storage.files.stores import new_disk, open_store
from tests.streams.engines import Bench, ManualClock, read

TEN = Lifetime(ttl=10)


def has_ended(bench: Bench) -> bool:
    """Returns whether the stream `/a` no longer exists."""
    return bench.store.find("/a").result() is None


def test_sweep_expires_unused_stream() -> None:  # TRAPS 53
    bench = Bench()
    bench.do(create("/a", lifetime=TEN))
    bench.clock.forward(9.99)
    bench.sweep()
    assert not has_ended(bench)
    bench.clock.forward(0.01)
    bench.sweep()
    assert has_ended(bench)
    assert bench.store.next_deadline() is None


async def test_timer_of_running_engine_expires_stream() -> None:
    deleted = asyncio.Event()

    def hook(event: StreamLifecycleEvent) -> None:
        if event.type == "deleted":
            deleted.set()

    bench = Bench(hooks=Hooks([hook]))
    bench.engine.start()
    bench.do(create("/a", lifetime=Lifetime(ttl=0)))
    await deleted.wait()
    assert has_ended(bench)
    bench.engine.begin_shutdown()


def test_reads_and_appends_restart_ttl_and_head_does_not() -> None:  # TRAPS 26
    uses: list[tuple[Callable[[Bench], object], bool]] = [
        (lambda bench: bench.engine.read(read(offset="now")).result(), True),
        (lambda bench: bench.engine.read(read()).result(), True),
        (lambda bench: bench.do(append("/a", b"x")), True),
        (lambda bench: bench.engine.head("/a").result(), False),
    ]
    for use, lives in uses:
        bench = Bench()
        bench.do(create("/a", lifetime=TEN))
        bench.clock.forward(6)
        use(bench)
        bench.clock.forward(6)
        bench.sweep()
        assert has_ended(bench) is not lives


async def test_live_reader_keeps_stream_alive() -> None:
    bench = Bench()
    bench.do(create("/a", lifetime=TEN))
    ticket = bench.engine.long_poll(read(offset="now", live="long-poll"))
    bench.clock.forward(100)
    bench.sweep()
    assert not ticket.done
    ticket.cancel()
    bench.clock.forward(9)
    bench.sweep()
    assert not has_ended(bench)
    bench.clock.forward(2)
    bench.sweep()
    assert has_ended(bench)


async def test_deadline_ends_live_reads() -> None:
    bench = Bench()
    bench.do(create("/a", lifetime=Lifetime(expires_at=bench.clock.now + 5_000_000)))
    events = bench.engine.events(read(live="sse"), lambda: None).result()
    bench.clock.forward(5)
    bench.sweep()
    assert events.state.visible_removed
    events.close()


def test_expired_source_is_kept_for_its_forks() -> None:
    bench = Bench()
    bench.do(create("/a", body=b"abc", lifetime=TEN))
    bench.do(create("/b", None, lifetime=Lifetime(ttl=100), fork=fork_of("/a")))
    bench.clock.forward(10)
    bench.sweep()
    assert bench.state().soft_deleted
    assert bench.engine.read(read("/b")).result().data == b"abc"


def test_sweep_expires_many_streams_in_batches() -> None:
    bench = Bench()
    bench.do(*(create(f"/{number}", lifetime=TEN) for number in range(2500)))
    bench.clock.forward(10)
    left = []
    for _ in range(3):
        bench.sweep()
        left.append(len(list(bench.store.paths())))
    assert left == [1500, 500, 0]


def test_stream_recreated_before_sweep_is_reported_deleted_once() -> None:
    told: list[StreamLifecycleEvent] = []
    bench = Bench(hooks=Hooks([told.append]))
    bench.do(create("/a", lifetime=TEN))
    bench.clock.forward(10)
    bench.do(create("/a", lifetime=TEN))
    bench.sweep()
    assert [event.type for event in told] == ["created", "deleted", "created"]


async def test_sweep_checks_stream_one_second_after_live_read_starts() -> None:
    clock, store = ManualClock(), open_store(new_disk())
    engine = Engine(store, clock=clock)
    engine.start()
    await settled(engine.create(create("/a", lifetime=TEN)))
    assert engine._sweep._set_for == NOW + 10 * SECOND
    clock.forward(0.5)
    ticket = engine.long_poll(read(offset="now", live="long-poll"))
    assert engine._sweep._set_for == NOW + SECOND
    ticket.cancel()
    await engine.stop()
    store.close()


def test_expired_streams_are_counted_once() -> None:
    bench = Bench()
    bench.do(create("/a", lifetime=TEN), create("/b", lifetime=TEN), create("/c"))
    bench.sweep()
    assert bench.engine.expired == 0
    bench.clock.forward(10)
    bench.sweep()
    bench.sweep()
    assert bench.engine.expired == 2


def test_refused_expiry_is_not_counted() -> None:
    bench = Bench()
    bench.do(create("/a", lifetime=TEN))
    bench.clock.forward(10)
    bench.store.execute = lambda *_: Ticket.failed(  # type: ignore[method-assign]  # a store without room
        StorageFull("the disk is full")
    )
    bench.sweep()
    assert bench.engine.expired == 0
