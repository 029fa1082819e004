"""Tests of the feed, which applies an append to a crowd of watchers in later records."""

from typing import cast

import pytest

from durable_streams_server.errors import Conflict
from durable_streams_server.protocol.commands import Delete
from durable_streams_server.protocol.state import Appended, Created, Removed
from durable_streams_server.protocol.subscriptions import draft, state
from durable_streams_server.protocol.subscriptions.changes import (
    CursorsMoved,
    News,
    NewsTaken,
    WakeChanged,
)
from durable_streams_server.protocol.subscriptions.commands import (
    Claim,
    Inspect,
    Link,
    TakeNews,
    Unlink,
    Unsubscribe,
)
from durable_streams_server.protocol.subscriptions.state import Subscriptions
from durable_streams_server.protocol.subscriptions.views import View
from tests.protocol.subscriptions.world import JSON, POOL, ROOT, A, B, World
from tests.requests import append, create

IDS = ("s", "t", "u")


@pytest.fixture
def crowd() -> World:
    """Returns a world with three pull-wakes that watch `events/*`. More than two watchers are a crowd."""
    world = World()
    world.subscriptions.crowd = 2
    world.streams(A, B, POOL)
    for id_ in IDS:
        world.subscribe(id_)
    return world


def take_all(world: World, limit: int = 2) -> None:
    """Applies all feed entries to all subscriptions."""
    while len(world.subscriptions.feed):
        ids, last = world.subscriptions.to_take(limit)
        world.do(TakeNews(ids, last))
        if last is not None:
            world.subscriptions.feed.begin_again()


def kinds(world: World, path: str) -> list[type]:
    """Appends to a stream, and returns the types of the record's changes."""
    return [type(change) for change in world.append_to(path).changes]


def inspect(world: World, id_: str) -> View:
    """Returns the view that the owner of a subscription gets."""
    return cast(View, world.decide(Inspect(id_)).outcome)


def test_append_watched_by_many_subscriptions_adds_only_a_feed_entry(crowd: World) -> None:
    assert kinds(crowd, A) == [Appended, News]
    assert all(crowd.subscription(id_).wake is None for id_ in IDS)
    assert crowd.events() == []


def test_append_to_a_stream_unread_by_all_adds_no_feed_entry(crowd: World) -> None:
    crowd.append_to(A)
    assert kinds(crowd, A) == [Appended]
    take_all(crowd)
    assert kinds(crowd, A) == [Appended]


def test_feed_entry_is_applied_to_many_subscriptions_in_slices(crowd: World) -> None:
    crowd.append_to(A, A)
    ids, last = crowd.subscriptions.to_take(2)
    assert (len(ids), last) == (2, None)
    changes = crowd.decide(TakeNews(ids, last)).changes
    assert [type(change) for change in changes] == [
        *[CursorsMoved] * 2,
        *[WakeChanged] * 2,
        Appended,
    ]
    ids, last = crowd.subscriptions.to_take(2)
    assert (len(ids), last) == (1, 1)
    assert crowd.decide(TakeNews(ids, last)).changes[-1] == NewsTaken(1)
    assert len(crowd.subscriptions.feed) == 0
    assert crowd.subscriptions.to_take(2) == ((), None)
    assert all(crowd.due(id_) == {A: 0} for id_ in IDS)
    assert [id_ for id_, *_ in crowd.announced()] == list(IDS)


def test_to_take_returns_the_same_slice_after_begin_again(crowd: World) -> None:
    crowd.append_to(A)
    first = crowd.subscriptions.to_take(2)
    crowd.subscriptions.feed.begin_again()
    assert crowd.subscriptions.to_take(2) == first


def test_command_for_a_subscription_applies_its_feed_entries_first(crowd: World) -> None:
    crowd.append_to(A)
    assert inspect(crowd, "t").streams[0].path == A
    view = crowd.claim("s")
    assert [stream.path for stream in view.streams] == [A]
    crowd.do(crowd.acknowledging((A, crowd.tail(A)), done=True))
    assert crowd.due() == {}
    take_all(crowd)
    assert crowd.due() == {}  # an entry is not applied twice
    assert crowd.due("t") == {A: 0}


def test_append_after_an_ack_of_the_tail_adds_another_feed_entry(crowd: World) -> None:
    crowd.append_to(A)
    take_all(crowd)
    crowd.claim("s")
    crowd.do(crowd.acknowledging((A, crowd.tail(A)), done=True))
    assert kinds(crowd, A) == [Appended, News]
    take_all(crowd)
    assert (crowd.due("s"), crowd.due("t")) == ({A: 2}, {A: 0})
    assert crowd.subscription("t").generation == 1


def test_applied_feed_entry_does_not_undo_an_earlier_ack(crowd: World) -> None:
    crowd.append_to(A)
    crowd.claim("s")
    crowd.append_to(A)
    crowd.do(crowd.acknowledging((A, crowd.tail(A))))
    assert crowd.due() == {}
    take_all(crowd)
    assert crowd.due() == {}


def test_new_subscription_and_new_link_ignore_earlier_feed_entries(crowd: World) -> None:
    crowd.append_to(A)
    crowd.subscribe("new")
    crowd.subscribe("named", streams=["else/x"])
    crowd.do(Link("named", (A,)))
    take_all(crowd)
    assert (crowd.due("new"), crowd.due("named")) == ({}, {})
    crowd.append_to(A)
    take_all(crowd)
    assert (crowd.due("new"), crowd.due("named")) == ({A: 2}, {A: 2})


def test_feed_entry_of_an_unlinked_stream_is_ignored(crowd: World) -> None:
    crowd.subscribe("named", streams=["events/a"])
    crowd.append_to(A)
    crowd.do(Unlink("named", A))
    take_all(crowd)
    assert crowd.due("named") == {}
    with pytest.raises(Conflict):
        crowd.claim("named")


def test_feed_entry_skips_a_deleted_subscription(crowd: World) -> None:
    crowd.append_to(A)
    ids, last = crowd.subscriptions.to_take(2)
    crowd.do(Unsubscribe("s"), TakeNews(ids, last))
    take_all(crowd)
    assert crowd.due("t") == {A: 0}


def test_delete_of_a_stream_with_many_subscriptions_adds_a_feed_entry(crowd: World) -> None:
    crowd.append_to(A)
    take_all(crowd)
    changes = crowd.decide(Delete(A)).changes
    assert [type(change) for change in changes] == [Removed, News]
    take_all(crowd)
    assert all(crowd.due(id_) == {} for id_ in IDS)
    assert all(crowd.subscription(id_).wake is None for id_ in IDS)


def test_recreated_stream_is_unread_from_its_beginning(crowd: World) -> None:
    crowd.append_to(A, A)
    crowd.do(Delete(A))
    changes = crowd.decide(create(A, JSON, b"[1]")).changes
    assert [type(change) for change in changes] == [Created, Appended, News]
    take_all(crowd)
    for id_ in IDS:
        assert crowd.due(id_) == {A: 0}
        assert inspect(crowd, id_).streams[0].acked == crowd.states[A].name(0)


def test_feed_entry_is_applied_even_after_some_subscriptions_are_deleted(crowd: World) -> None:
    crowd.append_to(A)
    crowd.do(Unsubscribe("u"))
    # Two watchers are not a crowd, so the append to B wakes them in its own record.
    crowd.append_to(A, B)
    assert crowd.due("s") == {A: 0, B: 0}
    take_all(crowd)
    assert (crowd.due("s"), crowd.due("t")) == ({A: 0, B: 0}, {A: 0, B: 0})


def test_feed_is_restored_from_its_document(crowd: World) -> None:
    crowd.append_to(A, B)
    document = crowd.subscriptions.document("news")
    assert document is not None
    again = Subscriptions()
    again.restore("news", document)
    assert again.feed.newest == 2
    assert list(again.feed.after(0, ROOT)) == list(crowd.subscriptions.feed.after(0, ROOT))


def test_feed_entry_outside_the_stream_root_waits_for_its_root(crowd: World) -> None:
    crowd.append_to(A)
    crowd.subscriptions.move("/other")
    assert crowd.subscriptions.to_take(9) == ((), None)
    crowd.subscriptions.move(ROOT)
    take_all(crowd)
    assert crowd.due("s") == {A: 0}


def test_wake_events_of_one_feed_slice_share_one_append(crowd: World) -> None:
    crowd.append_to(A)
    changes = crowd.decide(TakeNews(IDS, 1)).changes
    appended = [change for change in changes if isinstance(change, Appended)]
    assert [change.path for change in appended] == [POOL]
    assert len(crowd.announced()) == 3


def test_claim_applies_outstanding_feed_entries_and_begins_a_wake(crowd: World) -> None:
    crowd.append_to(A)
    view = crowd.decide(Claim("u", "w")).outcome
    assert isinstance(view, View)
    assert view.generation == 1
    crowd.do(append(A, b"2", JSON))
    take_all(crowd)
    assert crowd.subscription("u").generation == 1


# -- races and changes of links ---------------------------------------------------


def test_feed_entry_is_kept_until_it_is_applied_to_every_watcher(crowd: World) -> None:
    """The command for the first slice may have been refused, which the caller that applies the second slice does not know."""
    crowd.append_to(A)
    crowd.subscriptions.to_take(2)
    _, last = crowd.subscriptions.to_take(2)
    assert last == 1
    assert crowd.decide(TakeNews((), last)).changes == ()
    take_all(crowd)
    assert all(crowd.due(id_) == {A: 0} for id_ in IDS)


def test_feed_entries_of_two_stream_roots_are_applied_separately(crowd: World) -> None:
    crowd.append_to(A)
    crowd.subscriptions.move("/other")
    crowd.streams("/other/events/x")
    crowd.append_to("/other/events/x")
    crowd.subscriptions.feed.begin_again()
    while crowd.subscriptions.feed.oldest_below("/other") is not None:
        crowd.do(TakeNews(*crowd.subscriptions.to_take(9)))
    assert crowd.subscription().due == {
        "/other/events/x": crowd.subscription("t").due["/other/events/x"]
    }
    crowd.subscriptions.move(ROOT)
    take_all(crowd)
    assert [crowd.due(id_) for id_ in IDS] == [{A: 0}] * 3


def test_pattern_links_a_former_wake_stream_again(crowd: World) -> None:
    for id_ in ("x", "y", "z"):
        crowd.subscribe(id_, streams=["events/w"])
    crowd.subscribe("owner", wake_stream="events/w", pattern="nothing/*")
    w = f"{ROOT}/events/w"
    crowd.streams(w)
    crowd.append_to(w)
    take_all(crowd)
    assert crowd.due("s") == {}  # no pattern links a wake stream
    crowd.do(Unsubscribe("owner"))
    crowd.append_to(w)
    take_all(crowd)
    assert crowd.due("s") == {w: 2}


def test_feed_entry_is_dropped_when_its_stream_becomes_a_wake_stream(crowd: World) -> None:
    crowd.append_to(A)
    crowd.claim("s")
    crowd.subscribe("new", wake_stream="events/a", pattern="nothing/*")
    assert len(crowd.subscriptions.feed) == 0
    assert [crowd.due(id_) for id_ in IDS] == [{}, {}, {}]


def test_explicit_link_keeps_a_feed_entry_when_its_stream_becomes_a_wake_stream(
    crowd: World,
) -> None:
    crowd.subscribe("named", streams=["events/a"])
    crowd.append_to(A)
    crowd.subscribe("new", wake_stream="events/a", pattern="nothing/*")
    assert crowd.due("named") == {A: 0}


def test_one_record_applies_a_bounded_number_of_feed_entries(
    crowd: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(draft, "MAX_TAKEN", 3)
    paths = [f"{ROOT}/events/{number}" for number in range(10)]
    crowd.streams(*paths)
    crowd.append_to(*paths)
    looked_at = [len(inspect(crowd, "s").streams)]
    for _ in range(4):
        crowd.do(TakeNews(("s",), None))
        looked_at.append(len(crowd.due("s")))
    assert looked_at == [3, 3, 6, 9, 10]
    take_all(crowd)
    assert len(crowd.due("u")) == 10


def test_older_feed_entry_is_applied_before_a_newer_append(
    crowd: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(draft, "MAX_TAKEN", 1)
    crowd.append_to(B, A)
    crowd.do(Unsubscribe("u"))
    crowd.subscriptions.feed.covered.clear()
    # Two watchers are not a crowd, so this append adds a cursor at once. A's older append is the second entry of the feed.
    crowd.append_to(A)
    assert crowd.due("s") == {B: 0, A: 0}


def test_to_take_checks_a_bounded_number_of_subscriptions(
    crowd: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(state, "_LOOKED_AT", 2)
    crowd.append_to(A)
    crowd.do(TakeNews(IDS, None))
    assert crowd.subscriptions.to_take(5) == ((), None)
    assert crowd.subscriptions.to_take(5) == ((), 1)
