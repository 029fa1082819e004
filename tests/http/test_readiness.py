"""`Readiness`: when the server counts as ready, and what a flood of checks costs."""

import asyncio
import errno
from collections.abc import Callable
from typing import Any, cast

import pytest

from durable_streams_server.errors import StorageFull, StoreForked, Unavailable
from durable_streams_server.http.facts import ServerFacts
from durable_streams_server.http.readiness import PATIENCE, REUSE, Readiness
from durable_streams_server.storage.memory import MemoryStore
from durable_streams_server.storage.ticket import Abandoned, Ticket
from durable_streams_server.streams.engine import Engine


class ManualLoop:
    """An event loop's clock and timers, which the test moves."""

    def __init__(self) -> None:
        self._now = 0.0
        self.timers: list[tuple[float, Callable[[], None]]] = []

    def time(self) -> float:
        return self._now

    def call_later(self, seconds: float, function: Callable[[], None]) -> asyncio.TimerHandle:
        timer = (self._now + seconds, function)
        self.timers.append(timer)

        class Handle:
            def cancel(_) -> None:  # noqa: N805  (`self` is the loop)
                if timer in self.timers:
                    self.timers.remove(timer)

        return cast(asyncio.TimerHandle, Handle())

    def pass_time(self, seconds: float) -> None:
        """Moves the clock, and calls the timers that are due on the way."""
        until = self._now + seconds
        while due := [timer for timer in self.timers if timer[0] <= until]:
            first = min(due, key=lambda timer: timer[0])
            self.timers.remove(first)
            self._now = first[0]
            first[1]()
        self._now = until


class ProbedStore(MemoryStore):
    """A store whose probes the test answers."""

    def __init__(self) -> None:
        super().__init__()
        self.probes: list[Ticket[None]] = []

    def probe(self) -> Ticket[None]:
        self.probes.append(Ticket())
        return self.probes[-1]


class World:
    """A readiness check of a store whose probes and clock the test controls."""

    def __init__(self) -> None:
        self.store = ProbedStore()
        self.engine = Engine(self.store)
        self.loop = ManualLoop()
        self.engine.loop = cast(Any, self.loop)
        self.facts = ServerFacts()
        self.readiness = Readiness(self.engine, self.facts)

    def check(self) -> Ticket[None]:
        return self.readiness.check()

    @property
    def newest(self) -> Ticket[None]:
        return self.store.probes[-1]


@pytest.fixture
def world() -> World:
    return World()


def reason(ticket: Ticket[None]) -> str:
    """Returns the reason with which a check has failed."""
    with pytest.raises(Unavailable) as caught:
        ticket.result()
    assert (caught.value.status, caught.value.code) == (503, "NOT_READY")
    assert dict(caught.value.headers)[b"retry-after"] == b"1"
    return str(caught.value.details["reason"])


def test_server_is_ready_only_once_a_write_is_durable(world: World) -> None:  # TRAPS 50
    check = world.check()
    assert not check.done
    world.newest.resolve(None)
    assert check.result() is None
    assert world.loop.timers == []


def test_checks_share_a_probe_and_its_result_for_a_second(world: World) -> None:
    checks = [world.check() for _ in range(1000)]
    assert len(world.store.probes) == 1
    world.newest.resolve(None)
    checks += [world.check() for _ in range(1000)]
    assert all(check.done and check.result() is None for check in checks)
    assert len(world.store.probes) == 1
    world.loop.pass_time(REUSE)
    assert not world.check().done
    assert len(world.store.probes) == 2


def test_cancelled_check_leaves_the_others_waiting(world: World) -> None:
    first, second = world.check(), world.check()
    first.cancel()
    world.newest.resolve(None)
    assert second.result() is None


@pytest.mark.parametrize(
    ("failure", "expected"),
    [
        (StorageFull("the disk is full"), "disk_full"),
        (Abandoned(OSError(errno.EIO, "lost")), "store_failed"),
    ],
)
def test_failed_probe_means_not_ready_until_the_next_one(
    world: World, failure: Exception, expected: str
) -> None:
    check = world.check()
    world.newest.fail(failure)
    assert [reason(check), reason(world.check())] == [expected] * 2
    world.loop.pass_time(REUSE)
    check = world.check()
    world.newest.resolve(None)
    assert check.result() is None


def test_probe_that_hangs_means_not_ready_until_it_ends(world: World) -> None:  # TRAPS 50
    check = world.check()
    world.loop.pass_time(PATIENCE)
    assert [reason(check), reason(world.check())] == ["writes_blocked"] * 2
    world.loop.pass_time(PATIENCE)
    assert reason(world.check()) == "writes_blocked"
    assert len(world.store.probes) == 1
    world.newest.resolve(None)
    assert world.check().result() is None


def test_refusal_that_soon_passes_is_retried(world: World) -> None:
    check = world.check()
    for _ in range(3):
        world.newest.fail(Unavailable("writes are ahead of the disk", "WRITES_BEHIND"))
        assert not check.done
        world.loop.pass_time(0.1)
    assert len(world.store.probes) == 4
    world.newest.resolve(None)
    assert check.result() is None


def test_refusal_that_does_not_pass_means_not_ready(world: World) -> None:
    check = world.check()
    for _ in range(int(PATIENCE / 0.1) + 1):
        world.newest.fail(Unavailable("writes are ahead of the disk", "WRITES_BEHIND"))
        world.loop.pass_time(0.1)
    assert reason(check) == "writes_blocked"
    world.newest.resolve(None)
    assert world.check().result() is None


def test_store_that_stops_ends_the_attempts(world: World) -> None:
    check = world.check()
    world.newest.fail(Unavailable("writes are ahead of the disk", "WRITES_BEHIND"))
    world.store.failure = OSError(errno.EIO, "lost")
    world.loop.pass_time(0.1)
    assert reason(check) == "store_failed"
    assert world.loop.timers == []


def test_starting_draining_and_stopping_server_is_not_ready(world: World) -> None:
    world.engine.loop = None
    assert reason(world.check()) == "starting"
    world.engine.loop = cast(Any, world.loop)
    world.facts.is_draining = True
    assert reason(world.check()) == "draining"
    world.facts.is_draining = False
    world.engine.begin_shutdown()
    assert reason(world.check()) == "draining"
    assert world.store.probes == []


def test_drain_that_begins_during_a_probe_means_not_ready(world: World) -> None:
    check = world.check()
    world.facts.is_draining = True
    world.newest.resolve(None)
    assert reason(check) == "draining"


@pytest.mark.parametrize("failure", [OSError(errno.EIO, "lost"), StoreForked("forked")])
def test_stopped_store_is_not_ready(world: World, failure: Exception) -> None:
    world.store.failure = failure
    assert reason(world.check()) == "store_failed"
    assert world.store.probes == []
