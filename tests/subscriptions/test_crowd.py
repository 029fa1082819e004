"""Tests that one append wakes every one of hundreds of subscriptions, with many small records."""

from collections.abc import AsyncIterator
from itertools import pairwise

import pytest

from durable_streams_server.errors import Unavailable
from durable_streams_server.protocol.commands import Command
from durable_streams_server.protocol.decisions.outcomes import Outcome
from durable_streams_server.protocol.subscriptions.commands import TakeNews
from durable_streams_server.storage.memory import MemoryStore
from durable_streams_server.storage.ticket import Ticket
from durable_streams_server.subscriptions import crowd
from tests.protocol.subscriptions.world import JSON, POOL, A, B
from tests.requests import append
from tests.storage.files.stores import new_disk, open_store
from tests.storage.files.test_store import Prompt
from tests.subscriptions.services import Running

MANY = 500


class WatchedStore(MemoryStore):
    """A store that counts `TakeNews` commands, and can refuse them.

    Attributes:
        largest: the largest number of changes in one record.
        full: True if `TakeNews` commands are refused.
        asked: the number of `TakeNews` commands.
    """

    def __init__(self) -> None:
        super().__init__()
        self.largest = 0
        self.full = False
        self.asked = 0
        self.listen(lambda published: setattr(self, "largest", max(self.largest, len(published))))

    def execute(self, command: Command, now: int) -> Ticket[Outcome]:
        self.asked += isinstance(command, TakeNews)
        if self.full and isinstance(command, TakeNews):
            return Ticket.failed(Unavailable("no room"))
        return super().execute(command, now)


@pytest.fixture
async def running() -> AsyncIterator[Running]:
    made = Running(WatchedStore()).start()
    await made.create_streams(A, B, POOL)
    for number in range(MANY):
        await made.subscribe(f"s{number}", type="pull-wake")
    yield made
    await made.stop()


def count_woken(running: Running) -> int:
    """Returns the number of subscriptions with a wake in flight."""
    return sum(subscription.wake is not None for subscription in running.store.subscriptions)


async def test_append_wakes_many_subscriptions_in_several_small_records(running: Running) -> None:
    assert isinstance(running.store, WatchedStore)
    running.store.largest = 0
    ticket = running.store.execute(append(A, b"1", JSON), running.clock())
    assert ticket.done
    assert running.store.largest == 2  # the append, and the entry that it adds to the feed
    assert count_woken(running) == 0
    await running.until(lambda: count_woken(running) == MANY)
    assert running.store.largest <= 3 * crowd._SLICE
    await running.until(lambda: not len(running.store.subscriptions.feed))


async def test_other_work_runs_while_append_wakes_many_subscriptions(running: Running) -> None:
    before: list[int] = []
    await running.run(append(A, b"1", JSON))

    def look() -> bool:
        before.append(count_woken(running))
        return before[-1] < MANY

    running.engine.turns.add(look)
    await running.until(lambda: count_woken(running) == MANY)
    assert max(after - first for first, after in pairwise(before)) <= crowd._SLICE


async def test_waking_many_subscriptions_is_retried_while_store_is_full(running: Running) -> None:
    assert isinstance(running.store, WatchedStore)
    running.store.full = True
    await running.append_news(A, B)
    await running.settle()
    assert (running.store.asked, count_woken(running)) == (1, 0)
    running.store.full = False
    running.service._distributor._end_pause()
    await running.until(lambda: count_woken(running) == MANY)
    await running.until(lambda: not len(running.store.subscriptions.feed))


async def test_start_wakes_subscriptions_not_yet_woken_before_crash() -> None:
    disk = new_disk()
    store = open_store(disk)
    store.shell = Prompt(store)
    running = Running(store)
    for path in (A, POOL):
        await running.create_streams(path)
    for number in range(100):
        await running.subscribe(f"s{number}", type="pull-wake")
    await running.run(append(A, b"1", JSON))
    await running.run(TakeNews(*store.subscriptions.to_take(10)))
    disk.lose_power()
    reopened = open_store(disk)
    reopened.shell = Prompt(reopened)
    again = Running(reopened)
    assert count_woken(again) == 10
    again.service.start()
    await again.until(lambda: count_woken(again) == 100)
    await again.service.stop()


async def test_waking_many_subscriptions_is_retried_after_exception(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(crowd, "_RETRY_SECONDS", 0)
    faults = [RuntimeError("a fault")]
    real = running.store.subscriptions.to_take

    def to_take(limit: int) -> tuple[tuple[str, ...], int | None]:
        if faults:
            raise faults.pop()
        return real(limit)

    monkeypatch.setattr(running.store.subscriptions, "to_take", to_take)
    await running.append_news(A)
    await running.until(lambda: count_woken(running) == MANY)
