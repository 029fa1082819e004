"""What an append means for those who watch: one record with its cursors, its wakes and their events."""

import pytest

from durable_streams_server.protocol.commands import Delete, Expire
from durable_streams_server.protocol.decide import Rules
from durable_streams_server.protocol.lifetime import Lifetime
from durable_streams_server.protocol.offsets import parse
from durable_streams_server.protocol.registry import Registry
from durable_streams_server.protocol.state import Appended, Created, Removed, SoftDeleted
from durable_streams_server.protocol.subscriptions.changes import (
    CursorsMoved,
    Wake,
    WakeChanged,
)
from durable_streams_server.protocol.subscriptions.commands import Link, Unlink, Unsubscribe
from tests.protocol.subscriptions.world import (
    JSON,
    LEASE,
    OPENING,
    POOL,
    ROOT,
    A,
    B,
    C,
    World,
)
from tests.requests import NOW, SECOND, append, create, fork_of

OTHER = f"{ROOT}/wake/other"


@pytest.fixture
def world() -> World:
    made = World()
    made.streams(POOL, A, B)
    return made


# -- one record -------------------------------------------------------------


def test_an_append_its_cursor_its_wake_and_its_event_are_one_record(world: World) -> None:
    world.subscribe()
    tail = world.tail(A)
    changes = world.news(A).changes
    assert [type(change) for change in changes] == [Appended, CursorsMoved, WakeChanged, Appended]
    incarnation = world.subscription().incarnation
    assert changes[1] == CursorsMoved("s", ((A, parse(tail)),))
    assert changes[2] == WakeChanged("s", 1, Wake(f"w_{incarnation:x}_1_{OPENING}", begun_at=NOW))
    assert world.events() == [
        {
            "type": "wake",
            "subscription_id": "s",
            "stream": "events/a",
            "generation": 1,
            "ts": NOW // 1000,
        }
    ]


def test_a_webhooks_wake_is_due_at_once_and_has_no_event(world: World) -> None:
    world.subscribe(type="webhook")
    assert [type(change) for change in world.news(A).changes] == [
        Appended,
        CursorsMoved,
        WakeChanged,
    ]
    assert world.wake().next_attempt == NOW


def test_what_nobody_watches_adds_nothing(world: World) -> None:
    world.subscribe(pattern="elsewhere/*")
    assert [type(change) for change in world.news(A).changes] == [Appended]
    assert world.due() == {}


def test_an_append_to_what_has_news_already_adds_nothing(world: World) -> None:
    world.subscribe()
    world.news(A)
    assert [type(change) for change in world.news(A).changes] == [Appended]
    assert world.due() == {A: 0}


def test_news_in_another_stream_moves_its_cursor_and_wakes_nobody_again(world: World) -> None:
    world.subscribe()
    world.news(A)
    assert [type(change) for change in world.news(B).changes] == [Appended, CursorsMoved]
    assert world.subscription().generation == 1
    assert world.due() == {A: 0, B: 0}


def test_a_held_wake_is_not_followed_by_another(world: World) -> None:
    world.subscribe()
    world.news(A)
    world.claim()
    world.news(A, B)
    assert world.subscription().generation == 1
    assert len(world.events()) == 1


def test_an_append_without_bytes_is_no_news(world: World) -> None:
    world.subscribe()
    assert len(world.decide(append(A, closes=True)).changes) == 1
    assert world.subscription().wake is None


def test_bytes_that_close_are_news(world: World) -> None:
    world.subscribe()
    world.do(append(A, b"1", JSON, closes=True))
    assert world.due() == {A: 0}


def test_one_append_wakes_all_who_watch(world: World) -> None:
    world.subscribe("s")
    world.subscribe("t", streams=["events/a"])
    world.subscribe("u", type="webhook", pattern="**")
    world.subscribe("v", pattern="events/b")
    world.news(A)
    assert [world.due(id_) for id_ in "stuv"] == [{A: 0}, {A: 0}, {A: 0}, {}]
    assert sorted(world.announced()) == [("s", "events/a", 1), ("t", "events/a", 1)]


# -- links ------------------------------------------------------------------


def test_streams_that_are_there_are_linked_at_their_tail(world: World) -> None:
    world.news(A)
    tail = world.states[A].tail
    world.subscribe(streams=["events/b"], pattern="events/*")
    assert world.subscription().wake is None
    assert world.due() == {}
    world.news(A)
    assert world.due() == {A: tail}


def test_a_stream_that_comes_later_is_linked_at_its_start(world: World) -> None:
    world.subscribe(pattern="events/*", streams=["else/x"])
    path = f"{ROOT}/else/x"
    assert [type(change) for change in world.decide(create(C, JSON)).changes] == [Created]
    world.do(create(path, JSON, b"[1,2]"))
    world.news(C)
    assert world.due() == {path: 0, C: 0}
    assert world.announced() == [("s", "else/x", 1)]


def test_a_link_begins_at_the_tail(world: World) -> None:
    world.subscribe(streams=["events/b"])
    world.news(A)
    world.do(Link("s", (A, B)))
    assert world.due() == {}
    world.news(A)
    assert world.due() == {A: 2}


def test_a_fork_is_linked_at_its_fork_point(world: World) -> None:
    world.subscribe(pattern="forks/*")
    fork = f"{ROOT}/forks/f"
    world.do(append(A, b"[1,2]", JSON), create(fork, None, fork=fork_of(A)))
    assert world.due() == {}
    world.news(fork)
    assert world.due() == {fork: 4}
    cursor = world.subscription().due[fork]
    assert cursor.incarnation == world.states[A].incarnation  # whose name the fork point keeps


def test_a_fork_with_a_body_has_news(world: World) -> None:
    world.subscribe(pattern="forks/*")
    fork = f"{ROOT}/forks/f"
    world.do(append(A, b"[1,2]", JSON), create(fork, JSON, b"3", fork=fork_of(A)))
    assert world.due() == {fork: 4}


def test_deletion_ends_the_news_and_a_wake_that_nobody_has_taken(world: World) -> None:
    world.subscribe()
    world.news(A)
    changes = world.decide(Delete(A)).changes
    assert [type(change) for change in changes] == [Removed, CursorsMoved, WakeChanged]
    assert world.subscription().wake is None
    assert world.subscription().generation == 1
    world.streams(A)
    world.news(A)
    assert world.subscription().generation == 2
    assert world.subscription().due[A] == parse(world.states[A].name(0))


def test_deletion_leaves_a_wake_that_has_other_news_or_a_holder(world: World) -> None:
    world.subscribe()
    world.news(A, B)
    world.do(Delete(A))
    assert world.due() == {B: 0}
    assert world.wake()
    world.claim()
    world.do(Delete(B))
    assert world.due() == {}
    assert world.wake().holder == "w"


def test_a_soft_deleted_stream_has_no_news(world: World) -> None:
    world.subscribe()
    world.news(A)
    world.do(create(f"{ROOT}/f", None, fork=fork_of(A)))
    changes = world.decide(Delete(A)).changes
    assert [type(change) for change in changes] == [SoftDeleted, CursorsMoved, WakeChanged]
    world.do(Delete(f"{ROOT}/f"))  # takes its source with it
    assert world.subscription().wake is None


def test_expiry_ends_news_as_deletion_does(world: World) -> None:
    world.subscribe()
    world.do(create(C, JSON, b"1", lifetime=Lifetime(ttl=5)))
    world.forward(6 * SECOND)
    world.do(Expire(C, world.states[C].incarnation))
    assert world.due() == {}
    assert world.subscription().wake is None


def test_an_expired_stream_made_again_with_news_is_another_wake(world: World) -> None:
    world.subscribe()
    world.do(create(C, JSON, b"1", lifetime=Lifetime(ttl=5)))
    world.forward(6 * SECOND)
    changes = world.decide(create(C, JSON, b"[1,2]")).changes
    assert [type(change) for change in changes[:3]] == [Removed, Created, Appended]
    assert world.subscription().due[C] == parse(world.states[C].name(0))
    assert world.subscription().generation == 2
    assert world.announced() == [("s", "events/c", 1), ("s", "events/c", 2)]


def test_unlinking_ends_the_news_unless_the_pattern_still_matches(world: World) -> None:
    world.subscribe("s", streams=["events/a"])
    world.subscribe("t", streams=["events/a"], pattern="events/*")
    world.news(A)
    world.do(Unlink("s", A), Unlink("t", A))
    assert (world.due("s"), world.due("t")) == ({}, {A: 0})
    assert world.subscription("s").wake is None
    assert world.wake("t")
    world.news(A)
    assert world.subscription("s").wake is None


# -- wake streams -----------------------------------------------------------


def test_a_wake_without_its_stream_is_still_a_wake(world: World) -> None:
    world.subscribe(wake_stream="wake/other")
    world.news(A)
    assert world.wake().wake_id
    assert world.claim().generation == 1


def test_a_wake_stream_that_comes_later_is_told_of_the_wake_in_flight(world: World) -> None:
    world.subscribe(wake_stream="wake/other")
    world.news(A)
    changes = world.decide(create(OTHER, JSON)).changes
    assert [type(change) for change in changes] == [Created, Appended]
    assert world.announced(OTHER) == [("s", "events/a", 1)]


def test_a_wake_stream_that_comes_with_a_body_is_told_after_it(world: World) -> None:
    world.subscribe(wake_stream="wake/other")
    world.news(A)
    world.do(create(OTHER, JSON, b'{"own":1}'))
    first, second = world.events(OTHER)
    assert (first, second["generation"]) == ({"own": 1}, 1)


def test_a_forked_wake_stream_is_told_past_its_fork_point(world: World) -> None:
    world.subscribe(wake_stream="wake/other")
    world.do(append(POOL, b"[1,2,3]", JSON))
    world.news(A)
    world.do(create(OTHER, None, fork=fork_of(POOL)))
    assert world.announced(OTHER) == [("s", "events/a", 1)]


def test_a_new_wake_stream_is_not_told_of_a_held_wake(world: World) -> None:
    world.subscribe(wake_stream="wake/other")
    world.news(A)
    world.claim()
    assert len(world.decide(create(OTHER, JSON)).changes) == 1


@pytest.mark.parametrize("media", ["text/plain", "application/octet-stream"])
def test_a_wake_stream_that_is_not_json_is_told_nothing(world: World, media: str) -> None:
    world.subscribe(wake_stream="wake/other")
    world.do(create(OTHER, media))
    world.news(A)
    assert world.wake()
    assert world.states[OTHER].tail == 0


def test_a_wake_stream_that_is_closed_deleted_or_expired_is_told_nothing(world: World) -> None:
    world.subscribe("s", wake_stream="wake/closed")
    world.subscribe("t", wake_stream="wake/soft")
    world.subscribe("u", wake_stream="wake/mortal")
    world.streams(f"{ROOT}/wake/closed", f"{ROOT}/wake/soft")
    world.do(
        append(f"{ROOT}/wake/closed", closes=True),
        create(f"{ROOT}/fork", None, fork=fork_of(f"{ROOT}/wake/soft")),
        Delete(f"{ROOT}/wake/soft"),
        create(f"{ROOT}/wake/mortal", JSON, lifetime=Lifetime(ttl=5)),
    )
    world.forward(6 * SECOND)
    changes = world.news(A).changes
    assert sum(isinstance(change, Appended) for change in changes) == 1
    assert all(world.wake(id_) for id_ in "stu")


def test_a_wake_stream_is_told_nothing_by_the_record_that_ends_it(world: World) -> None:
    world.subscribe("s", wake_stream="wake/other", streams=["events/a"])
    world.do(create(OTHER, JSON))
    world.subscribe("t", pattern="wake/*", wake_stream="wake/pool")  # `wake/other` is not linked
    world.subscribe("u", streams=["wake/other"])
    world.do(append(OTHER, b"1", JSON, closes=True))
    assert world.due("u") == {OTHER: 0}
    world.news(A)
    assert world.events(OTHER) == [1]


def test_no_pattern_links_a_wake_stream_but_a_name_does(world: World) -> None:
    world.subscribe("s")
    world.subscribe("t", pattern="**", wake_stream="wake/other")
    world.subscribe("u", type="webhook", streams=["wake/pool"])
    world.news(A)
    assert world.due("t") == {A: 0}
    assert world.due("u") == {POOL: 0}


def test_a_stream_that_becomes_a_wake_stream_has_no_news_for_patterns_any_more(
    world: World,
) -> None:
    world.subscribe("s", type="webhook", pattern="**")
    world.subscribe("t", type="webhook", streams=["wake/pool"])
    world.news(POOL)
    assert world.wake("s")
    world.subscribe("u")
    assert (world.due("s"), world.due("t")) == ({}, {POOL: 0})
    assert world.subscription("s").wake is None
    world.do(Unsubscribe("u"))
    tail = world.states[POOL].tail
    world.news(POOL)
    assert world.due("s") == {POOL: tail}


def test_one_record_holds_all_events_of_a_chain_of_wake_streams(world: World) -> None:
    world.subscribe("s")
    world.streams(OTHER, f"{ROOT}/wake/third")
    world.subscribe("t", streams=["wake/pool"], wake_stream="wake/other")
    world.subscribe("u", streams=["wake/other"], wake_stream="wake/third")
    world.news(A)
    assert world.announced(POOL) == [("s", "events/a", 1)]
    assert world.announced(OTHER) == [("t", "wake/pool", 1)]
    assert world.announced(f"{ROOT}/wake/third") == [("u", "wake/other", 1)]


def test_loops_between_wake_streams_end(world: World) -> None:
    world.streams(OTHER)
    world.subscribe("s", streams=["wake/other", "events/a"])
    world.subscribe("t", streams=["wake/pool"], wake_stream="wake/other")
    world.news(A)
    assert (world.due("s"), world.due("t")) == ({A: 0, OTHER: 0}, {POOL: 0})
    assert (len(world.events(POOL)), len(world.events(OTHER))) == (1, 1)


def test_a_wake_that_follows_an_ack_is_announced_once_to_those_who_watch(world: World) -> None:
    world.streams(OTHER)
    world.subscribe("s")
    world.subscribe("t", streams=["wake/pool"], wake_stream="wake/other")
    world.news(A)
    world.claim("t")
    world.do(world.acknowledging((POOL, world.tail(POOL)), id_="t", done=True))
    world.claim("s")
    world.do(world.acknowledging(id_="s", done=True))  # nothing is acked, so another wake begins
    assert world.announced(POOL) == [("s", "events/a", 1), ("s", "events/a", 2)]
    assert world.announced(OTHER) == [("t", "wake/pool", 1), ("t", "wake/pool", 2)]
    assert world.subscription("t").generation == 2


def test_the_registrys_events_are_watched_like_any_other() -> None:
    path = f"{ROOT}/registry"
    world = World(Rules(registry=Registry(path)))
    world.streams(POOL)
    world.subscribe(streams=["registry"])
    tail = world.states[path].tail
    world.streams(A)
    assert world.due() == {path: tail}
    assert world.announced() == [("s", "registry", 1)]


def test_the_registry_may_be_made_by_the_record_that_wakes() -> None:
    path = f"{ROOT}/registry"
    world = World(Rules(registry=Registry(path)))
    world.subscribe(streams=["registry"])
    changes = world.decide(create(A, JSON)).changes
    assert [type(c) for c in changes] == [Created, Created, Appended, CursorsMoved, WakeChanged]
    assert world.due() == {path: 0}


def test_an_append_after_the_end_of_a_lease_waits_for_the_lapse(world: World) -> None:
    world.subscribe()
    world.news(A)
    world.claim()
    world.forward(LEASE + 1)
    world.news(B)
    assert (world.subscription().generation, world.wake().holder) == (1, "w")
