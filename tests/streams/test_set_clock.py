"""The wall clock is set forward or back by hours, days and years. TTLs ignore the change, and deadlines follow it."""

import asyncio
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import pytest

from durable_streams_server import StreamStore
from durable_streams_server.errors import NotFound
from durable_streams_server.protocol import render
from durable_streams_server.protocol.lifetime import Lifetime
from durable_streams_server.protocol.units import SECOND
from durable_streams_server.storage.files.store import FileStore
from durable_streams_server.storage.memory import MemoryStore
from durable_streams_server.storage.store import Store
from durable_streams_server.storage.ticket import Ticket
from durable_streams_server.streams import expiry
from durable_streams_server.streams.engine import Engine
from durable_streams_server.streams.hooks import Hooks, StreamLifecycleEvent
from durable_streams_server.testing.disk import SimulatedDisk
from tests.requests import NOW, create
from tests.storage.contract_base import settled
from tests.storage.files.stores import new_disk, open_store
from tests.streams.engines import SettableClock, read

T = TypeVar("T")
HOUR, DAY, YEAR = 3600, 86_400, 365 * 86_400  # seconds
STEPS = [2 * HOUR, -2 * HOUR, DAY, -DAY, 7 * YEAR, -7 * YEAR]
KINDS = ["memory", "loaded", "unloaded", "restarted", "restarted-unloaded", "rebooted"]


class World:
    """A store, its engine, and a wall clock that the test sets.

    Args:
        kind: where the streams are when the clock is set: in memory, in the catalog, or in a store that was opened again.
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.clock = SettableClock()
        self.disk: SimulatedDisk = new_disk()
        self.store: Store = MemoryStore() if kind == "memory" else self._open()
        self.engine = Engine(self.store, clock=self.clock)

    def _open(self) -> FileStore:
        return open_store(self.disk, max_loaded=1 if "unloaded" in self.kind else 100)

    def do(self, ticket: Ticket[T]) -> T:
        """Waits for a ticket and returns its result."""
        if isinstance(self.store, FileStore):
            self.store.shell.wait_for(ticket)
        return ticket.result()

    def create(self, path: str, lifetime: Lifetime) -> None:
        self.do(self.engine.create(create(path, body=b"x", lifetime=lifetime)))

    def settle(self) -> None:
        """Prepares the streams as the kind says: unloads them from memory, opens the store again, or leaves them."""
        if not isinstance(self.store, FileStore):
            return
        self.store.commit_once()
        if self.kind.startswith(("restarted", "rebooted")):
            self.restart()
        if "unloaded" in self.kind:
            assert isinstance(self.store, FileStore)
            self.store.run_checkpoint()
            for _ in range(6):
                for path in ("/other", "/another"):
                    self.store.find(path)

    def restart(self) -> None:
        """Closes the store and opens it again, after a reboot if the kind says so."""
        self.engine.clock.detect_step()
        self.close()
        if self.kind == "rebooted":
            self.clock.reboot()
        self.open()

    def close(self) -> None:
        self.store.close()

    def open(self) -> None:
        self.store = self._open()
        self.engine = Engine(self.store, clock=self.clock)

    def set_clock(self, seconds: float) -> None:
        """Sets the wall clock forward or back, and lets the engine notice."""
        self.clock.set(seconds)
        self.engine.clock.detect_step()

    def lives(self, path: str = "/a") -> bool:
        """Returns whether readers may see a stream."""
        try:
            self.do(self.engine.head(path))
        except NotFound:
            return False
        return True

    def sweep(self) -> None:
        for _ in range(3):
            self.engine._sweep.expire_due()
            if isinstance(self.store, FileStore):
                self.store.commit_once()

    def is_listed(self, path: str = "/a") -> bool:
        """Returns whether the store still has a stream, expired or not."""
        return path in set(self.store.paths())


@pytest.fixture(params=KINDS)
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    made = World(request.param)
    made.create("/other", Lifetime())
    made.create("/another", Lifetime())
    yield made
    made.store.close()


@pytest.mark.parametrize("step", STEPS)
def test_idle_stream_keeps_its_ttl_when_clock_is_set(world: World, step: int) -> None:
    world.create("/a", Lifetime(ttl=HOUR))
    world.clock.forward(HOUR / 2)
    world.do(world.engine.read(read()))
    world.settle()
    world.set_clock(step)
    world.clock.forward(HOUR - 1)
    world.sweep()
    assert world.lives()
    world.clock.forward(HOUR / 10 + 1)  # a restart may add 10%
    assert not world.lives()
    world.sweep()
    assert not world.is_listed()


@pytest.mark.parametrize("step", STEPS)
def test_idle_stream_keeps_its_ttl_when_clock_was_set_before_restart(
    world: World, step: int
) -> None:
    world.create("/a", Lifetime(ttl=HOUR))
    world.set_clock(step)
    world.clock.forward(HOUR / 2)
    world.do(world.engine.read(read()))
    world.settle()
    world.clock.forward(HOUR - 1)
    world.sweep()
    assert world.lives()
    world.clock.forward(HOUR / 10 + 1)
    world.sweep()
    assert not world.is_listed()


@pytest.mark.parametrize("step", [2 * HOUR, DAY, 7 * YEAR])
def test_stream_expires_when_clock_is_set_past_its_deadline(world: World, step: int) -> None:
    world.create("/a", Lifetime(expires_at=NOW + HOUR * SECOND))
    world.settle()
    world.set_clock(step)
    assert not world.lives()
    world.sweep()
    assert not world.is_listed()


@pytest.mark.parametrize("step", [2 * HOUR, DAY, 7 * YEAR])
def test_stream_lives_longer_when_clock_is_set_back_before_its_deadline(
    world: World, step: int
) -> None:
    world.create("/a", Lifetime(expires_at=NOW + HOUR * SECOND))
    world.settle()
    world.set_clock(-step)
    world.clock.forward(step + HOUR - 1)
    world.sweep()
    assert world.lives()
    world.clock.forward(1)
    assert not world.lives()
    world.sweep()
    assert not world.is_listed()


def test_next_deadline_moves_when_clock_is_set(world: World) -> None:
    world.create("/a", Lifetime(expires_at=NOW + DAY * SECOND))
    world.create("/b", Lifetime(ttl=10 * DAY))
    world.settle()
    assert world.store.next_deadline() == NOW + DAY * SECOND
    world.set_clock(DAY - 60)
    assert world.store.next_deadline() == NOW + 60 * SECOND


def test_page_is_cached_no_longer_than_deadline_after_clock_is_set(world: World) -> None:
    world.create("/a", Lifetime(expires_at=NOW + DAY * SECOND))
    world.settle()
    world.set_clock(DAY - 20)
    page = world.do(world.engine.read(read()))
    answer = render.page(page, world.engine.clock(), shared_age=DAY)
    told = dict(answer.all_headers)[b"cache-control"]
    assert told == b"public, max-age=0, s-maxage=20, must-revalidate"


# -- restarts ---------------------------------------------------------------


@pytest.mark.parametrize("step", STEPS)
def test_clock_set_while_store_is_closed_does_not_change_ttl(step: int) -> None:
    world = World("loaded")
    world.create("/a", Lifetime(ttl=HOUR))
    world.close()
    world.clock.set(step)
    world.clock.forward(HOUR / 2)
    world.open()
    world.clock.forward(HOUR / 2 - 1)
    assert world.lives()
    world.clock.forward(HOUR / 10 + 1)
    world.sweep()
    assert not world.is_listed()


def test_clock_set_back_by_reboot_does_not_change_ttl() -> None:
    world = World("loaded")
    world.create("/a", Lifetime(ttl=HOUR))
    world.close()
    world.clock.set(-DAY)
    world.clock.reboot()
    world.open()
    world.clock.forward(HOUR - 1)
    assert world.lives()
    world.clock.forward(HOUR / 10 + 1)
    world.sweep()
    assert not world.is_listed()


@pytest.mark.parametrize("reboots", [False, True])
def test_ttl_runs_while_store_is_closed(reboots: bool) -> None:
    world = World("loaded")
    world.create("/a", Lifetime(ttl=HOUR))
    world.set_clock(-DAY)
    world.close()
    world.clock.forward(2 * HOUR)
    if reboots:
        world.clock.reboot()
    world.open()
    assert not world.lives()


def test_checkpoint_without_new_records_saves_that_clock_was_set() -> None:
    world = World("loaded")
    world.create("/a", Lifetime(ttl=HOUR))
    assert isinstance(world.store, FileStore)
    world.store.run_checkpoint()
    world.set_clock(2 * HOUR)
    world.store.run_checkpoint()
    world.disk.lose_power()
    world.clock.reboot()
    world.open()
    assert world.lives()


async def test_setting_wall_clock_causes_checkpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(expiry, "_CHECK_INTERVAL", 0.001)
    world = World("loaded")
    world.create("/a", Lifetime(ttl=HOUR))
    world.engine.start()
    checkpointed = asyncio.Event()
    loop = asyncio.get_running_loop()
    assert isinstance(world.store, FileStore)
    catalog = world.store._catalog
    commit = catalog.commit

    def committing(*arguments: Any) -> None:
        commit(*arguments)
        loop.call_soon_threadsafe(checkpointed.set)

    monkeypatch.setattr(catalog, "commit", committing)
    world.clock.set(2 * HOUR)
    async with asyncio.timeout(10):
        while (
            catalog.meta().wall_offset != 2 * HOUR * SECOND
        ):  # the start of the engine causes a checkpoint too
            await checkpointed.wait()
            checkpointed.clear()
    await world.engine.stop()
    world.store.close()


# -- a running engine -------------------------------------------------------


@pytest.mark.parametrize("kind", ["memory", "loaded"])
async def test_running_engine_expires_stream_soon_after_clock_is_set_past_its_deadline(
    kind: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(expiry, "_CHECK_INTERVAL", 0.001)
    world = World(kind)
    ended = asyncio.Event()

    def told(event: StreamLifecycleEvent) -> None:
        if event.type == "deleted":
            ended.set()

    world.engine = Engine(world.store, hooks=Hooks([told]), clock=world.clock)
    world.engine.start()
    lifetime = Lifetime(expires_at=NOW + DAY * SECOND)
    await settled(world.engine.create(create("/a", lifetime=lifetime)))
    world.clock.set(2 * DAY)
    await ended.wait()
    assert "the clock was set by +172800.0 seconds" in caplog.text
    await world.engine.stop()
    world.store.close()


def test_engine_checks_clock_at_least_every_second() -> None:
    assert expiry._CHECK_INTERVAL <= 1


def time_of_hook(change: Callable[[SettableClock], None]) -> float:
    """Returns the time in the hook event of a stream that is created after `change` has set the clock."""
    told: list[StreamLifecycleEvent] = []
    clock, store = SettableClock(), MemoryStore()
    engine = Engine(store, hooks=Hooks([told.append]), clock=clock)
    change(clock)
    engine.clock.detect_step()
    engine.create(create("/a")).result()
    return told[0].timestamp


def test_hook_event_has_wall_clock_time() -> None:
    assert time_of_hook(lambda clock: clock.set(DAY)) == NOW / SECOND + DAY


def test_synchronous_store_follows_wall_clock() -> None:
    clock = SettableClock()
    store = StreamStore(clock=clock)
    store.create("/idle")
    store.execute(create("/date", lifetime=Lifetime(expires_at=NOW + DAY * SECOND)), NOW)
    store.execute(create("/ttl", lifetime=Lifetime(ttl=HOUR)), NOW)
    clock.set(2 * DAY)
    clock.forward(1)
    assert not store.has("/date")
    assert store.has("/ttl")
    made = store.create("/new")
    assert made.created_at == NOW / SECOND + 2 * DAY + 1
