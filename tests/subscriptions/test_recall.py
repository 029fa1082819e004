"""Tests that a subscription which was full later gets every stream that it has missed."""

from collections.abc import AsyncIterator, Iterator

import pytest

from durable_streams_server.errors import Unavailable
from durable_streams_server.protocol.commands import Command
from durable_streams_server.protocol.decisions.outcomes import Outcome
from durable_streams_server.protocol.offsets import parse
from durable_streams_server.protocol.subscriptions.commands import (
    Acknowledge,
    Claim,
    Recall,
    Unsubscribe,
)
from durable_streams_server.protocol.subscriptions.outcomes import RecallOutcome
from durable_streams_server.storage.memory import MemoryStore
from durable_streams_server.storage.ticket import Ticket
from durable_streams_server.subscriptions import recall
from tests.protocol.subscriptions.world import POOL, ROOT
from tests.requests import SECOND
from tests.storage.files.stores import new_disk, open_store
from tests.storage.files.test_store import Prompt
from tests.subscriptions.loop_clock import LoopClock
from tests.subscriptions.services import Running

MANY = 60
PATHS = [f"{ROOT}/events/{number:03d}" for number in range(MANY)]
LIMIT = 10


class WatchedStore(MemoryStore):
    """A store that records the `Recall` commands and the listings of its paths, and can let both fail.

    Attributes:
        full: True if `Recall` commands are refused.
        paths_fail: True if listing the paths raises an error.
        listings: the number of times that the paths were listed.
        largest: the largest number of streams in one `Recall` command.
        refused: the number of refused commands.
    """

    def __init__(self) -> None:
        super().__init__()
        self.full = False
        self.paths_fail = False
        self.listings = 0
        self.largest = 0
        self.refused = 0

    def execute(self, command: Command, now: int) -> Ticket[Outcome]:
        if isinstance(command, Recall):
            self.largest = max(self.largest, len(command.paths))
            if self.full:
                self.refused += 1
                return Ticket.failed(Unavailable("no room"))
        return super().execute(command, now)

    def paths(self) -> Iterator[str]:
        self.listings += 1
        yield from super().paths()
        if self.paths_fail:
            raise OSError("the catalog cannot be read")


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recall, "_RETRY_SECONDS", 0)
    monkeypatch.setattr(recall, "_DAMAGED_RETRY_SECONDS", 0)
    monkeypatch.setattr(recall, "_SLICE", 7)


@pytest.fixture
async def running() -> AsyncIterator[Running]:
    made = Running(WatchedStore())
    await fill(made)
    made.start()
    yield made
    await made.stop()


def watched_store(running: Running) -> WatchedStore:
    assert isinstance(running.store, WatchedStore)
    return running.store


async def fill(made: Running, *ids: str) -> None:
    """Creates subscriptions, and appends to more streams than the subscriptions have room for."""
    made.store.subscriptions.max_due = LIMIT
    await made.create_streams(*PATHS, POOL)
    for id_ in ids or ("s",):
        await made.subscribe(id_, type="pull-wake")
    for path in PATHS:
        made.clock.forward(0.001)
        await made.append_news(path)
    assert all(len(each.due) == LIMIT and each.missed for each in made.store.subscriptions)


async def work(running: Running, id_: str = "s") -> set[str]:
    """Claims and acknowledges the wake in flight, if there is one. Returns the streams of the wake."""
    subscription = running.store.subscriptions.get(id_)
    assert subscription is not None
    if subscription.wake is None:
        return set()
    view = await running.run(Claim(id_, "w"))
    acks = tuple((stream.path, parse(stream.tail)) for stream in view.streams)
    await running.run(Acknowledge(view.grant, view.generation, view.wake.wake_id, acks, done=True))
    return {stream.path for stream in view.streams}


async def drain(running: Running, id_: str = "s") -> set[str]:
    """Claims and acknowledges wakes until the subscription has no news and has missed no stream. Returns the streams that the wakes listed."""
    listed: set[str] = set()
    for _ in range(1000):
        listed |= await work(running, id_)
        await running.settle()
        subscription = running.store.subscriptions.by_id[id_]
        assert len(subscription.due) <= LIMIT
        if not subscription.missed and not subscription.due:
            return listed
    raise AssertionError("streams are missed for ever")


async def test_wakes_eventually_list_every_stream_missed_past_the_limit(running: Running) -> None:
    assert await drain(running) == set(PATHS)
    assert isinstance(running.store, WatchedStore)
    # There was only one pass, which paused while there was no room.
    assert running.store.listings == 1
    assert 0 < running.store.largest <= recall._STREAMS_PER_RECORD
    assert running.store.subscriptions.kept == 0


async def test_search_for_missed_streams_waits_until_half_of_limit_is_free(
    running: Running,
) -> None:
    assert isinstance(running.store, WatchedStore)
    await running.settle()
    assert running.store.listings == 0
    await work(running)
    await running.until(lambda: running.store.subscriptions.kept > 0)
    for _ in range(5):
        await running.settle()
    assert running.store.subscriptions.kept == LIMIT // 2


async def test_next_search_finds_streams_missed_during_first_search(running: Running) -> None:
    assert isinstance(running.store, WatchedStore)
    await work(running)
    await running.until(lambda: running.store.subscriptions.kept == LIMIT // 2)
    late = [f"{ROOT}/events/late{number}" for number in range(LIMIT)]
    for path in late:  # the pass has begun to list paths before these exist
        running.clock.forward(0.001)
        await running.create_streams(path)
        await running.append_news(path)
    assert await drain(running) >= {*late, *PATHS[-LIMIT:]}
    assert running.store.listings == 2


async def test_search_for_missed_streams_is_retried_while_store_is_full(running: Running) -> None:
    assert isinstance(running.store, WatchedStore)
    running.store.full = True
    await work(running)
    await running.until(lambda: watched_store(running).refused > 3)
    running.store.full = False
    assert await drain(running) >= set(PATHS[LIMIT:])


async def test_search_for_missed_streams_restarts_if_paths_cannot_be_listed(
    running: Running,
) -> None:
    assert isinstance(running.store, WatchedStore)
    running.store.paths_fail = True
    await work(running)
    for _ in range(1000):
        if running.store.listings >= 2:
            break
        await work(running)
        await running.settle()
    assert running.store.listings >= 2
    assert running.store.subscriptions.by_id["s"].missed
    running.store.paths_fail = False
    assert await drain(running) >= set(PATHS[LIMIT:])


async def test_deleting_subscription_ends_its_search_for_missed_streams(running: Running) -> None:
    await work(running)
    await running.until(lambda: running.store.subscriptions.kept == LIMIT // 2)
    await running.run(Unsubscribe("s"))
    assert running.service._recalls._passes == {}
    await fill_again(running)


async def fill_again(running: Running) -> None:
    await running.subscribe("s", type="pull-wake")
    for path in PATHS:
        running.clock.forward(0.001)
        await running.append_news(path)
    assert await drain(running) == set(PATHS)


async def test_search_for_missed_streams_ends_after_maximum_idle_time(
    monkeypatch: pytest.MonkeyPatch, loop_clock: LoopClock
) -> None:
    monkeypatch.setattr(recall, "_PASSES", 1)
    made = Running(WatchedStore())
    await fill(made, "away", "s")
    made.start()
    await work(made, "away")
    await made.until(lambda: len(made.store.subscriptions.by_id["away"].due) == LIMIT // 2)
    await work(made)
    await made.settle()
    assert made.store.subscriptions.by_id["s"].due == {}  # its pass has not begun
    made.clock.forward(recall._MAX_IDLE / SECOND)
    await loop_clock.forward(recall._MAX_IDLE / SECOND)
    assert await drain(made) >= set(PATHS[LIMIT:])
    assert await drain(made, "away") >= set(PATHS[LIMIT:])
    await made.stop()


async def test_start_restarts_interrupted_search_for_missed_streams() -> None:
    disk = new_disk()
    store = open_store(disk)
    store.shell = Prompt(store)
    running = Running(store)
    await fill(running)
    await work(running)
    incarnation = store.subscriptions.by_id["s"].incarnation
    assert await running.run(Recall("s", incarnation, begins=True)) == RecallOutcome(0, True)
    disk.lose_power()
    reopened = open_store(disk)
    reopened.shell = Prompt(reopened)
    reopened.subscriptions.max_due = LIMIT
    again = Running(reopened)
    again.service.start()
    assert await drain(again) >= set(PATHS[LIMIT:])
    await again.service.stop()
