"""Tests of the cursors and wakes that a record adds for the watchers of its streams."""

from durable_streams_server.protocol.commands import Delete, Expire
from durable_streams_server.protocol.decisions.rules import Rules
from durable_streams_server.protocol.lifetime import Lifetime
from durable_streams_server.protocol.offsets import parse
from durable_streams_server.protocol.registry import Registry
from durable_streams_server.protocol.state import Appended, Created, Removed, SoftDeleted
from durable_streams_server.protocol.subscriptions.changes import CursorsMoved, Wake, WakeChanged
from durable_streams_server.protocol.subscriptions.commands import Link, Unlink
from tests.protocol.subscriptions.world import JSON, LEASE, OPENING, POOL, ROOT, A, B, C, World
from tests.requests import NOW, SECOND, append, create, fork_of


def test_append_and_the_wake_that_it_causes_share_one_record(world: World) -> None:
    world.subscribe()
    tail = world.tail(A)
    changes = world.append_to(A).changes
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


def test_webhook_wake_is_due_at_once_and_has_no_event(world: World) -> None:
    world.subscribe(type="webhook")
    assert [type(change) for change in world.append_to(A).changes] == [
        Appended,
        CursorsMoved,
        WakeChanged,
    ]
    assert world.wake().next_attempt == NOW


def test_append_to_unwatched_stream_adds_no_subscription_change(world: World) -> None:
    world.subscribe(pattern="elsewhere/*")
    assert [type(change) for change in world.append_to(A).changes] == [Appended]
    assert world.due() == {}


def test_append_to_unread_stream_adds_no_subscription_change(world: World) -> None:
    world.subscribe()
    world.append_to(A)
    assert [type(change) for change in world.append_to(A).changes] == [Appended]
    assert world.due() == {A: 0}


def test_append_to_second_stream_adds_a_cursor_and_no_wake(world: World) -> None:
    world.subscribe()
    world.append_to(A)
    assert [type(change) for change in world.append_to(B).changes] == [Appended, CursorsMoved]
    assert world.subscription().generation == 1
    assert world.due() == {A: 0, B: 0}


def test_append_during_a_claimed_wake_begins_no_other_wake(world: World) -> None:
    world.subscribe()
    world.append_to(A)
    world.claim()
    world.append_to(A, B)
    assert world.subscription().generation == 1
    assert len(world.events()) == 1


def test_close_without_data_wakes_no_subscription(world: World) -> None:
    world.subscribe()
    assert len(world.decide(append(A, closes=True)).changes) == 1
    assert world.subscription().wake is None


def test_close_with_data_adds_a_cursor(world: World) -> None:
    world.subscribe()
    world.do(append(A, b"1", JSON, closes=True))
    assert world.due() == {A: 0}


def test_append_wakes_every_subscription_of_its_stream(world: World) -> None:
    world.subscribe("s")
    world.subscribe("t", streams=["events/a"])
    world.subscribe("u", type="webhook", pattern="**")
    world.subscribe("v", pattern="events/b")
    world.append_to(A)
    assert [world.due(id_) for id_ in "stuv"] == [{A: 0}, {A: 0}, {A: 0}, {}]
    assert sorted(world.announced()) == [("s", "events/a", 1), ("t", "events/a", 1)]


def test_existing_stream_is_linked_at_its_tail(world: World) -> None:
    world.append_to(A)
    tail = world.states[A].tail
    world.subscribe(streams=["events/b"], pattern="events/*")
    assert world.subscription().wake is None
    assert world.due() == {}
    world.append_to(A)
    assert world.due() == {A: tail}


def test_stream_created_after_its_link_is_unread_from_its_start(world: World) -> None:
    world.subscribe(pattern="events/*", streams=["else/x"])
    path = f"{ROOT}/else/x"
    assert [type(change) for change in world.decide(create(C, JSON)).changes] == [Created]
    world.do(create(path, JSON, b"[1,2]"))
    world.append_to(C)
    assert world.due() == {path: 0, C: 0}
    assert world.announced() == [("s", "else/x", 1)]


def test_added_link_begins_at_the_tail(world: World) -> None:
    world.subscribe(streams=["events/b"])
    world.append_to(A)
    world.do(Link("s", (A, B)))
    assert world.due() == {}
    world.append_to(A)
    assert world.due() == {A: 2}


def test_fork_is_linked_at_its_fork_point(world: World) -> None:
    world.subscribe(pattern="forks/*")
    fork = f"{ROOT}/forks/f"
    world.do(append(A, b"[1,2]", JSON), create(fork, None, fork=fork_of(A)))
    assert world.due() == {}
    world.append_to(fork)
    assert world.due() == {fork: 4}
    cursor = world.subscription().due[fork]
    # The offset of the fork point has the source's incarnation.
    assert cursor.incarnation == world.states[A].incarnation


def test_fork_created_with_a_body_is_unread_from_its_fork_point(world: World) -> None:
    world.subscribe(pattern="forks/*")
    fork = f"{ROOT}/forks/f"
    world.do(append(A, b"[1,2]", JSON), create(fork, JSON, b"3", fork=fork_of(A)))
    assert world.due() == {fork: 4}


def test_delete_drops_the_cursor_and_ends_an_unclaimed_wake(world: World) -> None:
    world.subscribe()
    world.append_to(A)
    changes = world.decide(Delete(A)).changes
    assert [type(change) for change in changes] == [Removed, CursorsMoved, WakeChanged]
    assert world.subscription().wake is None
    assert world.subscription().generation == 1
    world.streams(A)
    world.append_to(A)
    assert world.subscription().generation == 2
    assert world.subscription().due[A] == parse(world.states[A].name(0))


def test_delete_does_not_end_a_claimed_wake_or_one_with_other_streams(world: World) -> None:
    world.subscribe()
    world.append_to(A, B)
    world.do(Delete(A))
    assert world.due() == {B: 0}
    assert world.wake()
    world.claim()
    world.do(Delete(B))
    assert world.due() == {}
    assert world.wake().holder == "w"


def test_soft_delete_of_a_stream_drops_its_cursor(world: World) -> None:
    world.subscribe()
    world.append_to(A)
    world.do(create(f"{ROOT}/f", None, fork=fork_of(A)))
    changes = world.decide(Delete(A)).changes
    assert [type(change) for change in changes] == [SoftDeleted, CursorsMoved, WakeChanged]
    world.do(Delete(f"{ROOT}/f"))  # this removes the source as well
    assert world.subscription().wake is None


def test_expiry_of_a_stream_drops_its_cursor(world: World) -> None:
    world.subscribe()
    world.do(create(C, JSON, b"1", lifetime=Lifetime(ttl=5)))
    world.forward(6 * SECOND)
    world.do(Expire(C, world.states[C].incarnation))
    assert world.due() == {}
    assert world.subscription().wake is None


def test_create_over_an_expired_stream_begins_another_wake(world: World) -> None:
    world.subscribe()
    world.do(create(C, JSON, b"1", lifetime=Lifetime(ttl=5)))
    world.forward(6 * SECOND)
    changes = world.decide(create(C, JSON, b"[1,2]")).changes
    assert [type(change) for change in changes[:3]] == [Removed, Created, Appended]
    assert world.subscription().due[C] == parse(world.states[C].name(0))
    assert world.subscription().generation == 2
    assert world.announced() == [("s", "events/c", 1), ("s", "events/c", 2)]


def test_unlink_drops_the_cursor_unless_the_pattern_matches(world: World) -> None:
    world.subscribe("s", streams=["events/a"])
    world.subscribe("t", streams=["events/a"], pattern="events/*")
    world.append_to(A)
    world.do(Unlink("s", A), Unlink("t", A))
    assert (world.due("s"), world.due("t")) == ({}, {A: 0})
    assert world.subscription("s").wake is None
    assert world.wake("t")
    world.append_to(A)
    assert world.subscription("s").wake is None


def test_registry_event_wakes_watchers_of_the_registry() -> None:
    path = f"{ROOT}/registry"
    world = World(Rules(registry=Registry(path)))
    world.streams(POOL)
    world.subscribe(streams=["registry"])
    tail = world.states[path].tail
    world.streams(A)
    assert world.due() == {path: tail}
    assert world.announced() == [("s", "registry", 1)]


def test_first_registry_event_wakes_watchers_of_the_registry() -> None:
    path = f"{ROOT}/registry"
    world = World(Rules(registry=Registry(path)))
    world.subscribe(streams=["registry"])
    changes = world.decide(create(A, JSON)).changes
    assert [type(c) for c in changes] == [Created, Created, Appended, CursorsMoved, WakeChanged]
    assert world.due() == {path: 0}


def test_append_after_an_ended_lease_does_not_end_the_claimed_wake(world: World) -> None:
    world.subscribe()
    world.append_to(A)
    world.claim()
    world.forward(LEASE + 1)
    world.append_to(B)
    assert (world.subscription().generation, world.wake().holder) == (1, "w")
