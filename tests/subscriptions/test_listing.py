"""Tests that the listing of a subscription finds all linked streams without blocking the event loop."""

import asyncio
from collections.abc import Iterator
from typing import cast

import pytest

from durable_streams_server.errors import StreamError
from durable_streams_server.protocol.commands import Delete
from durable_streams_server.protocol.state import StreamState
from durable_streams_server.protocol.subscriptions import views
from durable_streams_server.protocol.subscriptions.changes import LinkedStream
from durable_streams_server.protocol.subscriptions.commands import Inspect
from durable_streams_server.protocol.subscriptions.views import View
from durable_streams_server.storage.memory import MemoryStore
from durable_streams_server.storage.store import Store
from durable_streams_server.storage.ticket import Ticket
from durable_streams_server.streams.turns import Turns
from durable_streams_server.subscriptions import listing
from durable_streams_server.subscriptions.listing import Listing
from tests.protocol.subscriptions.world import JSON, ROOT, A, B, C, subscribe
from tests.requests import NOW, append, create, fork_of
from tests.storage.contract_base import settled
from tests.subscriptions.services import run_turns

Listed = tuple[list[LinkedStream], bool]


def view(store: Store, id_: str = "s") -> View:
    return cast(View, store.execute(Inspect(id_), NOW).result())


async def list_streams(store: Store, id_: str = "s") -> Listed:
    async with asyncio.timeout(5):
        return await settled(Listing(store, view(store, id_), Turns()).ticket)


def paths(found: Listed) -> list[str]:
    return [stream.path for stream in found[0]]


def with_streams(store: Store, *names: str) -> Store:
    """Creates streams in a store, and returns the store."""
    for path in names:
        store.execute(create(path, JSON), NOW).result()
    return store


async def test_listing_contains_explicit_and_matching_streams_sorted_by_path() -> None:
    store = with_streams(MemoryStore(), C, B, A, f"{ROOT}/else/x", "/v1/other/events/a")
    store.execute(subscribe(streams=["zz/absent", "events/b"], pattern="events/*"), NOW)
    store.execute(append(A, b"1", JSON), NOW)
    found = await list_streams(store)
    assert paths(found) == [A, B, C, f"{ROOT}/zz/absent"]
    assert [stream.explicit for stream in found[0]] == [False, True, False, True]
    assert [stream.acked == stream.tail for stream in found[0]] == [False, True, True, True]
    assert found[1] is False


async def test_wake_streams_and_deleted_streams_are_not_listed() -> None:
    store = with_streams(MemoryStore(), A, B, f"{ROOT}/wake/pool")
    store.execute(subscribe("s", pattern="**"), NOW)
    store.execute(create(f"{ROOT}/fork", None, fork=fork_of(A)), NOW)
    store.execute(Delete(A), NOW)
    store.execute(Delete(B), NOW)
    assert paths(await list_streams(store)) == [f"{ROOT}/fork"]


async def test_other_work_runs_while_long_stream_list_is_built(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(listing, "_SLICE", 10)
    monkeypatch.setattr(listing, "_LOOKED_UP", 5)
    names = [f"{ROOT}/events/{number:03d}" for number in range(95)]
    store = with_streams(MemoryStore(), *names)
    store.execute(subscribe(), NOW)
    ticket = Listing(store, view(store), Turns(share=0)).ticket
    turns = 0
    while not ticket.done:
        store.execute(create(f"{ROOT}/events/new{turns}"), NOW)
        await asyncio.sleep(0)
        turns += 1
    assert turns >= 19
    assert set(names) <= set(paths(ticket.result()))


async def test_listing_past_the_limit_is_marked_as_truncated(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(listing, "MAX_LISTED", 3)
    store = with_streams(MemoryStore(), *(f"{ROOT}/events/{number}" for number in range(3)))
    store.execute(subscribe(), NOW)
    found = await list_streams(store)
    assert (len(found[0]), found[1]) == (3, False)
    with_streams(store, f"{ROOT}/events/3")
    found = await list_streams(store)
    assert (len(found[0]), found[1]) == (3, True)


@pytest.mark.parametrize("pattern", [None, "events/*"])
async def test_listing_with_too_many_explicit_links_is_marked_as_truncated(
    monkeypatch: pytest.MonkeyPatch, pattern: str | None
) -> None:
    monkeypatch.setattr(views, "MAX_LISTED", 3)
    store = MemoryStore()
    store.execute(subscribe("s", streams=["a", "b", "c"], pattern=pattern), NOW)
    store.execute(subscribe("t", streams=["a", "b", "c", "d"], pattern=pattern), NOW)
    assert [(await list_streams(store, id_))[1] for id_ in "st"] == [False, True]


class SlowStore(MemoryStore):
    """A store that finds no stream until the test calls `load`."""

    def __init__(self) -> None:
        super().__init__()
        self.waiting: list[Ticket[StreamState | None]] = []
        self.paths_fail = False

    def find(self, path: str) -> Ticket[StreamState | None]:
        ticket: Ticket[StreamState | None] = Ticket()
        self.waiting.append(ticket)
        return ticket

    def paths(self) -> Iterator[str]:
        yield from super().paths()
        if self.paths_fail:
            raise StreamError("the catalog cannot be read")

    def load(self) -> None:
        states = [MemoryStore.find(self, path) for path in super().paths()]
        for ticket, state in zip(self.waiting, states, strict=True):
            ticket.resolve(state.result())


async def test_listing_waits_for_streams_to_be_loaded() -> None:
    store = SlowStore()
    with_streams(store, A, B)
    store.execute(subscribe(), NOW)
    ticket = Listing(store, view(store), Turns()).ticket
    await run_turns()
    assert not ticket.done
    store.load()
    assert paths(await settled(ticket)) == [A, B]


async def test_listing_shows_append_made_meanwhile_as_unacknowledged() -> None:
    store = SlowStore()
    with_streams(store, A)
    store.execute(subscribe(), NOW)
    ticket = Listing(store, view(store), Turns()).ticket
    await run_turns(1)
    store.execute(append(A, b"1", JSON), NOW)
    store.load()
    (stream,), _ = await settled(ticket)
    assert (stream.acked[-2:], stream.tail[-2:]) == ("00", "02")


async def test_listing_omits_a_damaged_stream() -> None:
    store = SlowStore()
    with_streams(store, A, B)
    store.execute(subscribe(), NOW)
    ticket = Listing(store, view(store), Turns()).ticket
    await run_turns(1)
    store.waiting[0].fail(StreamError("damaged"))
    store.waiting[1].resolve(MemoryStore.find(store, B).result())
    assert paths(await settled(ticket)) == [B]


async def test_listing_fails_if_the_paths_cannot_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing, "_SLICE", 1)
    store = SlowStore()
    with_streams(store, f"{ROOT}/x", f"{ROOT}/y")
    store.execute(subscribe(), NOW)
    store.paths_fail = True
    with pytest.raises(StreamError, match="catalog"):
        await list_streams(store)
