"""Passes through all paths give full subscriptions the streams that they have missed: a few at a time, and none forgotten."""

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest

from durable_streams_server.errors import Unavailable
from durable_streams_server.protocol.commands import Command
from durable_streams_server.protocol.decide import Outcome
from durable_streams_server.protocol.subscriptions.commands import Claim, Recall, Unsubscribe
from durable_streams_server.protocol.subscriptions.decide import RecallOutcome
from durable_streams_server.storage.memory import MemoryStore
from durable_streams_server.storage.ticket import Ticket
from durable_streams_server.subscriptions import recall
from tests.protocol.subscriptions.world import POOL, ROOT
from tests.storage.files.stores import new_disk, open_store
from tests.storage.files.test_store import Prompt
from tests.subscriptions.services import Running

MANY = 60
PATHS = [f"{ROOT}/events/{number:03d}" for number in range(MANY)]
LIMIT = 10


class Watched(MemoryStore):
    """A store that counts passes and their steps, and has no room or cannot list its paths at times."""

    def __init__(self) -> None:
        super().__init__()
        self.full = False
        self.paths_fail = False
        self.listings = 0
        self.largest = 0

    def execute(self, command: Command, now: int) -> Ticket[Outcome]:
        if isinstance(command, Recall):
            self.largest = max(self.largest, len(command.paths))
            if self.full:
                return Ticket.failed(Unavailable("no room"))
        return super().execute(command, now)

    def paths(self) -> Iterator[str]:
        self.listings += 1
        yield from super().paths()
        if self.paths_fail:
            raise OSError("the catalog cannot be read")


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recall, "_AGAIN", 0.001)
    monkeypatch.setattr(recall, "_DAMAGED", 0.001)
    monkeypatch.setattr(recall, "_SLICE", 7)


@pytest.fixture
async def running() -> AsyncIterator[Running]:
    made = Running(Watched())
    await filled(made)
    made.start()
    yield made
    await made.stop()


async def filled(made: Running, *ids: str) -> None:
    """Gives subscriptions news of more streams than they have room for."""
    made.store.subscriptions.max_due = LIMIT
    await made.create_streams(*PATHS, POOL)
    for id_ in ids or ("s",):
        await made.subscribe(id_, type="pull-wake")
    for path in PATHS:
        made.clock.forward(0.001)
        await made.append_news(path)
    assert all(len(each.due) == LIMIT and each.missed for each in made.store.subscriptions)


async def work(running: Running, id_: str = "s") -> set[str]:
    """A worker works through all that it is told of, if there is anything."""
    subscription = running.store.subscriptions.get(id_)
    assert subscription is not None
    if subscription.wake is None:
        return set()
    view = await running.run(Claim(id_, "w"))
    from durable_streams_server.protocol.offsets import parse
    from durable_streams_server.protocol.subscriptions.commands import Acknowledge

    acks = tuple((stream.path, parse(stream.tail)) for stream in view.streams)
    await running.run(Acknowledge(view.grant, view.generation, view.wake.wake_id, acks, done=True))
    return {stream.path for stream in view.streams}


async def drain(running: Running, id_: str = "s") -> set[str]:
    """Works until nothing is missed and nothing is new; returns what was told of."""
    told: set[str] = set()
    async with asyncio.timeout(10):
        while True:
            told |= await work(running, id_)
            await asyncio.sleep(0.001)
            subscription = running.store.subscriptions.get(id_)
            assert subscription is not None
            assert len(subscription.due) <= LIMIT
            if not subscription.missed and not subscription.due:
                return told


async def test_every_missed_stream_is_told_of(running: Running) -> None:
    assert await drain(running) == set(PATHS)
    assert isinstance(running.store, Watched)
    assert running.store.listings == 1  # one pass, which has waited for room
    assert 0 < running.store.largest <= recall._AT_ONCE
    assert running.store.subscriptions.kept == 0


async def test_pass_waits_until_half_of_the_room_is_free(running: Running) -> None:
    assert isinstance(running.store, Watched)
    await running.settle()
    assert running.store.listings == 0
    await work(running)
    await running.until(lambda: running.store.subscriptions.kept > 0)
    for _ in range(5):
        await running.settle()
    assert running.store.subscriptions.kept == LIMIT // 2


async def test_streams_missed_during_a_pass_are_found_by_the_next(running: Running) -> None:
    assert isinstance(running.store, Watched)
    await work(running)
    await running.until(lambda: running.store.subscriptions.kept == LIMIT // 2)
    late = [f"{ROOT}/events/late{number}" for number in range(LIMIT)]
    for path in late:  # none of which the list of paths has
        running.clock.forward(0.001)
        await running.create_streams(path)
        await running.append_news(path)
    assert await drain(running) >= {*late, *PATHS[-LIMIT:]}
    assert running.store.listings == 2


async def test_store_without_room_is_asked_again(running: Running) -> None:
    assert isinstance(running.store, Watched)
    running.store.full = True
    await work(running)
    await asyncio.sleep(0.01)
    running.store.full = False
    assert await drain(running) >= set(PATHS[LIMIT:])


async def test_pass_that_cannot_list_paths_begins_anew(running: Running) -> None:
    assert isinstance(running.store, Watched)
    running.store.paths_fail = True
    await work(running)
    async with asyncio.timeout(5):
        while running.store.listings < 2:
            await work(running)
            await asyncio.sleep(0.001)
    assert running.store.subscriptions.by_id["s"].missed
    running.store.paths_fail = False
    assert await drain(running) >= set(PATHS[LIMIT:])


async def test_subscription_that_ends_takes_its_pass_along(running: Running) -> None:
    await work(running)
    await running.until(lambda: running.store.subscriptions.kept == LIMIT // 2)
    await running.run(Unsubscribe("s"))
    assert running.service._recalls._passes == {}
    await filled_again(running)


async def filled_again(running: Running) -> None:
    await running.subscribe("s", type="pull-wake")
    for path in PATHS:
        running.clock.forward(0.001)
        await running.append_news(path)
    assert await drain(running) == set(PATHS)


async def test_pass_without_room_for_long_gives_its_place_to_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(recall, "_PASSES", 1)
    monkeypatch.setattr(recall, "_PATIENCE", 50_000)
    made = Running(Watched())
    await filled(made, "away", "s")
    made.start()
    await work(made, "away")
    await made.until(lambda: len(made.store.subscriptions.by_id["away"].due) == LIMIT // 2)
    await work(made)
    await made.settle()
    assert made.store.subscriptions.by_id["s"].due == {}  # it waits for a place
    made.clock.forward(1)
    await asyncio.sleep(0.06)
    assert await drain(made) >= set(PATHS[LIMIT:])
    assert await drain(made, "away") >= set(PATHS[LIMIT:])
    await made.stop()


async def test_start_begins_the_pass_anew() -> None:
    disk = new_disk()
    store = open_store(disk)
    store.shell = Prompt(store)
    running = Running(store)
    await filled(running)
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
